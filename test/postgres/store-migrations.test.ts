import t from 'tap'
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
  t.equal(house.team.kept.size, 0)
  t.same(await house.ground.sql('select from store_migrations'), [])
  await house.sweepTwice()
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
