import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { fill, valueOf } from '../bench/fill.ts'
import { runStrongroom } from '../cli/run-strongroom.ts'
import { freshGround } from '../ground.ts'
import { temporaryDirectory } from '../leftovers.ts'
import { startVaultServer } from '../providers/hashicorp-vault-server.ts'
import { long, times } from '../repeat.ts'
import { checkTold, ClientLoad, makeWorker, must } from './client-load.ts'
import type { ServiceProcess } from './service-process.ts'
import { initAdministrator, onGround, startService, until } from './service-process.ts'

const COPIES = long ? 400 : 200
const BYTES = 300

t.test('a store migration that two processes share survives the death of either, both ways', async (t) => {
  const ground = await freshGround(t)
  const server = await startVaultServer()
  t.teardown(() => server.close())
  const storesFile = join(temporaryDirectory(t), 'stores.json')
  const limits = { timeout_seconds: 10 }
  writeFileSync(storesFile, JSON.stringify({ stores: { 'team-vault': { ...server.settings, limits } } }))
  const env = onGround(ground, {
    ...server.env,
    STRONGROOM_STORES_FILE: storesFile,
    STRONGROOM_DEADLINE_SECONDS: '20',
  })
  const keys = ground.keys.map((key) => key.reveal())
  const filled = await fill(ground.ownerUrl.reveal(), keys, { callers: 1, credentials: COPIES, bytes: BYTES })
  const admin = await initAdministrator(ground)
  const start = () => startService(t, env)
  const services: [ServiceProcess, ServiceProcess] = await Promise.all([start(), start()])
  const worker = await makeWorker(services[0].adminUrl, admin)
  const place = (path = '') => `${services[chance(2)]!.adminUrl}/v1/admin/store-migrations${path}`
  const route: [string, string] = ['local', 'team-vault']

  let midway = 0

  /** Has something begun, kills one of both at random, and waits for the end. */
  const survive = async (begin: () => Promise<{ id: string }>) => {
    const victim = chance(2)
    const load = new ClientLoad(t, services[1 - victim]!.serviceUrl, worker, {
      leasing: 3,
      writing: 1,
      pauseMs: 10,
    })
    await until('there are leases', 10_000, () => load.told.leases.length > 5)
    const { id } = await begin()
    await sleep(Math.random() * 1000)
    await services[victim]!.end('SIGKILL')
    const [died] = await ground.sql('select state, moved from store_migrations where id = $1', [id])
    t.comment(`${died!.moved} had been moved when it died`)
    if (died!.state === 'running' && died!.moved > 0 && died!.moved < COPIES) midway++
    services[victim] = await start()
    // The grace passes for what the dead one had claimed, and for some of what the living one has.
    await ground.sql(
      `update copies set named_at = now() - interval '2 minutes' where id in (
         select id from copies where state = 'pending' order by id for update skip locked)`,
    )
    const run = () => must('GET', place(`/${id}`), admin)
    await until('the run has ended', 60_000, async () => (await run()).state !== 'running')
    const told = await load.stop()
    const failed = told.answers.filter(({ status }) => status !== 200 && status !== 201)
    t.strictSame(failed, [], 'at the process that lived nothing failed')
    await checkTold(t, ground, services[1 - victim]!, { worker, admin }, told)
    t.strictSame(await changedValues(services[0].serviceUrl, filled.tokens[0]!), [], 'nothing is lost')
    return run()
  }

  for (let round = 1; round <= times(2) && t.passing(); round++) {
    const [from, to] = route
    await t.test(`round ${round}: from ${from} to ${to}`, async (t) => {
      const begin = () => must('POST', place(), admin, { from, to }) as Promise<{ id: string }>
      let done = await survive(begin)
      t.match(done, { state: 'done', failed: 0, failures: [] })
      t.ok(done.moved >= COPIES)
      if (round % 2 === 0) {
        const back = await survive(async () => {
          await must('POST', place(`/${done.id}/rollback`), admin)
          return done as { id: string }
        })
        t.match(back, { state: 'rolled_back', failed: 0 })
        done = await survive(begin)
        t.match(done, { state: 'done', failed: 0 })
      }
      await must('POST', place(`/${done.id}/finalize`), admin)
      await until('it is finalized', 10_000, async () => {
        return (await must('GET', place(`/${done.id}`), admin)).state === 'finalized'
      })
      const left = await ground.sql(
        `select from copies k join credentials c on c.id = k.credential_id
         where k.state = 'source' or k.store = $1 and c.name like 'cred-%' and k.state in ('current', 'kept')`,
        [from],
      )
      t.equal(left.length, 0, 'nothing is left where it was')
    })
    route.reverse()
  }

  if (long) t.ok(midway > 0, `${midway} times it was killed while it had moved some and not all`)

  for (const service of services) await service.end('SIGTERM')
  for (let sweep = 0; sweep < 2; sweep++) {
    await ground.sql(
      `update copies set named_at = named_at - interval '1 hour', dropped_at = dropped_at - interval '1 hour',
         attempted_at = attempted_at - interval '1 hour', deleted_at = deleted_at - interval '1 hour'`,
    )
    const swept = await runStrongroom(['sweep'], env)
    t.equal(swept.code, 0, swept.err)
  }
  const named = await ground.sql(
    "select ref from copies where ref is not null and state in ('current', 'kept')",
  )
  t.strictSame(server.kept().sort(), named.map(({ ref }) => ref).sort(), 'no unknown secret is left')
})

const chance = (of: number): number => Math.floor(Math.random() * of)

/** The filled credentials that are not leased with the value that they were filled with. */
async function changedValues(serviceUrl: string, token: string): Promise<string[]> {
  const changed: string[] = []
  for (let from = 0; from < COPIES; from += 100) {
    const credentials = Array.from({ length: 100 }, (_, index) => `cred-${from + index}`)
    const { results } = await must('POST', `${serviceUrl}/v1/workspaces/acme/leases`, token, { credentials })
    for (const [index, { credential, value }] of results.entries()) {
      if (JSON.stringify(value) !== valueOf(from + index, BYTES)) changed.push(credential)
    }
  }
  return changed
}
