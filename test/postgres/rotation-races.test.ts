import t, { type Test } from 'tap'
import { v7 } from 'uuid'
import { FernetKey } from '../../src/core/fernet.ts'
import { Keyring } from '../../src/core/keyring.ts'
import type { ResealCopies } from '../../src/core/ledger.ts'
import { reseal } from '../../src/core/reseal.ts'
import type { TestGround } from '../ground.ts'
import { freshGround } from '../ground.ts'
import type { Vault } from '../vault.ts'
import { eventually } from '../eventually.ts'
import { lockWaits, openVault } from '../vault.ts'

/** A vault whose ring has a second key, and a rotation onto it that has begun and that nobody works on. */
async function withRotation(t: Test) {
  const ground = await freshGround(t)
  const one = FernetKey.parse(ground.keys[0]!.reveal())
  const { key: two, text } = FernetKey.generate()
  ground.keys.push(text)
  const vault = await openVault(t, ground)
  const worker = await vault.identityWith()
  const begin = (): Promise<{ id: string; toKey: string }> =>
    vault.ledger.transaction(vault.call(), undefined, async (tx) => {
      const begun = await tx.beginRotation(two.id, 'test')
      if (begun === 'already_running' || 'ignorant' in begun) throw new Error('no rotation could begin')
      vault.sealer.sealUnder(two.id)
      return begun
    })
  return { ground, vault, worker, one, two, begin }
}

/** Reseals as the service does, but only once `gate` opens; `taken` is settled when the copies are held. */
function heldReseal(ground: TestGround, toKey: string) {
  const keyring = Keyring.parse(ground.keys.map((key) => key.reveal()))
  const taken = Promise.withResolvers<number>()
  const gate = Promise.withResolvers<undefined>()
  const held: ResealCopies = async (copies) => {
    taken.resolve(copies.length)
    await gate.promise
    const withIds = copies.map((copy) => ({ ...copy, newCopyId: v7() }))
    const resealed = reseal(keyring, toKey, withIds)
    return withIds.map(({ newCopyId }, index) => ({ newCopyId, ...resealed[index]! }))
  }
  return { held, taken: taken.promise, open: () => gate.resolve(undefined) }
}

async function during(
  vault: Vault,
  ground: TestGround,
  rotation: { id: string; toKey: string },
  act: () => Promise<unknown>,
) {
  const { held, taken, open } = heldReseal(ground, rotation.toKey)
  const moving = vault.ledger.moveCopies(rotation, undefined, 100, held)
  await taken
  let acted = false
  const acting = act().finally(() => (acted = true))
  await eventually(async () => acted || (await lockWaits(ground)) > 0)
  open()
  await acting
  return moving
}

const TOKENS = `select state, key_id, version from copies where token is not null order by version`

t.test('a purge that meets a rotation half-way leaves no token behind', async (t) => {
  const { ground, vault, worker, begin } = await withRotation(t)
  await vault.create(worker, 'orders-db')
  await vault.update(worker, 'orders-db', '{"password":"two"}')
  const rotation = await begin()
  await during(vault, ground, rotation, () =>
    vault.credentials.delete(vault.call(), worker.caller, vault.workspace, 'orders-db', true),
  )
  t.same(await ground.sql(TOKENS), [])
})

t.test('an update that meets a rotation half-way leaves one current version', async (t) => {
  const { ground, vault, worker, two, begin } = await withRotation(t)
  await vault.create(worker, 'orders-db')
  const rotation = await begin()
  await during(vault, ground, rotation, () => vault.update(worker, 'orders-db', '{"password":"two"}'))
  t.same(await ground.sql(TOKENS), [
    { state: 'kept', key_id: two.id, version: 1 },
    { state: 'current', key_id: two.id, version: 2 },
  ])
  t.equal((await vault.lease(worker, 'orders-db', { version: 1 })).value.reveal(), '{"password":"one"}')
  t.equal((await vault.lease(worker, 'orders-db')).value.reveal(), '{"password":"two"}')
})

t.test('a kept version that is deleted while a rotation holds it is gone', async (t) => {
  const { ground, vault, worker, begin } = await withRotation(t)
  await vault.create(worker, 'orders-db')
  await vault.update(worker, 'orders-db', '{"password":"two"}')
  const rotation = await begin()
  await during(vault, ground, rotation, () =>
    vault.values.purge(vault.call(), worker.caller, vault.workspace, 'orders-db', 1),
  )
  const left = await ground.sql(TOKENS)
  t.same(
    left.map((row) => row.version),
    [2],
  )
})

t.test('a batch of a rotation that was cancelled meanwhile is taken back', async (t) => {
  const { ground, vault, worker, one, begin } = await withRotation(t)
  await vault.create(worker, 'orders-db')
  const rotation = await begin()
  const step = await during(vault, ground, rotation, () =>
    vault.ledger.transaction(vault.call(), undefined, (tx) => tx.endRotation(rotation.id, 'cancelled')),
  )
  t.equal(step, undefined)
  t.same(await ground.sql(TOKENS), [{ state: 'current', key_id: one.id, version: 1 }])
  t.equal((await vault.lease(worker, 'orders-db')).value.reveal(), '{"password":"one"}')
})

t.test('what is sealed while a rotation begins is sealed under its key or counted by it', async (t) => {
  const { ground, vault, worker, two, begin } = await withRotation(t)
  await vault.create(worker, 'orders-db')
  const [rotation] = await Promise.all([
    begin(),
    ...Array.from({ length: 8 }, (_, index) => vault.create(worker, `db-${index}`)),
  ])
  const { held, open } = heldReseal(ground, rotation.toKey)
  open()
  while (await vault.ledger.moveCopies(rotation, undefined, 3, held)) {
    // Until the ledger has no more.
  }
  const count = await vault.ledger.transaction(vault.call(), undefined, (tx) => tx.countUnmoved(rotation))
  t.same(count, { left: 0, failed: 0 })
  const keys = await ground.sql('select distinct key_id from copies where token is not null')
  t.same(keys, [{ key_id: two.id }])
})
