import t from 'tap'
import { v7 } from 'uuid'
import { FernetKey } from '../../src/core/fernet.ts'
import { Keyring } from '../../src/core/keyring.ts'
import type { Relocation } from '../../src/core/relocation.ts'
import { reseal } from '../../src/core/reseal.ts'
import { RotationWorker } from '../../src/core/rotation-worker.ts'
import { Rotations } from '../../src/core/rotations.ts'
import { StoreError } from '../../src/core/secret-store.ts'
import { barrier } from '../troubled-store.ts'
import { eventually } from '../eventually.ts'
import { eventsIn } from '../vault.ts'
import { movingHouse, transaction, type House } from './moving-house.ts'

const NAMES = Array.from({ length: 12 }, (_, index) => `db-${String(index).padStart(2, '0')}`)
const VALUES = Object.fromEntries(NAMES.map((name) => [name, `"${name}"`]))

/** Writes down and tells that a copy could not be moved, as another process would that was refused it too. */
async function tellFailure(house: House, run: Relocation, credential: string): Promise<void> {
  const [found] = await house.ground.sql('select id from credentials where name = $1', [credential])
  const failure = { workspace: 'acme', credential, version: 1, code: 'store_denied' } as const
  await transaction(house, async (tx) => {
    await tx.recordStays(run.id, [{ ...failure, credentialId: found!.id, failed: true }])
    tx.record({ action: 'store-migration:move', outcome: 'failed', ...failure })
  })
}

/** Moves every sealed copy onto this key. */
async function rotate({ vault, ground }: House, toKeyId: string) {
  const keyring = Keyring.parse(ground.keys.map((key) => key.reveal()))
  const rotations = new Rotations(vault.acts, vault.sealer)
  const { id } = await rotations.start(vault.call(), vault.admin, toKeyId)
  await new RotationWorker(vault.ledger, {
    newId: v7,
    batch: 5,
    lanes: 2,
    reseal: async (keyId, copies) => reseal(keyring, keyId, copies),
    knowsKey: () => true,
    restMs: () => 0,
  }).work()
  return rotations.read(vault.call(), vault.admin, id)
}

t.test('a key rotation in the middle of an unfinalized move: rolled back, everything opens', async (t) => {
  const next = FernetKey.generate()
  const house = await movingHouse(t, { moreKeys: [next.text] })
  const { ground } = house
  await house.fill('local', ...NAMES)
  await house.update('db-00', '"two"')
  const done = await house.migrate('local', 'team-vault')
  await house.fill('local', 'stays')
  t.match(await rotate(house, next.key.id), { state: 'done', total: 14, moved: 14 })
  t.same(await ground.sql('select distinct key_id from copies where token is not null'), [
    { key_id: next.key.id },
  ])
  t.match(await house.rollback(done), { state: 'rolled_back', moved: 0, failed: 0 })
  for (const name of NAMES.slice(1)) t.equal(await house.value(name), VALUES[name])
  t.same([await house.value('db-00'), await house.value('db-00', 1)], ['"two"', '"db-00"'])
  t.same(await ground.sql("select from copies where store <> 'local' and state <> 'dropped'"), [])
  t.equal(await house.count('source'), 0)
})

t.test(
  'what stays or fails is counted and told once, also by two processes and when a key rotation makes new copies of it',
  async (t) => {
    const next = FernetKey.generate()
    const house = await movingHouse(t, {
      moreKeys: [next.text],
      team: { valueBytesMax: 12 },
      tuning: { relocationBatch: 1 },
    })
    // In this order, one after the other.
    for (const name of ['denied', 'much-too-long', 'held']) await house.fill('local', name)
    const gate = barrier()
    let [puts, held] = [0, false]
    house.team.trouble.onCall = async (call) => {
      if (call !== 'put') return
      if (++puts === 1) {
        await tellFailure(house, run, 'denied')
        throw new StoreError('denied', 'in the test')
      }
      held = true
      await gate.wait()
    }
    const run = await house.start('local', 'team-vault')
    const working = house.work()
    await eventually(async () => held)
    const noted = await house.read(run)
    await rotate(house, next.key.id)
    gate.open()
    await working
    t.match(noted, { skipped: 1, failed: 1 }, 'before the rotation')
    const failed = await house.read(run)
    t.match(failed, { state: 'failed', moved: 1, skipped: 1, failed: 1 })
    t.equal((await eventsIn(house.ground, `action = 'store-migration:move'`)).length, 1)
    await house.resume(failed)
    await house.work()
    t.match(await house.read(run), { state: 'done', moved: 2, skipped: 1, failed: 0 })
  },
)

t.test('a rotation that begins while copies are being sealed here is sealed for', async (t) => {
  const next = FernetKey.generate()
  const house = await movingHouse(t, { moreKeys: [next.text], team: { cacheSeconds: 0 } })
  const { vault, ground } = house
  await house.fill('team-vault', ...NAMES)
  const run = await house.start('team-vault', 'local')
  let begun: Promise<unknown> | undefined
  house.team.trouble.onCall = () =>
    (begun ??= vault.ledger.transaction(vault.call(), undefined, (tx) =>
      tx.beginRotation(next.key.id, 'test'),
    ))
  await house.work()
  t.match(await house.read(run), { state: 'done', moved: 12 })
  t.same(await ground.sql('select distinct key_id from copies where token is not null'), [
    { key_id: next.key.id },
  ])
  for (const name of NAMES) t.equal(await house.value(name), VALUES[name])
})
