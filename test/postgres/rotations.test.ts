import type { Test } from 'tap'
import t from 'tap'
import { v7 } from 'uuid'
import { FernetKey } from '../../src/core/fernet.ts'
import { Keyring } from '../../src/core/keyring.ts'
import { reseal } from '../../src/core/reseal.ts'
import { Secret } from '../../src/core/secret.ts'
import { RotationWorker } from '../../src/core/rotation-worker.ts'
import { Rotations } from '../../src/core/rotations.ts'
import { registerProcess } from '../../src/postgres/key-register.ts'
import { freshGround } from '../ground.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, eventsIn, lockWaits, openVault, someName } from '../vault.ts'

/** A vault that knows two keys and seals under the first, with rotations that go on when they are told to. */
async function withTwoKeys(t: Test) {
  const ground = await freshGround(t)
  const [old, next] = [FernetKey.parse(ground.keys[0]!.reveal()), FernetKey.generate()]
  ground.keys.push(next.text)
  const vault = await openVault(t, ground)
  const rotations = new Rotations(vault.acts, vault.sealer)
  const keyring = Keyring.parse(ground.keys.map((key) => key.reveal()))
  const workerWith = (ring: Keyring) =>
    new RotationWorker(vault.ledger, {
      newId: v7,
      batch: 2,
      lanes: 2,
      reseal: async (toKeyId, copies) => reseal(ring, toKeyId, copies),
      knowsKey: (id) => ring.has(id),
      restMs: () => 0,
    })
  const rotationWorker = workerWith(keyring)
  const { admin, call } = vault
  return {
    ground,
    vault,
    worker: await vault.identityWith(),
    oldId: old.id,
    newId: next.key.id,
    rotations,
    start: (toKey: string | undefined) => rotations.start(call(), admin, toKey),
    read: (id: string) => rotations.read(call(), admin, id),
    cancel: (id: string) => rotations.cancel(call(), admin, id),
    work: () => rotationWorker.work(),
    /** Works as a process would that knows only the old key. */
    workWithOldAlone: () => workerWith(Keyring.parse([ground.keys[0]!.reveal()])).work(),
    keys: async () => {
      const { items } = await vault.keys.list(call(), admin, { limit: 100 })
      return Object.fromEntries(items.map(({ id, sealing, copies }) => [id, { sealing, copies }]))
    },
    events: (action: string) => eventsIn(ground, `action = '${action}' and detail like '%rotation%'`),
  }
}

t.test('every copy is moved onto the key: current, kept, and of deleted credentials', async (t) => {
  const { vault, worker, oldId, newId, start, read, work, keys } = await withTwoKeys(t)
  for (const name of ['a', 'b', 'c', 'd']) await vault.create(worker, name, `"one of ${name}"`)
  await vault.update(worker, 'a', '"two of a"')
  await vault.credentials.delete(vault.call(), worker.caller, vault.workspace, 'd', false)
  const begun = await start(newId)
  t.match(begun, { state: 'running', toKey: newId, total: 5, moved: 0, startedBy: 'admin' })
  t.equal(begun.finishedAt, undefined)
  await work()
  const ended = await read(begun.id)
  t.match(ended, { state: 'done', moved: 5, skipped: 0, failed: 0, failures: [] })
  t.ok(ended.finishedAt! >= ended.startedAt)
  t.strictSame(await keys(), {
    [oldId]: { sealing: false, copies: 0 },
    [newId]: { sealing: true, copies: 5 },
  })

  const alone = await openVault(
    t,
    { ...vault.ground, keys: vault.ground.keys.slice(1) },
    { workspace: someName() },
  )
  await alone.credentials.restore(alone.call(), worker.caller, vault.workspace, 'd')
  const lease = async (credential: string, version?: number) =>
    (await alone.lease(worker, credential, { workspace: vault.workspace, version })).value.reveal()
  t.equal(await lease('a'), '"two of a"')
  t.equal(await lease('a', 1), '"one of a"')
  t.equal(await lease('d'), '"one of d"')
})

t.test('a rotation is an event at its start and at its end, and each failure is one', async (t) => {
  const { ground, vault, worker, newId, start, read, work, events } = await withTwoKeys(t)
  for (const name of ['a', 'b', 'c']) await vault.create(worker, name)
  await ground.sql(
    `update copies set token = (select token from copies where credential_id <> c.id limit 1) from credentials c
     where c.id = copies.credential_id and c.name in ('a', 'b')`,
  )
  const begun = await start(newId)
  await work()
  const failures = ['a', 'b'].map((credential) => {
    return { workspace: vault.workspace, credential, version: 1, code: 'copy_unreadable' as const }
  })
  const ended = await read(begun.id)
  t.match(ended, { state: 'failed', moved: 1, failed: 2 })
  t.strictSame(
    ended.failures.toSorted((one, other) => (one.credential < other.credential ? -1 : 1)),
    failures,
  )

  const [started] = await events('admin:keys')
  t.match(started, { identity: 'admin', outcome: 'allowed' })
  t.strictSame(JSON.parse(started!.detail!), {
    rotation: begun.id,
    state: 'running',
    to_key: newId,
    total: 3,
  })
  const moves = await events('rotation:move')
  t.match(
    moves.toSorted((one, other) => (one.credential! < other.credential! ? -1 : 1)),
    failures.map((failure) => ({ ...failure, outcome: 'failed', identity: null })),
  )
  t.strictSame(JSON.parse(moves[0]!.detail!), { rotation: begun.id })
  const [end, ...more] = await events('rotation:end')
  t.strictSame(more, [])
  t.match(end, { outcome: 'failed', code: 'copy_unreadable' })
  const counts = { moved: 1, skipped: 0, failed: 2 }
  t.strictSame(JSON.parse(end!.detail!), { rotation: begun.id, state: 'failed', to_key: newId, ...counts })
  t.match(await vault.auditTrail.verify(vault.call(), vault.admin, {}, []), { valid: true })
})

t.test('after a failure was mended, the next rotation ends at zero', async (t) => {
  const { ground, vault, worker, newId, start, read, work, events } = await withTwoKeys(t)
  await vault.create(worker, 'a')
  await ground.sql(`update copies set token = left(token, -8)`)
  const failed = await start(newId)
  await work()
  t.equal((await read(failed.id)).state, 'failed')
  await vault.credentials.delete(vault.call(), worker.caller, vault.workspace, 'a', true)
  const again = await start(newId)
  await work()
  t.match(await read(again.id), { state: 'done', total: 0 })
  t.match(await events('rotation:end'), [{ outcome: 'failed' }, { outcome: 'allowed', code: null }])
})

t.test('while one runs, another is refused', async (t) => {
  const { oldId, newId, start, events } = await withTwoKeys(t)
  await start(newId)
  await t.rejects(start(newId), { code: 'already_running' })
  await t.rejects(start(oldId), { code: 'already_running' })
  const [, refused] = await events('admin:keys')
  t.match(refused, { outcome: 'refused', code: 'already_running' })
  t.strictSame(JSON.parse(refused!.detail!), { rotation: 'start', to_key: newId })
})

t.test('a key that this process does not know is an unknown name, and is not repeated', async (t) => {
  const { start, keys, oldId, events } = await withTwoKeys(t)
  const strange = FernetKey.generate().key.id
  await t.rejects(start(strange), { code: 'unknown_name', errors: [{ pointer: '/to_key' }] })
  t.ok((await keys())[oldId]!.sealing)
  t.notMatch(JSON.stringify(await events('admin:keys')), strange)
})

t.test('while a living process does not know the key, it is refused and the process named', async (t) => {
  const { ground, vault, oldId, newId, start, keys } = await withTwoKeys(t)
  const other = { id: v7(), name: 'host-b:42', keyIds: [oldId] }
  const connections = vault.connect(1)
  t.teardown(() => connections.close())
  await registerProcess(connections, other)
  await t.rejects(start(newId), { code: 'key_not_everywhere', message: new RegExp(`host-b:42 ${other.id}`) })
  t.ok((await keys())[oldId]!.sealing, 'nothing has changed')
  await ground.sql(`update processes set seen_at = now() - interval '11 s' where id = $1`, [other.id])
  t.match(await start(newId), { state: 'running' })
})

t.test('a rotation is cancelled as often as one likes, and copies stay where they are', async (t) => {
  const { vault, worker, oldId, newId, start, read, cancel, work, keys, events } = await withTwoKeys(t)
  await vault.create(worker, 'a')
  const { id } = await start(newId)
  const cancelled = await cancel(id)
  t.equal(cancelled.state, 'cancelled')
  t.ok(cancelled.finishedAt)
  t.strictSame(await cancel(id), cancelled)
  await work()
  t.match(await read(id), { state: 'cancelled', moved: 0 })
  t.strictSame(await keys(), {
    [oldId]: { sealing: false, copies: 1 },
    [newId]: { sealing: true, copies: 0 },
  })
  const marks = (await events('admin:keys')).map(({ mark, detail }) => ({
    mark,
    state: JSON.parse(detail!).state,
  }))
  t.strictSame(marks, [
    { mark: null, state: 'running' },
    { mark: null, state: 'cancelled' },
  ])
  t.equal((await vault.lease(worker, 'a')).value.reveal(), '{"password":"one"}')
})

t.test('after it was cancelled, a later rotation goes back', async (t) => {
  const { vault, worker, oldId, newId, start, read, cancel, work, keys } = await withTwoKeys(t)
  for (const name of ['a', 'b', 'c']) await vault.create(worker, name)
  await cancel((await start(newId)).id)
  await vault.update(worker, 'a', '"under the new key"')
  const back = await start(oldId)
  t.match(back, { toKey: oldId, total: 1 })
  await work()
  t.equal((await read(back.id)).state, 'done')
  t.match(await keys(), { [oldId]: { sealing: true, copies: 4 } })
  t.equal((await vault.lease(worker, 'a')).value.reveal(), '"under the new key"')
})

t.test('one that has ended cannot be cancelled, and one that never was is not found', async (t) => {
  const { newId, start, read, cancel, work } = await withTwoKeys(t)
  const { id } = await start(newId)
  await work()
  await t.rejects(cancel(id), { code: 'wrong_state' })
  t.equal((await read(id)).state, 'done')
  for (const strange of [v7(), 'nonsense']) {
    await t.rejects(cancel(strange), { code: 'not_found' })
    await t.rejects(read(strange), { code: 'not_found' })
  }
})

t.test('without admin:keys a rotation is neither begun, seen nor cancelled', async (t) => {
  const { vault, worker, newId, rotations, start, read } = await withTwoKeys(t)
  const { id } = await start(newId)
  const lacks = { code: 'forbidden', message: /admin:keys/ }
  await t.rejects(rotations.start(vault.call(), worker.caller, newId), lacks)
  await t.rejects(rotations.read(vault.call(), worker.caller, id), lacks)
  await t.rejects(rotations.list(vault.call(), worker.caller, { limit: 1 }), lacks)
  await t.rejects(rotations.cancel(vault.call(), worker.caller, id), lacks)
  t.equal((await read(id)).state, 'running')
})

t.test('a process that lacks the key of a copy leaves it to others, and fails nothing', async (t) => {
  const { vault, worker, oldId, newId, start, read, work, workWithOldAlone, keys } = await withTwoKeys(t)
  for (const name of ['a', 'b', 'c']) await vault.create(worker, name)
  await start(newId)
  await work()
  const back = await start(oldId)
  await workWithOldAlone()
  t.match(await read(back.id), { state: 'running', moved: 0, failed: 0, failures: [] })
  await work()
  t.match(await read(back.id), { state: 'done', moved: 3, failed: 0 })
  t.match(await keys(), { [oldId]: { sealing: true, copies: 3 }, [newId]: { copies: 0 } })
})

for (const first of ['cancel', 'end'] as const) {
  t.test(
    `of a cancel and the end of the work that meet, one happens and is told: ${first} first`,
    async (t) => {
      const { ground, newId, start, read, cancel, work, events } = await withTwoKeys(t)
      const { id } = await start(newId)
      const session = await anotherSession(t, ground)
      await session.query('begin')
      await session.query('select from rotations where id = $1 for update', [id])
      const acts = { cancel: () => cancel(id).catch((error) => error.code), end: work }
      const running = [acts[first]()]
      t.ok(await eventually(async () => (await lockWaits(ground)) === 1))
      running.push(acts[first === 'cancel' ? 'end' : 'cancel']())
      t.ok(await eventually(async () => (await lockWaits(ground)) === 2))
      await session.query('commit')
      const [one, other] = await Promise.all(running)
      const { state } = await read(id)
      t.equal(state, first === 'cancel' ? 'cancelled' : 'done')
      if (first === 'cancel') t.match(one, { state })
      else t.equal(other, 'wrong_state')
      const told = [...(await events('admin:keys')), ...(await events('rotation:end'))]
      t.strictSame(
        told.filter(({ outcome }) => outcome === 'allowed').map(({ detail }) => JSON.parse(detail!).state),
        ['running', state],
      )
    },
  )
}

t.test('a write that meets a sealing key which its process lacks is an event all the same', async (t) => {
  const ground = await freshGround(t)
  const vault = await openVault(t, ground)
  const worker = await vault.identityWith()
  await vault.create(worker, 'a')
  await ground.sql('update keys set sealing = false')
  await ground.sql(`insert into keys (id, sealing) values ('${'f'.repeat(32)}', true)`)
  const call = vault.call()
  const put = vault.values.put(call, worker.caller, vault.workspace, 'a', new Secret('"two"'), undefined)
  await t.rejects(put, { code: 'unavailable' })
  await vault.lateEvents.flush()
  t.match(await eventsIn(ground, `request_id = '${call.requestId}'`), [
    { action: 'credential:write', outcome: 'failed', code: 'unavailable', credential: 'a' },
  ])
})
