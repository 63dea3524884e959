import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import t from 'tap'
import { temporaryDirectory } from '../leftovers.ts'
import { call, ClientLoad, makeWorker, must } from './client-load.ts'
import { onGround, startService, until } from './service-process.ts'
import { countUnder, ended, lease, rotate, twoKeyHouse, type Key } from './two-key-house.ts'

/** A directory as Kubernetes mounts a secret: `keys` leads to `..data/keys`, and the link `..data` is swapped. */
function mountedSecret(t: Test) {
  const directory = temporaryDirectory(t)
  let mounts = 0
  const mount = (text: string): void => {
    const name = `..mount-${++mounts}`
    mkdirSync(join(directory, name))
    writeFileSync(join(directory, name, 'keys'), text, { mode: 0o600 })
    symlinkSync(name, join(directory, '..data_tmp'))
    renameSync(join(directory, '..data_tmp'), join(directory, '..data'))
    rmSync(join(directory, `..mount-${mounts - 1}`), { recursive: true, force: true })
  }
  symlinkSync('..data/keys', join(directory, 'keys'))
  return { file: join(directory, 'keys'), mount }
}

const lines = (...keys: Key[]): string => `# the ring\n${keys.map((key) => key.text.reveal()).join('\n')}\n`

t.test(
  'keys that are mounted anew come into force without a failed lease, and bad ones do not',
  async (t) => {
    const { ground, admin, old, next, start } = await twoKeyHouse(t, 1000)
    const secret = mountedSecret(t)
    secret.mount(lines(old))
    const { STRONGROOM_KEYS: _, ...env } = onGround(ground)
    const service = await startService(t, { ...env, STRONGROOM_KEYS_FILE: secret.file })
    const worker = await makeWorker(service.adminUrl, admin)
    const load = new ClientLoad(t, service.serviceUrl, worker, { leasing: 4, writing: 1 })
    const known = async (key: Key): Promise<boolean> => {
      const { items } = await must('GET', `${service.adminUrl}/v1/admin/keys`, admin)
      return items.some(
        (one: { id: string; processes: string[] }) => one.id === key.key.id && one.processes.length > 0,
      )
    }
    const refusals = () => service.out().split('the changed keys are refused').length - 1

    secret.mount(lines(next, old))
    await until('the new key is known', 30_000, () => known(next))
    for (const [bad, why] of [
      ['not a key\n', /Key 1 of the keyring is not a Fernet key/],
      ['', /The keyring has no key/],
      [lines(next), new RegExp(`lacks the key ${old.key.id}`)],
    ] as const) {
      const before = refusals()
      secret.mount(bad)
      await until('it is refused', 30_000, () => refusals() > before)
      t.match(service.out(), why)
      t.ok((await known(old)) && (await known(next)), 'the ring is the one from before')
    }
    secret.mount(lines(next, old))
    const { id } = await rotate(service, admin)
    t.match(await ended(service, admin, id), { state: 'done', to_key: next.key.id, failed: 0 })

    secret.mount(lines(next))
    await until('the old key is forgotten', 30_000, async () => !(await known(old)))
    await sleep(200)
    const { answers, leases } = await load.stop()
    t.ok(leases.length > 50)
    t.strictSame(
      answers.filter(({ status }) => status !== 200 && status !== 201),
      [],
      'nothing failed in all this',
    )
    t.notMatch(service.out(), next.text.reveal())
    await service.end('SIGTERM')
    t.equal((await lease(await start(next), worker, 'cred-0')).status, 201, 'the new key is enough')
  },
)

t.test('a rotation names the process that does not know the key, and begins when that is gone', async (t) => {
  const { admin, old, next, start } = await twoKeyHouse(t, 10)
  const knowing = await start(next, old)
  const ignorant = await start(old)
  const { status, body } = await call('POST', `${knowing.adminUrl}/v1/admin/rotations`, admin, {})
  t.equal(status, 409)
  t.equal(body.code, 'key_not_everywhere')
  t.match(body.detail, new RegExp(`:${ignorant.pid} `))
  t.notMatch(body.detail, new RegExp(`:${knowing.pid} `))
  await ignorant.end('SIGTERM')
  t.match(await ended(knowing, admin, (await rotate(knowing, admin)).id), { state: 'done', moved: 10 })
})

t.test('a replica whose ring still begins with the old key seals nothing under it', async (t) => {
  const { ground, admin, old, next, start } = await twoKeyHouse(t, 2000)
  const [first, replica] = [await start(next, old), await start(old, next)]
  const worker = await makeWorker(first.adminUrl, admin)
  const load = new ClientLoad(t, replica.serviceUrl, worker, { leasing: 2, writing: 4, pauseMs: 5 })
  await until('it writes', 30_000, () => load.told.writes.length > 20)
  const { id } = await rotate(first, admin)
  const begun = load.told.writes.length
  t.match(await ended(first, admin, id), { state: 'done', failed: 0 })
  t.equal(await countUnder(ground, old), 0, 'at the end')
  const atEnd = load.told.writes.length
  await until('it writes on', 30_000, () => load.told.writes.length > atEnd + 20)
  const { answers } = await load.stop()
  t.comment(`${begun} writes before, ${atEnd - begun} meanwhile, ${load.told.writes.length - atEnd} after`)
  t.strictSame(
    answers.filter(({ status }) => status !== 200 && status !== 201),
    [],
    'no write and no lease failed',
  )
  t.equal(await countUnder(ground, old), 0, 'and after it')
})

t.test('a process that was frozen while a rotation began says 503 until it knows the new key', async (t) => {
  const { ground, admin, old, next, start } = await twoKeyHouse(t, 100)
  const knowing = await start(next, old)
  const secret = mountedSecret(t)
  secret.mount(lines(old))
  const { STRONGROOM_KEYS: _, ...env } = onGround(ground)
  const frozen = await startService(t, { ...env, STRONGROOM_KEYS_FILE: secret.file })
  const worker = await makeWorker(knowing.adminUrl, admin)
  t.equal((await lease(frozen, worker, 'cred-1')).status, 201)

  process.kill(frozen.pid, 'SIGSTOP')
  // As if it had been frozen for so long that it no longer counts as living.
  await ground.sql(`delete from processes where name like '%:' || $1`, [String(frozen.pid)])
  t.match(await ended(knowing, admin, (await rotate(knowing, admin)).id), { state: 'done', moved: 100 })
  process.kill(frozen.pid, 'SIGCONT')

  const credentials = `${frozen.serviceUrl}/v1/workspaces/acme/credentials`
  const write = (name: string) => call('POST', credentials, worker, { name, connector: 'c', value: 'v' })
  const unavailable = { status: 503, body: { code: 'unavailable' } }
  const ready = async () => (await call('GET', `${frozen.serviceUrl}/health/ready`, 'none')).status
  t.match(await lease(frozen, worker, 'cred-1'), unavailable)
  t.match(await write('early'), unavailable)
  await until('it is not ready', 30_000, async () => (await ready()) === 503)
  t.match(await lease(frozen, worker, 'cred-2'), unavailable)

  t.match(await ended(knowing, admin, (await rotate(knowing, admin, old)).id), { state: 'done', moved: 100 })
  await until('it is ready: the rotation went back', 30_000, async () => (await ready()) === 200)
  t.equal((await lease(frozen, worker, 'cred-2')).status, 201)
  t.equal(
    (await call('POST', `${knowing.adminUrl}/v1/admin/rotations`, admin, {})).body.code,
    'key_not_everywhere',
  )

  secret.mount(lines(old, next))
  const rotating = () => call('POST', `${knowing.adminUrl}/v1/admin/rotations`, admin, {})
  await until('both know the key', 30_000, async () => (await rotating()).status === 202)
  t.equal((await write('late')).status, 201)
  t.equal((await lease(frozen, worker, 'cred-1')).status, 201)
  await until('all is moved', 30_000, async () => (await countUnder(ground, old)) === 0)
  t.equal(await countUnder(ground, old), 0)
})
