import t from 'tap'
import { StoreError } from '../../src/core/secret-store.ts'
import type { Answer, Json } from '../service.ts'
import { ALL, startService } from '../service.ts'
import { troubledStore } from '../troubled-store.ts'
import { eventually } from '../eventually.ts'

const M = '/v1/admin/store-migrations'
const UNKNOWN = `${M}/0198c0de-0000-7000-8000-000000000000`
const CHANGES = ['cancel', 'resume', 'rollback', 'finalize']
const QUICK = { retriesMax: 0 }

const team = await troubledStore(t, { tuning: QUICK, limits: { writesPerSecond: 1000 } })
const aws = await troubledStore(t, { name: 'aws-eu' })
const service = await startService(
  t,
  { relocationEveryMs: 20, relocationGiveUpMs: 200 },
  { stores: [team.store, aws.store] },
)
const { admin, ground } = service
const worker = service.as(await service.identity('worker', [ALL]))
for (const workspace of ['acme', 'globex']) {
  for (const name of ['a', 'b'])
    await worker('PUT', `/v1/workspaces/${workspace}/credentials/${name}`, { connector: 'c', value: name })
}

const codeOf = ({ status, json }: Answer): unknown[] => [status, json.code]
const post = (body: unknown) => admin('POST', M, body)
const change = (id: string, what: string) => admin('POST', `${M}/${id}/${what}`)
const ended = async (id: string): Promise<Json> => {
  await eventually(async () => (await admin('GET', `${M}/${id}`)).json.state !== 'running', 10_000)
  return (await admin('GET', `${M}/${id}`)).json
}
const storeOf = async (workspace: string) =>
  (await worker('GET', `/v1/workspaces/${workspace}/credentials/a`)).json.store

t.test('a dry run answers the plan with 200 and keeps nothing', async (t) => {
  const planned = await post({ from: 'local', to: 'team-vault', dry_run: true })
  t.equal(planned.status, 200)
  t.notOk(planned.headers['location'])
  const { plan } = planned.json
  t.same(Object.keys(planned.json), ['plan'])
  t.match(plan, { from: 'local', to: 'team-vault', copies: 4, bytes: Number, seconds: 1, stays: [] })
  t.notOk('workspaces' in plan)
  t.match(plan.groups, [
    { workspace: 'acme', connector: 'c', copies: 2 },
    { workspace: 'globex', connector: 'c', copies: 2 },
  ])
  const of = await post({ from: 'local', to: 'team-vault', workspaces: ['acme'], dry_run: true })
  t.match(of.json.plan, { workspaces: ['acme'], copies: 2, groups: [{ workspace: 'acme' }] })
  for (const table of ['store_migrations', 'store_migration_members', 'store_migration_stays'])
    t.same(await ground.sql(`select from ${table}`), [], `${table} is empty`)
  t.same(
    await ground.sql("select from copies where store <> 'local' and state <> 'dropped'"),
    [],
    'only what is to be swept is left of the probe',
  )
  t.same(team.kept.size, 0)
  t.same((await admin('GET', M)).json, { items: [], next: null })
})

t.test('a dry run says what is wrong with the target', async (t) => {
  t.teardown(() => (team.trouble.onCall = undefined))
  for (const [fault, status] of [
    ['denied', 502],
    ['rejected', 502],
    ['throttled', 503],
    ['unavailable', 503],
  ] as const) {
    team.trouble.onCall = () => {
      throw new StoreError(fault, 'in the test')
    }
    const answer = await post({ from: 'local', to: 'team-vault', dry_run: true })
    t.same(codeOf(answer), [status, `store_${fault}`])
    t.equal(answer.json.store, 'team-vault')
  }
})

t.test('what names nothing, and what leads nowhere, is 400', async (t) => {
  for (const dry_run of [true, false]) {
    const wrong: [object, string, string][] = [
      [{ from: 'none', to: 'local' }, 'unknown_name', '/from'],
      [{ from: 'local', to: 'none' }, 'unknown_name', '/to'],
      [{ from: 'local', to: 'aws-eu', workspaces: ['acme', 'none'] }, 'unknown_name', '/workspaces/1'],
      [{ from: 'local', to: 'local' }, 'invalid_request', '/to'],
    ]
    for (const [body, code, pointer] of wrong) {
      const answer = await post({ ...body, dry_run })
      t.same(codeOf(answer), [400, code])
      t.equal(answer.json.errors[0].pointer, pointer)
    }
  }
  for (const body of [
    {},
    { from: 'local' },
    { from: 'local', to: 'aws-eu', more: 1 },
    { from: 'local', to: 'aws-eu', workspaces: [] },
    { from: 'Local', to: 'aws-eu' },
    { from: 'local', to: 'aws-eu', dry_run: 'true' },
    undefined,
  ])
    t.equal((await post(body)).status, 400)
  t.same(await ground.sql('select from store_migrations'), [])
})

t.test('a run is accepted with 202 and its place, moves, and is rolled back', async (t) => {
  const begun = await post({ from: 'local', to: 'team-vault', workspaces: ['acme'] })
  const { id } = begun.json
  t.match([begun.status, begun.headers['location']], [202, `${M}/${id}`])
  t.match(begun.json, { state: 'running', heading: 'over', from: 'local', to: 'team-vault', total: 2 })
  t.match(begun.json, {
    moved: 0,
    skipped: 0,
    failed: 0,
    throttled: 0,
    started_by: 'admin',
    started_at: /Z$/,
  })
  t.notOk('finished_at' in begun.json)
  const done = await ended(id)
  t.match(done, { state: 'done', workspaces: ['acme'], moved: 2, failures: [], stays: [], finished_at: /Z$/ })
  t.match(done, { moved_over: 2, duration_seconds: Number, rate_per_second: Number })
  t.notOk('rollback' in done)
  t.same([await storeOf('acme'), await storeOf('globex')], ['team-vault', 'local'])

  const back = await change(id, 'rollback')
  t.match([back.status, back.json.state], [200, 'rolled_back'])
  const { duration_seconds, rate_per_second } = done
  const rollback = { moved: 2, duration_seconds: Number, rate_per_second: Number }
  t.match(back.json, { moved: 0, moved_over: 2, duration_seconds, rate_per_second, rollback })
  t.equal(await storeOf('acme'), 'local')
  const again = await change(id, 'rollback')
  t.same([again.status, again.json], [200, back.json], 'again the same')
  for (const what of ['cancel', 'resume', 'finalize'])
    t.same(codeOf(await change(id, what)), [409, 'wrong_state'])
})

t.test('each change may be asked for again, and does nothing then', async (t) => {
  team.trouble.onCall = (call) => {
    if (call === 'put') throw new StoreError('throttled', 'in the test')
  }
  const { id } = (await post({ from: 'local', to: 'team-vault' })).json
  t.same(codeOf(await post({ from: 'aws-eu', to: 'local' })), [409, 'already_running'])
  t.same(codeOf(await change(id, 'finalize')), [409, 'wrong_state'])
  t.equal((await change(id, 'resume')).json.state, 'running', 'it runs already')
  const cancelled = await change(id, 'cancel')
  t.match([cancelled.status, cancelled.json.state], [200, 'cancelled'])
  t.same((await change(id, 'cancel')).json, cancelled.json)

  team.trouble.onCall = undefined
  t.match((await change(id, 'resume')).json, { id, state: 'running', heading: 'over' })
  t.match(await ended(id), { state: 'done', moved: 4 })
  for (const what of ['cancel', 'resume']) t.same(codeOf(await change(id, what)), [409, 'wrong_state'])
  t.equal((await change(id, 'finalize')).status, 200)
  const finalized = await ended(id)
  t.match(finalized, { state: 'finalized', moved: 4 })
  t.same((await change(id, 'finalize')).json, finalized)
  for (const what of ['cancel', 'resume', 'rollback'])
    t.same(codeOf(await change(id, what)), [409, 'wrong_state'])
  const unchanged = await ground.sql(
    `select detail::json ->> 'what' as what from audit_events
     where detail like '%${id}%' and mark = 'unchanged' order by id`,
  )
  t.same(
    unchanged.map((row) => row.what),
    ['resume', 'cancel', 'finalize'],
  )
})

t.test('while one runs no other starts, goes on, goes back or closes', async (t) => {
  const first = (await post({ from: 'team-vault', to: 'local', workspaces: ['acme'] })).json
  t.match(await ended(first.id), { state: 'done', moved: 2 })
  aws.trouble.onCall = (call) => {
    if (call === 'put') throw new StoreError('throttled', 'in the test')
  }
  const second = (await post({ from: 'team-vault', to: 'aws-eu' })).json
  t.equal(second.state, 'running')
  for (const what of ['rollback', 'finalize'])
    t.same(codeOf(await change(first.id, what)), [409, 'already_running'])
  await change(second.id, 'cancel')
  for (const { id } of [first, second]) {
    t.equal((await change(id, 'rollback')).status, 200)
    t.equal((await ended(id)).state, 'rolled_back')
  }
  aws.trouble.onCall = undefined
})

t.test('runs are listed newest first, in pages', async (t) => {
  const all = (await admin('GET', M)).json
  t.equal(all.next, null)
  t.same(
    all.items.map((one: Json) => [one.from, one.to, one.state]),
    [
      ['team-vault', 'aws-eu', 'rolled_back'],
      ['team-vault', 'local', 'rolled_back'],
      ['local', 'team-vault', 'finalized'],
      ['local', 'team-vault', 'rolled_back'],
    ],
  )
  const paged: Json[] = []
  for (let next: string | null = ''; next !== null;) {
    const { json } = await admin('GET', `${M}?limit=1${next && `&after=${next}`}`)
    paged.push(...json.items)
    next = json.next
  }
  t.same(paged, all.items)
})

t.test('it takes admin:stores, and what is not there is 404', async (t) => {
  const { id } = (await admin('GET', M)).json.items[0]
  const wide = ['admin:keys', 'admin:leases', 'admin:workspaces'] as const
  const other = service.adminAs(await service.identity('other', [{ actions: [...wide], workspaces: ['*'] }]))
  const keeper = service.adminAs(
    await service.identity('keeper', [{ actions: ['admin:stores'], workspaces: ['*'] }]),
  )
  const asked: [string, string, object?][] = [
    ['POST', M, { from: 'local', to: 'team-vault' }],
    ['POST', M, { from: 'local', to: 'team-vault', dry_run: true }],
    ['GET', M],
    ['GET', `${M}/${id}`],
    ...CHANGES.map((what): [string, string] => ['POST', `${M}/${id}/${what}`]),
  ]
  for (const [method, url, body] of asked) {
    t.same(codeOf(await other(method, url, body)), [403, 'forbidden'], `${method} ${url}`)
    t.equal((await service.adminAs(undefined)(method, url, body)).status, 401)
    t.equal((await worker(method, url, body)).status, 404, 'it is not on the service listener')
  }
  t.equal((await keeper('GET', `${M}/${id}`)).status, 200)
  for (const place of [UNKNOWN, `${M}/none`]) {
    t.same(codeOf(await admin('GET', place)), [404, 'not_found'])
    for (const what of CHANGES) t.same(codeOf(await admin('POST', `${place}/${what}`)), [404, 'not_found'])
  }
})

t.test('what only a dead target has is purged and made anew, and its rollback ends', async (t) => {
  const C = '/v1/workspaces/acme/credentials'
  const { id } = (await post({ from: 'team-vault', to: 'aws-eu', workspaces: ['acme'] })).json
  t.match(await ended(id), { state: 'done', moved: 2 })
  await worker('PUT', `${C}/a/value`, { value: 'a two' })
  aws.trouble.onCall = () => {
    throw new StoreError('unavailable', 'in the test')
  }
  await change(id, 'rollback')
  const stuck = await ended(id)
  const failures = [{ workspace: 'acme', credential: 'a', version: 2, code: 'store_unavailable' }]
  t.match(stuck, { state: 'failed', heading: 'back', failures })
  t.equal((await worker('POST', `${C}/b/leases`, {})).json.value, 'b', 'all others are where they were')
  t.same(codeOf(await worker('PUT', `${C}/a/value`, { value: 'a three' })), [503, 'store_unavailable'])

  t.equal((await worker('DELETE', `${C}/a?purge=true`)).status, 204)
  const anew = { connector: 'c', value: 'a three', store: 'local' }
  t.equal((await worker('PUT', `${C}/a`, anew)).status, 201)
  await change(id, 'rollback')
  t.match(await ended(id), { state: 'rolled_back', failed: 0, rollback: { moved: 2 } })
  t.equal((await worker('POST', `${C}/a/leases`, {})).json.value, 'a three')
})
