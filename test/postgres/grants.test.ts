import fc from 'fast-check'
import t from 'tap'
import type { Grant, Subject } from '../../src/core/grants.ts'
import { allows, covers } from '../../src/core/grants.ts'
import { ownCall } from '../../src/core/calls.ts'
import { freshGround } from '../ground.ts'
import { openVault, someName } from '../vault.ts'

const ground = await freshGround(t)

const letter = fc.constantFrom('a', 'b')
const slug = fc.string({ unit: letter, minLength: 1, maxLength: 4 })
const slugPattern = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 4 })
const wideName = fc.string({ unit: fc.constantFrom('a', 'B', '_', '.', '-'), minLength: 1, maxLength: 5 })
const widePattern = fc.string({ unit: fc.constantFrom('a', 'B', '_', '.', '-', '*', '*'), maxLength: 5 })
const hostile = fc.constantFrom('a', '%', '_', '\\', "'", '"', '\n', '😀', 'é', '{')
const text = fc.string({ unit: hostile, maxLength: 5 })
const textPattern = fc.string({ unit: fc.oneof(hostile, fc.constant('*')), maxLength: 5 })
const key = fc.constantFrom('k', 'l')

const grants: fc.Arbitrary<Grant> = fc.record(
  {
    actions: fc.constant(['lease:issue']),
    workspaces: fc.array(slugPattern, { maxLength: 3 }),
    connectors: fc.array(slugPattern, { maxLength: 2 }),
    credentials: fc.array(widePattern, { maxLength: 2 }),
    labels: fc.dictionary(key, textPattern, { noNullPrototype: true }),
  },
  { requiredKeys: ['actions', 'workspaces'] },
)
const subjects: fc.Arbitrary<Subject> = fc.record({
  workspace: slug,
  connector: slug,
  name: wideName,
  labels: fc.dictionary(key, text, { noNullPrototype: true }),
})

// A label's pattern that is made from a label matches more often than chance would have it.
const pairs = fc.tuple(grants, subjects, fc.boolean()).map(([grant, subject, close]) => {
  if (!close) return { grant, subject }
  const labels = Object.fromEntries(
    Object.entries(subject.labels).map(([name, value]) => [name, value.replace(/[%a]/u, '*')]),
  )
  return { grant: { actions: grant.actions, workspaces: ['*'], labels }, subject }
})

t.test('the database judges every grant as the core does', async (t) => {
  const vault = await openVault(t, ground)
  const samples = fc.sample(pairs, 3000)
  const role = someName()
  await vault.ledger.transaction(ownCall('test', 30_000), undefined, async (tx) => {
    await tx.putRole(
      role,
      samples.map((sample) => sample.grant),
    )
  })
  const rows = await ground.sql(
    `select s.ordinality::integer - 1 as index,
       grant_covers(g.workspaces, g.connectors, g.credentials, g.labels, s.workspace, s.connector, s.name, s.labels) as covered
     from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[])
       with ordinality as s (workspace, connector, name, labels, ordinality)
     join roles r on r.name = $5 join role_grants g on g.role_id = r.id and g.ordinal = s.ordinality - 1
     order by s.ordinality`,
    [
      samples.map(({ subject }) => subject.workspace),
      samples.map(({ subject }) => subject.connector),
      samples.map(({ subject }) => subject.name),
      samples.map(({ subject }) => JSON.stringify(subject.labels)),
      role,
    ],
  )
  t.equal(rows.length, samples.length)
  const inCore = samples.map(({ grant, subject }) => covers(grant, subject))
  const different = rows.filter(({ index, covered }) => covered !== inCore[index])
  t.strictSame(
    different.slice(0, 3).map(({ index }) => samples[index]),
    [],
  )
  const covered = inCore.filter(Boolean).length
  t.ok(covered > 200 && covered < samples.length - 200, `${covered} of them are covered`)
})

t.test('the actions of a grant are the same to a lease, a list and the core', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName() })
  const owner = await vault.identityWith()
  await vault.create(owner, 'orders')
  const { workspace, call } = vault
  const subject = { workspace, connector: 'source-postgres', name: 'orders', labels: {} }
  for (const actions of [
    ['lease:*'],
    ['credential:*'],
    ['lease:issue'],
    ['lease:read', 'credential:read'],
    [],
  ]) {
    const grants = [{ actions, workspaces: [workspace] }]
    const someone = await vault.identityWith(grants)
    const leased = await vault.lease(someone, 'orders').then(
      () => true,
      () => false,
    )
    t.equal(leased, allows(grants, 'lease:issue', subject), `lease by ${actions}`)
    const page = await vault.credentials
      .list(call(), someone.caller, workspace, { labels: [], state: 'active' }, { limit: 9 })
      .catch(() => ({ items: [] }))
    t.equal(page.items.length === 1, allows(grants, 'credential:read', subject), `list by ${actions}`)
  }
})

t.test('grants add up: the longest time of those that lease counts, and no other', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName() })
  const owner = await vault.identityWith()
  await vault.create(owner, 'orders')
  const { workspace } = vault
  const worker = await vault.identityWith([
    { actions: ['lease:issue'], workspaces: [workspace], lease_ttl_seconds_max: 10 },
    { actions: ['lease:issue'], workspaces: [workspace], lease_ttl_seconds_max: 100 },
    { actions: ['lease:read'], workspaces: [workspace], lease_ttl_seconds_max: 1000 },
    {
      actions: ['lease:issue'],
      workspaces: [workspace],
      credentials: ['other'],
      lease_ttl_seconds_max: 1000,
    },
  ])
  const ttl = async (ttlSeconds?: number) =>
    (await vault.lease(worker, 'orders', { ttlSeconds })).lease.ttlSeconds
  t.equal(await ttl(3600), 100)
  t.equal(await ttl(5), 5)
  t.equal(await ttl(), 100)
  const free = await vault.identityWith([{ actions: ['lease:issue'], workspaces: ['*'] }])
  t.equal((await vault.lease(free, 'orders')).lease.ttlSeconds, 900)
  t.equal((await vault.lease(free, 'orders', { ttlSeconds: 3600 })).lease.ttlSeconds, 3600)
})
