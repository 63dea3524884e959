import t from 'tap'
import { StoreError } from '../../src/core/secret-store.ts'
import { barrier } from '../troubled-store.ts'
import { eventually } from '../eventually.ts'
import { sleep } from '../vault.ts'
import { claimed, leaseLoop, movingHouse, transaction, unknownRefs, type House } from './moving-house.ts'

const NAMES = Array.from({ length: 12 }, (_, index) => `db-${String(index).padStart(2, '0')}`)
const VALUES = Object.fromEntries(NAMES.map((name) => [name, `"${name}"`]))

/** Starts a store migration whose first puts are held until the gate opens; `act` is done meanwhile. */
async function during(house: House, act: () => Promise<unknown>, heldMin = 4) {
  const gate = barrier()
  let held = 0
  house.team.trouble.onCall = (call) => {
    if (call !== 'put') return undefined
    held++
    return gate.wait()
  }
  const run = await house.start('local', 'team-vault')
  const working = house.work()
  await eventually(async () => held >= heldMin)
  await act()
  gate.open()
  house.team.trouble.onCall = undefined
  await working
  return house.read(run)
}

t.test('an update during the move wins, and the last pass takes it to the target', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', ...NAMES)
  const done = await during(house, async () => {
    for (const name of NAMES) await house.update(name, `"new ${name}"`)
  })
  t.match(done, { state: 'done', failed: 0, moved: 24 })
  t.same(
    await house.whereabouts(),
    NAMES.flatMap((name) => [`${name}@1 team-vault kept`, `${name}@2 team-vault current`]),
  )
  for (const name of NAMES)
    t.same([await house.value(name), await house.value(name, 1)], [`"new ${name}"`, `"${name}"`])
})

t.test('a credential that is created meanwhile moves too', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', 'a')
  const done = await during(house, () => house.fill('local', 'b'), 1)
  t.match(done, { state: 'done', total: 1, moved: 2 })
  t.same(await house.whereabouts(), ['a@1 team-vault current', 'b@1 team-vault current'])
})

t.test('a purge during the move leaves nothing behind in either store, for good', async (t) => {
  const house = await movingHouse(t, { tuning: { relocationBatch: 16 } })
  await house.fill('local', ...NAMES)
  await house.update('db-01', '"two"')
  const done = await during(house, async () => {
    await house.delete('db-00', true)
    await house.vault.values.purge(house.vault.call(), house.worker.caller, 'acme', 'db-01', 1)
  })
  t.match(done, { state: 'done', failed: 0, moved: 11 })
  t.notOk((await house.whereabouts()).some((line) => /db-00|db-01@1/.test(line)))
  const dropped = await house.ground.sql(
    "select for_good from copies where state = 'dropped' and ref is not null",
  )
  t.same(dropped, [{ for_good: true }, { for_good: true }])
  await house.rollback(done)
  await house.sweepTwice()
  t.same(await unknownRefs(house, house.team), [])
  t.equal(await house.count('dropped'), 0)
  t.equal((await house.ground.sql('select from copies where token is not null')).length, 11)
})

t.test('what is purged after its move is destroyed at both ends', async (t) => {
  const house = await movingHouse(t)
  await house.fill('team-vault', 'a', 'b', 'c')
  await house.update('b', '"b two"')
  const done = await house.migrate('team-vault', 'aws-eu')
  await house.delete('a', true)
  await house.vault.values.purge(house.vault.call(), house.worker.caller, 'acme', 'b', 1)
  await house.sweepTwice()
  t.same([house.team.kept.size, house.aws.kept.size], [2, 2])
  t.same(await unknownRefs(house, house.team, house.aws), [])
  t.match(await house.rollback(done), { state: 'rolled_back', moved: 0 })
  t.same(await house.whereabouts(), ['b@2 team-vault current', 'c@1 team-vault current'])
})

t.test('two processes at once move each copy once', async (t) => {
  const house = await movingHouse(t, { tuning: { relocationBatch: 3 } })
  await house.fill('local', ...NAMES)
  const other = await house.another()
  // So slow that both have copies on their way at the same time.
  house.team.trouble.onCall = () => sleep(30)
  const run = await house.start('local', 'team-vault')
  const working = house.work()
  await sleep(45)
  await Promise.all([working, other.relocationWorker.work()])
  t.match(await house.read(run), { state: 'done', moved: 12, failed: 0 })
  t.equal(house.team.calls.filter((call) => call.startsWith('put')).length, 12)
  t.equal(house.team.kept.size, 12)
  const back = await house.rollback(run)
  t.match(back, { state: 'rolled_back', moved: 0 })
})

t.test('what was updated after its move keeps its new value when it is rolled back', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', ...NAMES)
  const done = await house.migrate('local', 'team-vault')
  await house.update('db-00', '"new"')
  const stop = leaseLoop(house.vault, house.worker, { ...VALUES, 'db-00': '"new"' })
  t.match(await house.rollback(done), { state: 'rolled_back', moved: 0, failed: 0 })
  t.same(await house.whereabouts(), [
    'db-00@1 local kept',
    'db-00@2 local current',
    ...NAMES.slice(1).map((name) => `${name}@1 local current`),
  ])
  await house.sweepTwice()
  t.same((await stop()).faults, [])
  t.equal(house.team.kept.size, 0)
  t.same([await house.value('db-00'), await house.value('db-00', 1)], ['"new"', '"db-00"'])
  t.match((await house.update('db-00', '"newer"')).credential, { store: 'local', version: 3 })
})

for (const refused of [false, true]) {
  t.test(
    `a rollback in the middle takes back what is on its way, ${refused ? 'refused' : 'kept'} by the target`,
    async (t) => {
      const house = await movingHouse(t, { tuning: { relocationBatch: 4 } })
      await house.fill('local', ...NAMES)
      let puts = 0
      const gate = barrier()
      house.team.trouble.onCall = async (call) => {
        if (call !== 'put' || ++puts <= 4) return
        await gate.wait()
        if (refused) throw new StoreError('denied', 'in the test')
      }
      const run = await house.start('local', 'team-vault')
      const working = house.work()
      await eventually(async () => puts > 4)
      t.match(await house.read(run), { moved: 4 })
      t.match(await house.beginRollback(run), { state: 'running', heading: 'back' })
      gate.open()
      await working
      t.match(await house.read(run), { state: 'rolled_back', moved: 0, failed: 0, failures: [] })
      t.same(
        await house.whereabouts(),
        NAMES.map((name) => `${name}@1 local current`),
      )
      await house.sweepTwice()
      t.equal(house.team.kept.size, 0)
    },
  )
}

t.test('what a process had claimed when it died is moved by another', async (t) => {
  const house = await movingHouse(t, { tuning: { copyGraceSeconds: 1 } })
  await house.fill('local', 'a', 'b')
  const run = await house.start('local', 'team-vault')
  t.equal((await claimed(house, run, { claimSeconds: 1 })).length, 1)
  await house.work()
  t.match(await house.read(run), { state: 'done', moved: 2 })
  await house.sweepTwice()
  t.same(await unknownRefs(house, house.team), [])
})

t.test('a copy that is moved already, or that the sweep has dropped, is not switched to', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', 'a')
  const run = await house.start('local', 'team-vault')
  const { sweep } = house.vault
  const carry = () => claimed(house, run, { claimSeconds: 0, limit: 9 })
  const settle = (carried: Awaited<ReturnType<typeof carry>>) =>
    transaction(house, (tx) => tx.switchCopies(run, carried))
  const late = await carry()
  await house.ground.sql("update copies set named_at = named_at - interval '1 hour' where state = 'pending'")
  await sweep.run()
  const [slow, quick] = [await carry(), await carry()]
  t.same([late.length, slow.length, quick.length], [1, 1, 1])
  t.same(await settle(late), [])
  t.same(await settle(quick), [quick[0]!.pendingId])
  t.same(await settle(slow), [])
  t.same(await house.whereabouts(), ['a@1 team-vault current'])
  t.match(await house.read(run), { moved: 1 })
})

t.test('a rollback that was cancelled half-way goes over again when it is resumed, or back', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', ...NAMES)
  const run = await house.migrate('local', 'team-vault')
  await transaction(house, async (tx) => {
    await tx.runRelocation(run.id, 'back')
    await tx.pointBack({ ...run, heading: 'back' }, 5)
    await tx.endRelocation(run.id, 'cancelled')
  })
  t.match(await house.resume(run), { state: 'running', heading: 'over', moved: 7 })
  await house.work()
  t.match(await house.read(run), { state: 'done', moved: 12, total: 12, failed: 0 })
  t.same(
    await house.whereabouts(),
    NAMES.map((name) => `${name}@1 team-vault current`),
  )
  t.equal(await house.count('source'), 12)
  t.match(await house.rollback(run), { state: 'rolled_back', moved: 0 })
  t.same(
    await house.whereabouts(),
    NAMES.map((name) => `${name}@1 local current`),
  )
  await house.sweepTwice()
  t.equal(house.team.kept.size, 0)
})

t.test('what does not fit back has failed, for rolled back means that all is as before', async (t) => {
  const house = await movingHouse(t, { team: { valueBytesMax: 10 } })
  await house.fill('team-vault', 'a', 'b')
  const done = await house.migrate('team-vault', 'local')
  await house.update('a', '"much too long"')
  const failed = await house.rollback(done)
  t.match(failed, { state: 'failed', moved: 0, skipped: 0, failed: 1, stays: [] })
  t.same(failed.failures, [{ workspace: 'acme', credential: 'a', version: 2, code: 'value_too_large' }])
  t.same(await house.whereabouts(), ['a@1 team-vault kept', 'a@2 local current', 'b@1 team-vault current'])
})

t.test('a target that keeps fewer versions takes none away from a rollback', async (t) => {
  const house = await movingHouse(t, { team: { seen: { versionsKept: 2 } }, tuning: { versionsKept: 4 } })
  const { vault, worker, ground } = house
  const told = async (name: string) =>
    (await vault.values.versions(vault.call(), worker.caller, 'acme', name, { limit: 9 })).items.map(
      ({ version, store }) => `${version} ${store}`,
    )
  await house.fill('local', 'a')
  for (const version of [2, 3, 4]) await house.update('a', `"a ${version}"`)
  const done = await house.migrate('local', 'team-vault')
  t.match(done, { state: 'done', moved: 4, skipped: 0 })
  await house.update('a', '"a 5"')
  t.same(await told('a'), ['5 team-vault', '4 team-vault'], 'as everywhere there')
  await t.rejects(house.value('a', 2), { code: 'version_gone' })
  t.match(await house.rollback(done), { state: 'rolled_back', moved: 0 })
  t.same(await told('a'), ['5 local', '4 local', '3 local', '2 local'])
  t.same([await house.value('a', 2), await house.value('a')], ['"a 2"', '"a 5"'])

  const again = await house.migrate('local', 'team-vault')
  await house.update('a', '"a 6"')
  await house.finalize(again)
  t.same(await told('a'), ['6 team-vault', '5 team-vault'])
  t.equal((await ground.sql('select from versions')).length, 2, 'what is gone with its source is forgotten')
  await house.sweepTwice()
  t.same(await unknownRefs(house, house.team), [])
})
