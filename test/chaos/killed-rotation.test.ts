import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { FernetKey } from '../../src/core/fernet.ts'
import { fill, valueOf } from '../bench/fill.ts'
import { freshGround } from '../ground.ts'
import { times } from '../repeat.ts'
import { checkTold, ClientLoad, makeWorker, must } from './client-load.ts'
import type { ServiceProcess } from './service-process.ts'
import { initAdministrator, onGround, refusedStart, startService, until } from './service-process.ts'

const COPIES = 2000
const BYTES = 300

t.test('a rotation that two processes share survives the death of either', async (t) => {
  const fresh = await freshGround(t)
  const [a, b] = [FernetKey.generate(), FernetKey.generate()]
  const ground = { ...fresh, keys: [a.text, b.text] }
  const keys = ground.keys.map((key) => key.reveal())
  const filled = await fill(ground.ownerUrl.reveal(), keys, { callers: 1, credentials: COPIES, bytes: BYTES })
  const admin = await initAdministrator(ground)
  const start = () => startService(t, onGround(ground))
  const services: [ServiceProcess, ServiceProcess] = [await start(), await start()]
  const worker = await makeWorker(services[0].adminUrl, admin)
  let sealing = a.key.id

  for (let round = 1; round <= times(); round++) {
    await t.test(`round ${round}`, async (t) => {
      const loads = services.map(
        ({ serviceUrl }) => new ClientLoad(t, serviceUrl, worker, { leasing: 3, writing: 1 }),
      ) as [ClientLoad, ClientLoad]
      await until('there are leases', 10_000, () => loads.every((load) => load.told.leases.length > 5))
      const victim = Math.random() < 0.5 ? 0 : 1
      const survivor = 1 - victim
      sealing = sealing === a.key.id ? b.key.id : a.key.id
      const asked = services[Math.random() < 0.5 ? 0 : 1]!.adminUrl
      const { id } = await must('POST', `${asked}/v1/admin/rotations`, admin, { to_key: sealing })
      const run = () => must('GET', `${services[survivor]!.adminUrl}/v1/admin/rotations/${id}`, admin)

      await sleep(Math.random() * 1500)
      await services[victim]!.end('SIGKILL')
      const atDeath = await run()
      t.comment(`${atDeath.state}, ${atDeath.moved} of ${atDeath.total} were moved when it died`)
      services[victim] = await start()
      await until('the rotation has ended', 60_000, async () => (await run()).state !== 'running')
      const told = await Promise.all(loads.map((load) => load.stop()))

      const ended = await run()
      t.match(ended, { state: 'done', failed: 0, failures: [] })
      t.ok(ended.moved + ended.skipped >= COPIES)
      const left = await ground.sql(
        'select count(*)::int from copies where token is not null and key_id <> $1',
        [sealing],
      )
      t.strictSame(left, [{ count: 0 }], 'no copy is left under the other key')
      const failed = told[survivor]!.answers.filter(({ status }) => status !== 200 && status !== 201)
      t.strictSame(failed, [], 'at the process that lived nothing failed')
      await checkTold(t, ground, services[survivor]!, { worker, admin }, told[survivor]!)
      await checkTold(t, ground, services[victim]!, { worker, admin }, told[victim]!)
      t.strictSame(await changedValues(services[0].serviceUrl, filled.tokens[0]!), [], 'nothing is lost')
    })
  }

  for (const service of services) await service.end('SIGTERM')
  const [only, other] = sealing === a.key.id ? [a, b] : [b, a]
  t.equal((await refusedStart(t, onGround({ ...ground, keys: [other.text] }))).code, 78)
  const last = await startService(t, onGround({ ...ground, keys: [only.text] }))
  t.strictSame(
    await changedValues(last.serviceUrl, filled.tokens[0]!),
    [],
    'the other key opens nothing any more',
  )
})

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
