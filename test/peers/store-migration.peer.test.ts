import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { fill, valueOf } from '../bench/fill.ts'
import { ClientLoad, makeWorker, must } from '../chaos/client-load.ts'
import { initAdministrator, onGround, startService, until } from '../chaos/service-process.ts'
import { runStrongroom } from '../cli/run-strongroom.ts'
import { freshGround } from '../ground.ts'
import { temporaryDirectory } from '../leftovers.ts'
import { startMoto } from './moto.ts'
import { startOpenBao } from './openbao.ts'

const CREDENTIALS = 2000
const BYTES = 300

t.test('2,000 credentials go from local to OpenBao, to AWS and back, while they are leased', async (t) => {
  const [bao, moto] = [await startOpenBao(), await startMoto()]
  t.teardown(() => Promise.all([bao.close(), moto.close()]))
  await bao.root('POST', 'sys/mounts/secret', { type: 'kv', options: { version: '2' } })
  const home = temporaryDirectory(t)
  const [tokenFile, storesFile] = [join(home, 'token'), join(home, 'stores.json')]
  const made = await bao.root('POST', 'auth/token/create', { policies: ['root'], ttl: '1h' })
  writeFileSync(tokenFile, (made['auth'] as { client_token: string }).client_token, { mode: 0o600 })
  const openbao = {
    provider: 'hashicorp-vault',
    address: bao.address,
    auth: { method: 'token', token_file: tokenFile },
  }
  writeFileSync(storesFile, JSON.stringify({ stores: { openbao, 'aws-eu': moto.settings } }))

  const ground = await freshGround(t)
  const keys = ground.keys.map((key) => key.reveal())
  const sizes = { callers: 1, credentials: CREDENTIALS, bytes: BYTES }
  const { tokens } = await fill(ground.ownerUrl.reveal(), keys, sizes)
  const admin = await initAdministrator(ground)
  const env = onGround(ground, {
    ...moto.env,
    STRONGROOM_STORES_FILE: storesFile,
    STRONGROOM_DEADLINE_SECONDS: '20',
  })
  const service = await startService(t, env)
  const worker = await makeWorker(service.adminUrl, admin)
  const runs = `${service.adminUrl}/v1/admin/store-migrations`
  const load = new ClientLoad(t, service.serviceUrl, worker, { leasing: 2, writing: 1, pauseMs: 20 })
  const filled = leaseFilled(service.serviceUrl, tokens[0]!)

  for (const [from, to] of [
    ['local', 'openbao'],
    ['openbao', 'aws-eu'],
    ['aws-eu', 'local'],
  ]) {
    await t.test(`from ${from} to ${to}`, async (t) => {
      const { id } = await must('POST', runs, admin, { from, to })
      const read = () => must('GET', `${runs}/${id}`, admin)
      await until('it has ended', 240_000, async () => (await read()).state !== 'running')
      const done = await read()
      t.match(done, { state: 'done', failed: 0, skipped: 0 })
      t.ok(done.moved >= CREDENTIALS)
      t.comment(`${done.moved} in ${(Date.parse(done.finished_at) - Date.parse(done.started_at)) / 1000} s`)
      await must('POST', `${runs}/${id}/finalize`, admin)
      await until('it is finalized', 10_000, async () => (await read()).state === 'finalized')
    })
  }

  const told = await load.stop()
  const leased = await filled.stop()
  const failed = told.answers.filter(({ status }) => status !== 200 && status !== 201)
  t.strictSame(failed, [], `none of ${told.answers.length} calls failed`)
  t.strictSame(leased.faults, [], `each of ${leased.count} leases of the filled ones answered its value`)
  t.strictSame(await leaseAll(service.serviceUrl, tokens[0]!), [], 'every value is what it was')
  t.strictSame(
    await ground.sql("select from copies where store <> 'local' and state <> 'dropped'"),
    [],
    'nothing points outside any more',
  )

  await service.end('SIGTERM')
  for (let sweep = 0; sweep < 2; sweep++) {
    await ground.sql(
      `update copies set named_at = named_at - interval '1 hour', dropped_at = dropped_at - interval '1 hour',
         attempted_at = attempted_at - interval '1 hour', deleted_at = deleted_at - interval '1 hour'`,
    )
    const swept = await runStrongroom(['sweep'], env)
    t.equal(swept.code, 0, swept.err)
  }
  t.strictSame(await moto.names('kept'), [], 'no secret is left at AWS')
  const listed = bao.root('LIST', 'secret/metadata/strongroom/acme')
  await t.rejects(listed, { message: /404/ }, 'no secret is left in OpenBao')
  t.strictSame(await ground.sql("select from copies where store <> 'local'"), [], 'and none is known of')
})

/** Leases the filled credentials, a hundred at a time. @returns the names of those with another value than theirs */
async function leaseAll(serviceUrl: string, token: string): Promise<string[]> {
  const faults: string[] = []
  for (let from = 0; from < CREDENTIALS; from += 100)
    faults.push(...(await leaseFrom(serviceUrl, token, from)))
  return faults
}

async function leaseFrom(serviceUrl: string, token: string, from: number): Promise<string[]> {
  const credentials = Array.from({ length: 100 }, (_, index) => `cred-${from + index}`)
  const { results } = await must('POST', `${serviceUrl}/v1/workspaces/acme/leases`, token, { credentials })
  return results.flatMap(({ credential, value, problem }: Record<string, unknown>, index: number) =>
    JSON.stringify(value) === valueOf(from + index, BYTES)
      ? []
      : [`${credential} ${JSON.stringify(problem)}`],
  )
}

/** Leases a hundred of the filled credentials after the other until it is stopped. */
function leaseFilled(serviceUrl: string, token: string) {
  let [stopped, count] = [false, 0]
  const faults: string[] = []
  const leasing = (async () => {
    for (; !stopped; count += 100) faults.push(...(await leaseFrom(serviceUrl, token, count % CREDENTIALS)))
  })()
  return {
    async stop() {
      stopped = true
      await leasing
      return { faults, count }
    },
  }
}
