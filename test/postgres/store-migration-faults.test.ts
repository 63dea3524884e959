import t from 'tap'
import { StoreError, type StoreFault } from '../../src/core/secret-store.ts'
import { eventually } from '../eventually.ts'
import { eventsIn, sleep } from '../vault.ts'
import { claimed, leaseLoop, movingHouse, transaction, unknownRefs, type House } from './moving-house.ts'

const NAMES = Array.from({ length: 12 }, (_, index) => `db-${String(index).padStart(2, '0')}`)
const VALUES = Object.fromEntries(NAMES.map((name) => [name, `"${name}"`]))
const failing = (fault: StoreFault) => () => {
  throw new StoreError(fault, 'in the test')
}

/** From now on the run has long made no progress, and what it makes counts for an hour, however busy the machine is. */
async function slowClock({ ground }: House): Promise<void> {
  await ground.sql(`create or replace function count_long() returns trigger language plpgsql as $$
    begin new.progressed_at = now() + interval '1 hour'; return new; end $$`)
  await ground.sql(`create or replace trigger count_long before update on store_migrations
    for each row when (new.progressed_at = now()) execute function count_long()`)
  await ground.sql("update store_migrations set progressed_at = now() - interval '1 hour'")
}

t.test('a target that asks for patience is given it, and nothing fails', async (t) => {
  const house = await movingHouse(t, { tuning: { relocationGiveUpMs: 1 } })
  await house.fill('local', ...NAMES)
  let inFlight = 0
  const atOnce: number[] = []
  house.team.trouble.onCall = async (call) => {
    if (call !== 'put' || atOnce.length === 20) return
    atOnce.push(++inFlight)
    await sleep(5)
    inFlight--
    failing('throttled')()
  }
  const stop = leaseLoop(house.vault, house.worker, VALUES)
  const done = await house.migrate('local', 'team-vault')
  t.match(done, { state: 'done', moved: 12, failed: 0, failures: [] })
  t.equal(done.throttled, 20)
  t.same((await stop()).faults, [])
  // Four lanes and eight copies each time, all of which are refused.
  const mostAtOnce = [0, 8, 16].map((from) => Math.max(...atOnce.slice(from, from + 8)))
  t.same(mostAtOnce, [4, 2, 1], 'fewer at once each time')
})

t.test('a target whose rate is low takes its time: nothing is refused, and others can write', async (t) => {
  const house = await movingHouse(t, {
    tuning: { relocationBatch: 64, relocationLanes: 16 },
    team: { limits: { writesPerSecond: 5, concurrency: 32 } },
  })
  await house.fill('local', ...NAMES)
  const inLine = { now: 0, max: 0 }
  const put = house.team.store.put.bind(house.team.store)
  house.team.store.put = async (ref, value, owner, call) => {
    if (call.caller !== 'store-migration') return put(ref, value, owner, call)
    inLine.max = Math.max(inLine.max, ++inLine.now)
    await put(ref, value, owner, call).finally(() => inLine.now--)
  }
  const beganAt = performance.now()
  const moving = house.migrate('local', 'team-vault')
  t.ok(await eventually(async () => house.team.calls.length >= 5))
  await house.fill('team-vault', 'beside')
  const done = await moving
  t.match(done, { state: 'done', moved: 12, failed: 0, throttled: 0 })
  t.equal(inLine.max, 2, 'as many as have their turn within half a second')
  t.ok(performance.now() - beganAt > 1_900, '13 writes at 5 a second')
  t.equal(await house.value('beside'), '"beside"')
})

t.test('a target that is away for a while is waited for', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', ...NAMES)
  house.team.trouble.onCall = failing('unavailable')
  const run = await house.start('local', 'team-vault')
  const working = house.work()
  await sleep(300)
  t.match(await house.read(run), { state: 'running', moved: 0, failed: 0 })
  house.team.trouble.onCall = undefined
  await working
  t.match(await house.read(run), { state: 'done', moved: 12, failed: 0, throttled: 0 })
})

t.test('a target that stays away is given up, and the run goes on when it is resumed', async (t) => {
  const house = await movingHouse(t, { tuning: { relocationGiveUpMs: 200 } })
  await house.fill('local', ...NAMES)
  house.team.trouble.onCall = failing('unavailable')
  const failed = await house.migrate('local', 'team-vault')
  t.match(failed, { state: 'failed', moved: 0, finishedAt: Date })
  t.ok(failed.failed > 0)
  t.match(failed.failures[0], { workspace: 'acme', version: 1, code: 'store_unavailable' })
  const ends = await eventsIn(house.ground, `action = 'store-migration:end'`)
  t.match(ends, [{ outcome: 'failed', detail: new RegExp(`"failed":${failed.failed}`) }])

  house.team.trouble.onCall = undefined
  t.match(await house.resume(failed), { state: 'running', failed: 0, failures: [] })
  await house.work()
  t.match(await house.read(failed), { state: 'done', moved: 12, failed: 0 })
})

t.test('while others get on, nobody gives up', async (t) => {
  const tuning = { relocationGiveUpMs: 400, relocationBatch: 1, relocationLanes: 1 }
  const house = await movingHouse(t, { tuning })
  await house.fill('local', ...NAMES)
  house.team.trouble.onCall = failing('unavailable')
  const run = await house.start('local', 'team-vault')
  await slowClock(house)
  let moved = 0
  const moveOne = async () => {
    const carried = await claimed(house, run)
    await transaction(house, (tx) => tx.switchCopies(run, carried))
    moved += carried.length
  }
  await moveOne()
  const working = house.work()
  t.ok(await eventually(async () => house.team.calls.length > 0))
  const since = performance.now()
  // Somebody whom the store answers moves what there is; the other tries again after more than 0.4 s.
  while (performance.now() - since < 1_600) {
    await moveOne()
    await sleep(20)
  }
  t.match(await house.cancel(run), { state: 'cancelled', moved, failed: 0 })
  await working
})

t.test(
  'one that was cancelled half-way is planned and goes on when it is resumed, with new patience',
  async (t) => {
    const house = await movingHouse(t, {
      tuning: { relocationGiveUpMs: 1_000, relocationBatch: 1, relocationLanes: 1 },
    })
    await house.fill('local', 'a')
    for (const value of ['"two"', '"three"']) await house.update('a', value)
    let dead = 0
    const dying = (call: string) => {
      if (call !== 'put' || house.team.kept.size < 1) return
      dead++
      failing('unavailable')()
    }
    house.team.trouble.onCall = dying
    const run = await house.start('local', 'team-vault')
    await slowClock(house)
    const working = house.work()
    t.ok(await eventually(async () => dead > 0))
    const cancelled = await house.cancel(run)
    t.match(cancelled, { state: 'cancelled', moved: 1 })
    await working
    house.team.trouble.onCall = undefined
    await sleep(60)
    const plan = await house.plan({ from: 'local', to: 'team-vault' })
    t.match(plan, { copies: 2, stays: [] }, 'what is left of it, and not kept from it by itself')
    t.match(await house.plan({ from: 'local', to: 'aws-eu' }), {
      copies: 0,
      stays: [{ reason: 'other_migration', copies: 2 }],
    })

    await sleep(1_000)
    await slowClock(house)
    dead = 0
    house.team.trouble.onCall = dying
    await house.resume(run)
    const again = house.work()
    t.ok(await eventually(async () => dead > 1), 'it is not given up the first time')
    house.team.trouble.onCall = undefined
    await again
    t.match(await house.read(run), { state: 'done', moved: 3, failed: 0 })
  },
)

t.test('a rollback from a dead target points all back before it tries what was updated there', async (t) => {
  const house = await movingHouse(t, {
    tuning: { relocationGiveUpMs: 300, relocationPointBatch: 2, copyGraceSeconds: 2 },
  })
  await house.fill('local', ...NAMES)
  const done = await house.migrate('local', 'team-vault')
  await house.update('db-00', '"new"')
  house.team.trouble.onCall = failing('unavailable')
  t.match(await house.rollback(done), {
    state: 'failed',
    moved: 0,
    failed: 1,
    failures: [{ credential: 'db-00', version: 2, code: 'store_unavailable' }],
  })
  t.same(await house.whereabouts(), [
    'db-00@1 local kept',
    'db-00@2 team-vault current',
    ...NAMES.slice(1).map((name) => `${name}@1 local current`),
  ])
})

t.test('a target that dies half-way: all can be leased, cancelled and rolled back', async (t) => {
  const house = await movingHouse(t, {
    tuning: { relocationLanes: 1, relocationBatch: 2 },
    team: { cacheSeconds: 0 },
  })
  await house.fill('local', ...NAMES)
  let puts = 0
  const dead = failing('unavailable')
  house.team.trouble.onCall = (call) => {
    if ((call === 'put' && ++puts > 5) || puts > 5) dead()
  }
  const stop = leaseLoop(house.vault, house.worker, VALUES)
  const run = await house.start('local', 'team-vault')
  const working = house.work()
  t.ok(
    await eventually(async () => puts > 5 && (await house.read(run)).moved === 5),
    '5 moved before it died',
  )
  const stalled = await house.read(run)
  t.match(stalled, { state: 'running', failed: 0 })
  t.match(await house.cancel(run), { state: 'cancelled', moved: stalled.moved })
  await working
  t.equal((await house.whereabouts()).filter((line) => line.includes('team-vault')).length, stalled.moved)

  t.match(await house.rollback(run), { state: 'rolled_back', moved: 0, failed: 0 })
  t.same(
    await house.whereabouts(),
    NAMES.map((name) => `${name}@1 local current`),
  )
  const { faults, leases } = await stop()
  t.same(faults, [], `none of ${leases} leases failed`)
  await house.sweepTwice()
  t.ok(house.team.kept.size > 0, 'it cannot delete')
  house.team.trouble.onCall = undefined
  await sleep(60)
  await house.sweepTwice()
  t.equal(house.team.kept.size, 0, 'and does when it is back')
})

for (const fault of ['denied', 'rejected'] as const) {
  t.test(`what a store says is ${fault} has failed, is listed, and is tried again by resume`, async (t) => {
    const house = await movingHouse(t)
    await house.fill('local', ...NAMES)
    let refusals = 2
    house.team.trouble.onCall = (call) => {
      if (call === 'put' && refusals-- > 0) failing(fault)()
    }
    const failed = await house.migrate('local', 'team-vault')
    t.match(failed, { state: 'failed', moved: 10, failed: 2, skipped: 0 })
    t.match(failed.failures, [
      { workspace: 'acme', credential: String, version: 1, code: `store_${fault}` },
      { code: `store_${fault}` },
    ])
    const listed = new Set(failed.failures.map(({ credential }) => credential))
    t.equal(listed.size, 2)
    for (const name of listed) t.equal(await house.value(name), VALUES[name])
    t.match(await eventsIn(house.ground, `action = 'store-migration:move'`), [
      { outcome: 'failed', code: `store_${fault}`, workspace: 'acme', version: 1 },
      { outcome: 'failed', code: `store_${fault}`, workspace: 'acme', version: 1 },
    ])
    await house.resume(failed)
    await house.work()
    t.match(await house.read(failed), { state: 'done', moved: 12, failed: 0, failures: [] })
    await house.sweepTwice()
    t.same(await unknownRefs(house, house.team), [])
  })
}

t.test('a target that cuts values short is noticed before anything points to it', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', ...NAMES)
  const keep = house.team.kept.set.bind(house.team.kept)
  house.team.kept.set = (ref, value) => keep(ref, value.slice(0, -2) + '"')
  const failed = await house.migrate('local', 'team-vault')
  t.match(failed, { state: 'failed', moved: 0, failed: 12 })
  t.same(new Set(failed.failures.map(({ code }) => code)), new Set(['store_rejected']))
  t.same(
    await house.whereabouts(),
    NAMES.map((name) => `${name}@1 local current`),
  )
  t.equal(await house.count('source'), 0)
  t.match(await house.rollback(failed), { state: 'rolled_back' })
  await house.sweepTwice()
  t.equal(house.team.kept.size, 0)
})

t.test('a source that is lost fails the run, and the rest moves', async (t) => {
  const house = await movingHouse(t, { team: { cacheSeconds: 0 } })
  await house.fill('team-vault', ...NAMES)
  const [lost] = house.team.kept.keys()
  house.team.kept.delete(lost!)
  const failed = await house.migrate('team-vault', 'aws-eu')
  t.match(failed, { state: 'failed', moved: 11, failed: 1, failures: [{ code: 'store_not_found' }] })
})

t.test('what takes longer than the copy grace is moved all the same', async (t) => {
  const tuning = { copyGraceSeconds: 2, relocationBatch: 64, relocationLanes: 2 }
  const house = await movingHouse(t, { tuning, team: { limits: { concurrency: 2 } } })
  await house.fill('local', ...NAMES.slice(0, 10))
  house.team.trouble.onCall = (call) => (call === 'put' ? sleep(250) : undefined)
  const run = await house.start('local', 'team-vault')
  const working = house.work()
  const sweeps: Promise<unknown>[] = []
  const sweeping = setInterval(() => sweeps.push(house.vault.sweep.run()), 200)
  await working
  clearInterval(sweeping)
  await Promise.all(sweeps)
  t.match(await house.read(run), { state: 'done', moved: 10, failed: 0 })
  for (const name of NAMES.slice(0, 10)) t.equal(await house.value(name), VALUES[name])
})
