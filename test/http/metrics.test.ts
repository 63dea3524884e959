import t from 'tap'
import { StoreError } from '../../src/core/secret-store.ts'
import type { Service } from '../service.ts'
import { ALL, startService } from '../service.ts'
import { rest, troubledStore } from '../troubled-store.ts'

const teamVault = await troubledStore(t, { links: { acme: ['apps/acme/'] } })
const brokenVault = await troubledStore(t, {
  seen: { name: 'broken-vault', prefix: 'broken' },
  tuning: { retriesMax: 0, breakerFailuresMax: 1, breakerRestMs: 3_600_000 },
})
const silentVault = await troubledStore(t, {
  seen: { name: 'silent-vault', prefix: 'silent' },
  tuning: { retriesMax: 0 },
})
silentVault.trouble.onCall = () => {
  throw new StoreError('unavailable', 'ECONNREFUSED')
}
const service = await startService(
  t,
  { storeCheckEveryMs: 3_600_000 },
  { stores: [teamVault.store, brokenVault.store, silentVault.store] },
)

/** As Prometheus asks: the answer is no JSON. */
async function scrape(token = service.adminToken) {
  const headers = { authorization: `Bearer ${token}` }
  const answer = await service.strongroom.adminApp.inject({ url: '/metrics', headers })
  return { status: answer.statusCode, type: answer.headers['content-type'], text: answer.body }
}

/** Each sample's number by its name and labels. */
async function samples(): Promise<Map<string, number>> {
  const { text } = await scrape()
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(' ')
      return [line.slice(0, at), Number(line.slice(at + 1))]
    }),
  )
}

async function grown(act: (service: Service) => Promise<unknown>): Promise<(sample: string) => number> {
  const before = await samples()
  await act(service)
  const after = await samples()
  return (sample) => (after.get(`strongroom_${sample}`) ?? 0) - (before.get(`strongroom_${sample}`) ?? 0)
}

const C = '/v1/workspaces/acme/credentials'
const worker = service.as(await service.identity('worker', [ALL]))
const value = { password: 'marked-in-metrics' }
await worker('POST', C, { name: 'named-by-a-caller', connector: 'source-postgres', value })

t.test('metrics are Prometheus text with what the process measures of itself', async (t) => {
  const { status, type, text } = await scrape()
  t.equal(status, 200)
  t.equal(type, 'text/plain; version=0.0.4; charset=utf-8')
  t.match(text, /^# TYPE strongroom_requests_total counter$/m)
  t.match(text, /^process_resident_memory_bytes [1-9]/m)
  t.match(text, /^nodejs_eventloop_lag_p99_seconds [0-9]/m)
})

t.test('leases are counted as granted, and as refused by their code', async (t) => {
  const by = await grown(async () => {
    await worker('POST', `${C}/named-by-a-caller/leases`)
    await worker('POST', `${C}/named-by-a-caller/leases`)
    await worker('POST', `${C}/missing/leases`)
    const credentials = ['named-by-a-caller', 'missing', 'missing-too']
    await worker('POST', '/v1/workspaces/acme/leases', { credentials })
  })
  t.equal(by('leases_granted_total'), 3)
  t.equal(by('leases_refused_total{code="not_found"}'), 3)
  t.equal(by('requests_total{operation="leaseCredential",status="201"}'), 2)
  t.equal(by('requests_total{operation="leaseCredential",status="404"}'), 1)
  t.equal((await samples()).get('strongroom_leases_waiting'), 0)
})

t.test('calls that are no events are counted: whoami, and those refused for their form', async (t) => {
  const by = await grown(async () => {
    await worker('GET', '/v1/whoami')
    await worker('POST', C, { nonsense: 1 })
    await worker('POST', `${C}/named-by-a-caller/leases`, { ttl_seconds: 'long' })
    await service.as(undefined)('POST', C, { nonsense: 1 })
  })
  t.equal(by('calls_unrecorded_total{operation="whoAmI",reason="whoami"}'), 1)
  t.equal(by('calls_unrecorded_total{operation="createCredential",reason="form"}'), 1)
  t.equal(by('calls_unrecorded_total{operation="leaseCredential",reason="form"}'), 1)
})

t.test('every failed authentication is counted, though few are events', async (t) => {
  const nobody = service.as(undefined)
  const by = await grown(async () => {
    for (let times = 0; times < 5; times++) await nobody('GET', '/v1/whoami')
  })
  t.equal(by('authentications_failed_total'), 5)
  t.equal(by('requests_total{operation="whoAmI",status="401"}'), 5)
})

t.test('copies are counted by key, and the newest rotation with its state', async (t) => {
  t.notMatch((await scrape()).text, /strongroom_rotation_state\{/)
  const [key] = (await service.admin('GET', '/v1/admin/keys')).json.items
  t.equal(
    (await samples()).get(`strongroom_copies{key_id="${key.id}",sealing="true"}`),
    key.copies,
    'as the keys say',
  )
  t.equal((await samples()).get(`strongroom_key_processes{key_id="${key.id}"}`), 1)
  await service.admin('POST', '/v1/admin/rotations', {})
  const states = ['running', 'done', 'failed', 'cancelled']
  const found = await samples()
  const of = states.map((state) => found.get(`strongroom_rotation_state{state="${state}"}`))
  t.equal(
    of.reduce((sum, one) => sum! + one!),
    1,
  )
  t.equal(found.get('strongroom_rotation_copies{outcome="total"}'), 0)
})

t.test(
  'an external store is reachable or not, and its breaker is in one state, as this process found them',
  async (t) => {
    brokenVault.trouble.onCall = () => {
      throw new StoreError('unavailable', 'ECONNREFUSED')
    }
    const broken = { name: 'outside', connector: 'source-postgres', store: 'broken-vault', value }
    t.match(await worker('POST', C, broken), { status: 503, json: { code: 'store_unavailable' } })
    const found = await samples()
    const breakerOf = (store: string) =>
      ['closed', 'open', 'half_open'].map((state) =>
        found.get(`strongroom_store_breaker{store="${store}",state="${state}"}`),
      )
    t.equal(found.get('strongroom_store_reachable{store="team-vault"}'), 1)
    t.equal(found.get('strongroom_store_reachable{store="broken-vault"}'), 0)
    t.equal(found.get('strongroom_store_reachable{store="silent-vault"}'), 0, 'which is known from the start')
    t.strictSame(silentVault.calls, ['check'])
    t.strictSame(breakerOf('team-vault'), [1, 0, 0])
    t.strictSame(breakerOf('broken-vault'), [0, 1, 0])
    t.notOk(found.has('strongroom_store_reachable{store="local"}'), 'the ledger itself is nobody else')
  },
)

t.test(
  'copies are counted by the store that they lie in and their state, links not among them',
  async (t) => {
    const outside = { connector: 'source-postgres', store: 'team-vault' }
    await worker('PUT', `${C}/moves-later`, { ...outside, value: 1 })
    await worker('PUT', `${C}/moves-later`, { ...outside, value: 2 })
    const link = { store: 'team-vault', locator: 'apps/acme/db' }
    t.equal((await worker('PUT', `${C}/linked`, { connector: 'source-postgres', link })).status, 201)
    const found = await samples()
    t.equal(found.get('strongroom_store_copies{store="team-vault",state="current"}'), 1)
    t.equal(found.get('strongroom_store_copies{store="team-vault",state="kept"}'), 1)
    const { items } = (await service.admin('GET', '/v1/admin/stores')).json
    for (const { name, copies } of items) {
      for (const [state, count] of Object.entries(copies))
        t.equal(
          found.get(`strongroom_store_copies{store="${name}",state="${state}"}`),
          count,
          `${name}: ${state}`,
        )
    }
  },
)

t.test(
  'of store migrations the one that runs is shown, else the newest, with its state and its copies',
  async (t) => {
    t.notMatch((await scrape()).text, /strongroom_store_migration_state\{/)
    const inState = async () =>
      [...(await samples())]
        .filter(([name, number]) => name.startsWith('strongroom_store_migration_state') && number === 1)
        .map(([name]) => /state="(\w+)"/.exec(name)?.[1])
    const order = { from: 'team-vault', to: 'local' }
    const { json: begun } = await service.admin('POST', '/v1/admin/store-migrations', order)
    while ((await inState())[0] !== 'done') await rest(20)
    const found = await samples()
    const outcomes = ['total', 'moved', 'skipped', 'failed']
    t.strictSame(
      outcomes.map((outcome) => found.get(`strongroom_store_migration_copies{outcome="${outcome}"}`)),
      [2, 2, 1, 0],
    )
    await service.admin('POST', `/v1/admin/store-migrations/${begun.id}/finalize`)
    t.strictSame(await inState(), ['finalized'])
    // An older one that runs again, between stores that this process does not have: nobody works on it here.
    await service.ground.sql(
      `insert into store_migrations (id, from_store, to_store, state, heading, total, started_by)
     values ('00000000-0000-7000-8000-000000000000', 'one', 'another', 'running', 'back', 7, 'somebody')`,
    )
    t.strictSame(await inState(), ['running'])
    t.equal((await samples()).get('strongroom_store_migration_copies{outcome="total"}'), 7)
  },
)

t.test(
  "no label and no line holds a name that a caller chose; those of stores are the operator's",
  async (t) => {
    for (const path of ['/v1/no-such-path-of-mine', `${C}/named-by-a-caller`, `${C}/another-name`])
      await worker('GET', path)
    const { text } = await scrape()
    t.notMatch(text, /named-by-a-caller|another-name|moves-later|linked|acme|worker|no-such-path|marked/)
    t.match(text, /operation="none",status="404"/)
  },
)

t.test('metrics are for whoever has admin:health, and each look is an event', async (t) => {
  const token = await service.identity('observer', [{ actions: ['admin:health'], workspaces: ['*'] }])
  t.equal((await scrape(token)).status, 200)
  const other = await service.identity('keys-only', [{ actions: ['admin:keys'], workspaces: ['*'] }])
  t.match(await scrape(other), { status: 403, text: /admin:health/ })
  const { json } = await service.admin('GET', '/v1/admin/audit?action=admin:health&identity=keys-only')
  t.match(json.items, [{ outcome: 'refused', code: 'forbidden' }])
})
