import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { anotherSession } from '../vault.ts'
import { call, makeWorker, must } from './client-load.ts'
import type { ServiceProcess } from './service-process.ts'
import { onGround, refusedStart, until } from './service-process.ts'
import { countUnder, ended, lease, rotate, twoKeyHouse } from './two-key-house.ts'

t.test('a copy that no key opens is reported and never touched, and the old key stays needed', async (t) => {
  const { ground, admin, old, next, start, refused } = await twoKeyHouse(t, 700)
  const service = await start(next, old)
  const worker = await makeWorker(service.adminUrl, admin)
  const [copy] = await ground.sql(
    `select k.id, k.token from copies k join credentials c on c.id = k.credential_id where c.name = 'cred-7'`,
  )
  const broken = `${copy!.token.slice(0, 60)}${copy!.token[60] === 'A' ? 'B' : 'A'}${copy!.token.slice(61)}`
  const setToken = (token: string) =>
    ground.sql('update copies set token = $2 where id = $1', [copy!.id, token])
  await setToken(broken)
  const run = await ended(service, admin, (await rotate(service, admin)).id)
  const failure = { workspace: 'acme', credential: 'cred-7', version: 1, code: 'copy_unreadable' }
  t.match(run, { state: 'failed', moved: 699, failed: 1 })
  t.strictSame(run.failures, [failure])
  const kept = await ground.sql('select token from copies where id = $1', [copy!.id])
  t.strictSame(kept, [{ token: broken }])
  const events = await ground.sql(`select credential, code from audit_events where action = 'rotation:move'`)
  t.strictSame(events, [{ credential: 'cred-7', code: 'copy_unreadable' }])
  t.equal((await lease(service, worker, 'cred-7')).body.code, 'copy_unreadable')

  const without = await refused(next)
  t.equal(without.code, 78)
  t.match(without.err, new RegExp(`lacks the key ${old.key.id}, which still seals copies`))
  await setToken(copy!.token)
  t.match(await ended(service, admin, (await rotate(service, admin)).id), {
    state: 'done',
    total: 1,
    moved: 1,
  })
  await service.end('SIGTERM')
  t.equal((await lease(await start(next), worker, 'cred-7')).status, 201)
})

t.test('kept versions and deleted credentials open after a rotation without the old key', async (t) => {
  const { ground, admin, old, next, start } = await twoKeyHouse(t, 1)
  const service = await start(next, old)
  const worker = await makeWorker(service.adminUrl, admin)
  const credentials = ({ serviceUrl }: ServiceProcess) => `${serviceUrl}/v1/workspaces/acme/credentials`
  for (const name of ['kept', 'deleted']) {
    await must('POST', credentials(service), worker, { name, connector: 'c', value: `${name} 1` })
    await must('PUT', `${credentials(service)}/${name}/value`, worker, { value: `${name} 2` })
  }
  await must('DELETE', `${credentials(service)}/deleted`, worker)
  await ground.sql('create table backup_copies as select * from copies')
  await ground.sql('create table backup_keys as select * from keys')
  t.match(await ended(service, admin, (await rotate(service, admin)).id), {
    state: 'done',
    total: 5,
    moved: 5,
  })
  await service.end('SIGTERM')

  await t.test('without the old key', async (t) => {
    const later = await start(next)
    await must('POST', `${credentials(later)}/deleted/restore`, worker)
    for (const name of ['kept', 'deleted']) {
      for (const version of [1, 2]) {
        t.equal((await lease(later, worker, name, { version })).body.value, `${name} ${version}`)
      }
    }
    await later.end('SIGTERM')
  })

  await t.test('and of a backup from before, only with it', async (t) => {
    await ground.sql('update keys set sealing = false where sealing')
    await ground.sql('delete from copies')
    await ground.sql('insert into copies select * from backup_copies')
    await ground.sql('update keys set sealing = true where id in (select id from backup_keys where sealing)')
    const without = await refusedStart(t, onGround({ ...ground, keys: [next.text] }))
    t.equal(without.code, 78)
    t.match(without.err, new RegExp(`lacks the key ${old.key.id}`))
    const both = await start(next, old)
    t.equal((await lease(both, worker, 'kept', { version: 1 })).body.value, 'kept 1')
    t.match(await ended(both, admin, (await rotate(both, admin)).id), { state: 'done', moved: 5 })
    await both.end('SIGTERM')
    t.equal((await lease(await start(next), worker, 'kept')).body.value, 'kept 2')
  })
})

t.test('a rotation that was cancelled is gone on with, or gone back on', async (t) => {
  const { ground, admin, old, next, start, refused } = await twoKeyHouse(t, 3000)
  const service = await start(next, old)
  const worker = await makeWorker(service.adminUrl, admin)
  const other = await anotherSession(t, ground)
  await other.query('begin')
  await other.query('select from copies order by id desc limit 1500 for update')
  const { id } = await rotate(service, admin, next)
  t.equal(
    (await call('POST', `${service.adminUrl}/v1/admin/rotations`, admin, {})).body.code,
    'already_running',
  )
  await until('some are moved', 10_000, async () => (await countUnder(ground, next)) > 0)
  const cancel = () => call('POST', `${service.adminUrl}/v1/admin/rotations/${id}/cancel`, admin)
  t.match(await cancel(), { status: 200, body: { state: 'cancelled' } })
  t.match(await cancel(), { status: 200, body: { state: 'cancelled' } }, 'again the same')
  const moved = await countUnder(ground, next)
  await other.query('rollback')
  await sleep(600)
  t.equal(await countUnder(ground, next), moved, 'no copy is moved after that')
  t.ok(moved < 3000, `${moved} were moved`)
  t.match(await ended(service, admin, (await rotate(service, admin, old)).id), { state: 'done', moved })
  t.equal(await countUnder(ground, old), 3000, 'back')
  t.equal((await refused(next)).code, 78)
  t.match(await ended(service, admin, (await rotate(service, admin, next)).id), {
    state: 'done',
    moved: 3000,
  })
  await service.end('SIGTERM')
  t.equal((await lease(await start(next), worker, 'cred-2999')).status, 201, 'and on')
})
