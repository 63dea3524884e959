import t from 'tap'
import { StoreError } from '../../src/core/secret-store.ts'
import { eventually } from '../eventually.ts'
import { eventsIn } from '../vault.ts'
import { leaseLoop, movingHouse, unknownRefs } from './moving-house.ts'

const NAMES = Array.from({ length: 12 }, (_, index) => `db-${String(index).padStart(2, '0')}`)
const VALUES = Object.fromEntries(NAMES.map((name) => [name, `"${name}"`]))

for (const [from, to] of [
  ['local', 'team-vault'],
  ['team-vault', 'local'],
  ['team-vault', 'aws-eu'],
] as const) {
  t.test(`everything moves from ${from} to ${to}, and back at once, and no lease fails`, async (t) => {
    const house = await movingHouse(t)
    await house.fill(from, ...NAMES)
    await house.vault.create(house.worker, 'elsewhere', '"elsewhere"', {}, { store: 'aws-eu' })
    const stop = leaseLoop(house.vault, house.worker, VALUES)
    const done = await house.migrate(from, to)
    t.match(done, { state: 'done', from, to, total: 12, moved: 12, skipped: 0, failed: 0, throttled: 0 })
    t.match(done, { startedBy: 'admin', finishedAt: Date, failures: [], stays: [] })
    t.same(await house.whereabouts(), [
      ...NAMES.map((name) => `${name}@1 ${to} current`),
      'elsewhere@1 aws-eu current',
    ])
    const { items } = await house.vault.credentials.list(
      house.vault.call(),
      house.worker.caller,
      house.vault.workspace,
      { state: 'active', labels: [] },
      { limit: 100 },
    )
    t.same(new Set(items.slice(0, 12).map((one) => one.store)), new Set([to]), 'the credentials say so')
    t.equal(await house.count('source'), 12, 'the sources stay')

    const back = await house.rollback(done)
    t.match(back, { state: 'rolled_back', moved: 0, failed: 0 })
    t.same(await house.whereabouts(), [
      ...NAMES.map((name) => `${name}@1 ${from} current`),
      'elsewhere@1 aws-eu current',
    ])
    t.equal(await house.count('source'), 0)
    await house.sweepTwice()
    const { faults, leases } = await stop()
    t.same(faults, [], `none of ${leases} leases failed`)
    t.same(await unknownRefs(house, house.team, house.aws), [], 'nothing is left behind at the target')
    t.same(await house.ground.sql('select from store_migration_members'), [])
  })
}

t.test('kept versions and credentials that can be restored move too', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', 'a', 'b', 'c')
  await house.update('a', '"a two"')
  await house.delete('b')
  const done = await house.migrate('local', 'team-vault')
  t.match(done, { state: 'done', total: 4, moved: 4 })
  t.same(await house.whereabouts(), [
    'a@1 team-vault kept',
    'a@2 team-vault current',
    'b@1 team-vault current',
    'c@1 team-vault current',
  ])
  await house.finalize(done)
  t.same(await house.ground.sql('select from copies where token is not null'), [], 'no local token is left')
  await house.restore('b')
  t.same(
    [await house.value('a', 1), await house.value('a'), await house.value('b')],
    ['"a"', '"a two"', '"b"'],
  )
})

t.test('finalizing drops the sources, and the opposite store migration goes back', async (t) => {
  const house = await movingHouse(t)
  await house.fill('team-vault', ...NAMES)
  const done = await house.migrate('team-vault', 'aws-eu')
  t.equal(house.team.kept.size, 12)
  const finalized = await house.finalize(done)
  t.match(finalized, { state: 'finalized', moved: 12 })
  t.same(await house.ground.sql('select from store_migration_members'), [])
  t.equal(house.team.kept.size, 12, 'only the sweep deletes')
  await house.sweepTwice()
  t.equal(house.team.kept.size, 0)
  await t.rejects(house.rollback(done), { code: 'wrong_state' })

  const opposite = await house.migrate('aws-eu', 'team-vault')
  t.match(opposite, { state: 'done', moved: 12 })
  await house.finalize(opposite)
  await house.sweepTwice()
  t.same([house.team.kept.size, house.aws.kept.size], [12, 0])
  for (const name of NAMES) t.equal(await house.value(name), VALUES[name])
})

t.test('only the workspaces that are named move', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', 'a')
  const other = await house.another()
  await other.create(house.worker, 'b', '"b"')
  t.match(await house.migrate('local', 'team-vault', ['others']), { total: 1, moved: 1 })
  t.same(await house.whereabouts(), ['a@1 local current', 'b@1 team-vault current'])
})

t.test('what does not fit the target stays, and a run with such copies is done', async (t) => {
  const house = await movingHouse(t, { team: { valueBytesMax: 10 } })
  await house.fill('local', 'tiny', 'much-too-long-for-it')
  const done = await house.migrate('local', 'team-vault')
  t.match(done, { state: 'done', moved: 1, skipped: 1, failed: 0, failures: [] })
  t.same(done.stays, [
    { workspace: 'acme', credential: 'much-too-long-for-it', version: 1, code: 'too_large' },
  ])
  t.same(await house.whereabouts(), ['much-too-long-for-it@1 local current', 'tiny@1 team-vault current'])
  t.match(await house.rollback(done), { state: 'rolled_back' })
  t.same(await house.whereabouts(), ['much-too-long-for-it@1 local current', 'tiny@1 local current'])
})

t.test('links and members of another unfinished store migration stay, and the run says so', async (t) => {
  const house = await movingHouse(t, { team: { links: { acme: ['apps/acme/'] } } })
  house.team.kept.set('apps/acme/db', 'linked')
  await house.fill('team-vault', 'a', 'b')
  await house.vault.create(
    house.worker,
    'link',
    '',
    {},
    {
      content: { link: { store: 'team-vault', locator: 'apps/acme/db' } },
    },
  )
  const first = await house.migrate('team-vault', 'aws-eu')
  t.match(first, { state: 'done', total: 2, moved: 2, skipped: 1 })
  t.same(first.stays, [{ workspace: 'acme', credential: 'link', version: 1, code: 'link' }])
  await house.fill('aws-eu', 'c')
  const second = await house.migrate('aws-eu', 'local')
  t.match(second, { state: 'done', total: 1, moved: 1, skipped: 2 })
  t.same(
    second.stays.map(({ credential, code }) => [credential, code]),
    [
      ['a', 'other_migration'],
      ['b', 'other_migration'],
    ],
  )
  t.same(await house.whereabouts(), [
    'a@1 aws-eu current',
    'b@1 aws-eu current',
    'c@1 local current',
    'link@1 team-vault current',
  ])
  await house.rollback(first)
  t.equal(await house.value('link'), '"linked"')
  t.match(await house.migrate('team-vault', 'local'), { moved: 2 }, 'what was rolled back is free')
  await house.finalize(second)
  t.match(await house.migrate('local', 'aws-eu', ['acme']), { moved: 1 }, 'what was finalized is free')
})

t.test('a plan counts what would move and what stays, probes the target, and keeps nothing', async (t) => {
  const house = await movingHouse(t, {
    team: { valueBytesMax: 996, limits: { writesPerSecond: 2 }, links: { acme: ['apps/acme/'] } },
  })
  await house.fill('local', 'a', 'b', 'c')
  await house.vault.create(house.worker, 'long', JSON.stringify('x'.repeat(2000)))
  await house.vault.create(house.worker, 'just-fits', JSON.stringify('x'.repeat(994)))
  const plan = await house.plan({ from: 'local', to: 'team-vault' })
  t.match(plan, { from: 'local', to: 'team-vault', copies: 4, seconds: 2 })
  t.match(plan.groups, [{ workspace: 'acme', connector: 'source-postgres', copies: 4 }])
  t.ok(plan.bytes! >= 950 && plan.bytes! <= 1050, `${plan.bytes} is about 1,005 bytes, in blocks of 16`)
  t.same(plan.stays, [{ reason: 'too_large', copies: 1 }])
  t.match(
    house.team.calls.map((call) => call.replace(/[^/]*$/, '')),
    ['put strongroom/probe/', 'get strongroom/probe/', 'delete strongroom/probe/'],
  )
  t.notMatch(house.team.calls.at(-1), /for good$/, 'which some stores take their time for')
  t.equal(house.team.kept.size, 0)
  t.same(await house.ground.sql('select from store_migrations'), [])
  await house.sweepTwice()
  t.match(house.team.calls.slice(-2), [/for good$/, /for good$/])
  t.same(await house.ground.sql("select from copies where store = 'team-vault'"), [], 'not even the probe')

  await house.fill('aws-eu', 'outside')
  const outside = await house.plan({ from: 'aws-eu', to: 'local' })
  t.match(outside, { copies: 1, bytes: undefined, seconds: undefined })
  t.equal(outside.groups[0]!.bytes, undefined, 'only the store knows how long its values are')

  house.team.trouble.onCall = (call) => {
    if (call === 'delete') throw Object.assign(new Error(), { fault: 'denied' })
  }
  await t.rejects(house.plan({ from: 'local', to: 'team-vault' }), { code: 'store_unavailable' })
})

t.test(
  'a run, its failures and its end stand in the ledger and in the trail, and no value does',
  async (t) => {
    const house = await movingHouse(t)
    await house.fill('local', 'marked-7c1e')
    house.team.kept.set = () => house.team.kept
    const failed = await house.migrate('local', 'team-vault')
    t.match(failed, { state: 'failed', moved: 0, failed: 1 })
    await house.finalize(failed)
    const told = await house.read(failed)
    t.match(told, { state: 'finalized', failed: 1, failures: failed.failures }, 'the report outlives its run')
    const events = await eventsIn(house.ground, `action like 'store-migration:%'`)
    t.match(events, [
      {
        action: 'store-migration:move',
        outcome: 'failed',
        code: 'store_not_found',
        credential: 'marked-7c1e',
      },
      {
        action: 'store-migration:end',
        outcome: 'failed',
        detail: /"state":"failed".*"total":1,"moved":0,.*"failed":1/,
      },
      { action: 'store-migration:end', outcome: 'allowed', detail: /"state":"finalized"/ },
    ])
    const acts = await eventsIn(house.ground, `action = 'admin:stores'`)
    t.same(acts.map(({ detail }) => detail && JSON.parse(detail).what).filter(Boolean), ['start', 'finalize'])
    const rows = await house.ground.sql(
      `select row_to_json(m)::text as row from store_migrations m
     union all select row_to_json(s)::text from store_migration_stays s`,
    )
    t.equal(rows.length, 2)
    for (const { row } of rows) t.notMatch(row, /"\\"marked|[0-9a-f]{64}/)
  },
)

t.test('every end is told for good: copies over and back, how long, why some stay', async (t) => {
  const house = await movingHouse(t, { team: { valueBytesMax: 10 } })
  await house.fill('local', 'a', 'b', 'c', 'much-too-long-for-it')
  const ends = async () =>
    (await eventsIn(house.ground, `action = 'store-migration:end'`)).map(({ detail }) => JSON.parse(detail!))
  const underWay = async () => {
    house.team.trouble.onCall = (call) => {
      if (call === 'put') throw new StoreError('throttled', 'in the test')
    }
    const run = await house.start('local', 'team-vault')
    const working = house.work()
    t.ok(await eventually(async () => (await house.read(run)).throttled > 0))
    await house.ground.sql(
      `update store_migrations set running_since = running_since - interval '100 seconds' where state = 'running'`,
    )
    return { run, working }
  }
  const { run, working } = await underWay()
  t.ok((await house.read(run)).overSeconds! >= 100, 'while it runs')
  await house.cancel(run)
  await working
  house.team.trouble.onCall = undefined
  await house.ground.sql("update store_migrations set running_since = running_since - interval '1 hour'")
  await house.resume(run)
  await house.work()
  const done = await house.read(run)
  t.match(done, { state: 'done', moved: 3, movedOver: 3, movedBack: 0 })
  t.ok(done.overSeconds! >= 100 && done.overSeconds! < 1000, 'the hour between is not counted')

  await house.update('a', '"a two"')
  await house.rollback(run)
  await house.work()
  const back = await house.read(run)
  t.match(back, { state: 'rolled_back', moved: 0, movedOver: 3, movedBack: 4, overSeconds: done.overSeconds })
  const told = { store_migration: run.id, from: 'local', to: 'team-vault', total: 4 }
  const [cancelled, moved, undone] = await ends()
  t.match(cancelled, { ...told, state: 'cancelled', heading: 'over', moved: 0 })
  t.ok(cancelled.throttled > 0 && cancelled.duration_seconds >= 100)
  t.match(moved, { ...told, state: 'done', moved: 3, skipped: 1, throttled: cancelled.throttled })
  t.same([moved.failed_codes, moved.skipped_codes], [{}, { too_large: 1 }])
  t.equal(moved.rate_per_second, Math.round(30 / done.overSeconds!) / 10)
  t.match(undone, { ...told, state: 'rolled_back', heading: 'back', moved_over: 3, rollback: { moved: 4 } })
  t.equal(undone.duration_seconds, moved.duration_seconds)

  const second = await underWay()
  await house.rollback(second.run)
  await second.working
  const [stopped, ...more] = (await ends()).slice(3)
  t.match(stopped, { store_migration: second.run.id, state: 'cancelled', heading: 'over' })
  t.ok(stopped.duration_seconds >= 100)
  t.match(more, [{ store_migration: second.run.id, state: 'rolled_back', heading: 'back' }])
})
