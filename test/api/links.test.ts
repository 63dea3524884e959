import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { Json } from '../service.ts'
import { ALL, startService } from '../service.ts'
import { rest, troubledStore } from '../troubled-store.ts'
import { eventually } from '../eventually.ts'
import { eventsIn } from '../vault.ts'

const C = '/v1/workspaces/acme/credentials'
const CACHE_SECONDS = 2
let edition = 1
const vault = await troubledStore(t, {
  cacheSeconds: CACHE_SECONDS,
  alter: (inner) => ({
    read: async (locator) => ({ ...(await inner.read(locator)), version: `v${edition}` }),
  }),
  seen: {
    // The stores file refuses to open what lies under a prefix of Strongroom's own; the core does not rely on it.
    links: { acme: ['apps/acme/', 'strongroom/', 'STRONGROOM/', 'Little/'], globex: ['apps/globex/'] },
  },
})
const flat = await troubledStore(t, {
  seen: {
    name: 'flat',
    prefix: 'little/eu',
    segment: /^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$/,
    links: { acme: ['apps/acme/'] },
  },
})
const service = await startService(
  t,
  { settleEveryMs: 50, storeCheckEveryMs: 3_600_000 },
  { stores: [vault.store, flat.store] },
)
const writer = service.as(await service.identity('writer', [ALL]))
const connector = 'source-postgres'
const link = (locator: string, more: object = {}) => ({ store: 'team-vault', locator, ...more })
const make = (name: string, to: object) => writer('PUT', `${C}/${name}`, { connector, link: to })
const lease = (name: string, body = {}) => writer('POST', `${C}/${name}/leases`, body)
const valueAt = async (name: string, text: string, field?: string) => {
  vault.kept.set(`apps/acme/${name}`, text)
  await make(name, link(`apps/acme/${name}`, field === undefined ? {} : { field }))
  return lease(name)
}

t.test(
  'a link is answered without its value, in one and in lists, and is read when it is leased',
  async (t) => {
    const made = await make('shown', link('apps/acme/shown', { field: 'password' }))
    t.equal(made.status, 201, 'also where nothing is kept yet')
    const shown = { kind: 'link', store: 'team-vault', version: 1, link: made.json.link }
    t.same(made.json.link, { store: 'team-vault', locator: 'apps/acme/shown', field: 'password' })
    t.match((await writer('GET', `${C}/shown`)).json, shown)
    t.match((await writer('GET', `${C}?name_prefix=shown&store=team-vault`)).json.items, [shown])
    t.match((await writer('PATCH', `${C}/shown`, { labels: { a: 'b' } })).json, { ...shown, changed: true })
    t.notOk(vault.calls.includes('read apps/acme/shown'))
    const missing = await lease('shown')
    t.match([missing.status, missing.json.code, missing.json.store], [502, 'store_not_found', 'team-vault'])
    vault.kept.set('apps/acme/shown', '{"password":"one"}')
    t.equal((await lease('shown')).json.value, 'one')
    await writer('DELETE', `${C}/shown`)
    t.match((await writer('GET', `${C}?state=deleted`)).json.items, [shown])
    t.match((await writer('POST', `${C}/shown/restore`)).json, shown)
  },
)

t.test('a link’s lease says which version was read and when, at once and later', async (t) => {
  edition = 7
  const before = Date.now()
  const { status, json } = await valueAt('noted', '"text"')
  t.equal(status, 201)
  t.equal(json.lease.store_version, 'v7')
  t.ok(Date.parse(json.lease.read_at) >= before && Date.parse(json.lease.read_at) <= Date.now())
  const later = (await writer('GET', `/v1/leases/${json.lease.id}`)).json
  t.match(later, { store_version: 'v7', read_at: json.lease.read_at })
  const batch = await writer('POST', '/v1/workspaces/acme/leases', { credentials: ['noted'] })
  t.match(batch.json.results, [{ lease: { store_version: 'v7' }, value: '"text"' }])
  await writer('PUT', `${C}/stored`, { connector, value: 1 })
  t.notOk('read_at' in (await lease('stored')).json.lease, 'only of links')
})

t.test('what is read is remembered for its time to live, and then read again', async (t) => {
  const first = (await valueAt('brief', 'old')).json
  vault.kept.set('apps/acme/brief', 'new')
  const again = (await lease('brief')).json
  t.same([again.value, again.lease.read_at], ['old', first.lease.read_at], 'it says when that was')
  await rest(CACHE_SECONDS * 1000 + 50)
  const later = (await lease('brief')).json
  t.equal(later.value, 'new')
  t.ok(later.lease.read_at > first.lease.read_at)
})

t.test(
  'a JSON object or array is the value, any other text is a text, and a field is its member',
  async (t) => {
    const wholes: [text: string, value: unknown][] = [
      ['{"b":1,"a":[null]}', { b: 1, a: [null] }],
      [' [1, 2]\n', [1, 2]],
      ['pass word\n', 'pass word\n'],
      ['', ''],
      ['12345', '12345'],
      ['null', 'null'],
      ['"quoted"', '"quoted"'],
      ['{"cut', '{"cut'],
    ]
    for (const [index, [text, value]] of wholes.entries()) {
      const { status, json } = await valueAt(`whole-${index}`, text)
      t.equal(status, 201, text)
      t.same(json.value, value, text)
    }
    const secret =
      '{"text":"one","null":null,"list":[1],"exact":12345678901234567890,"exacts":{"a":[1.10,-0,1e400]},"toString":"own"}'
    const members: [field: string, value: string][] = [
      ['text', '"one"'],
      ['null', 'null'],
      ['list', '[1]'],
      ['exact', '12345678901234567890'],
      ['exacts', '{"a":[1.10,-0,1e400]}'],
      ['toString', '"own"'],
    ]
    for (const [field, value] of members) {
      const { text } = await valueAt(`member-${field}`, secret, field)
      t.ok(text.endsWith(`"value":${value}}`), `${field}: ${text}`)
    }
  },
)

t.test('a secret that cannot be the value is store_rejected, and nothing of it is told', async (t) => {
  const deep = `${'['.repeat(5000)}${']'.repeat(5000)}`
  const wrong: [text: string, field?: string][] = [
    ['{"other":"Zsecret"}', 'password'],
    ['Zsecret', 'password'],
    ['["Zsecret"]', '0'],
    ['{}', 'toString'],
    ['{}', '__proto__'],
    [`"${'Zsecret'.repeat(5000)}"`],
    [deep],
    [`{"a":${deep}}`, 'a'],
  ]
  for (const [index, [text, field]] of wrong.entries()) {
    const refused = await valueAt(`wrong-${index}`, text, field)
    t.match([refused.status, refused.json.code, refused.json.store], [502, 'store_rejected', 'team-vault'])
    t.notMatch(refused.text, 'Zsecret')
  }
  t.notMatch(service.log(), 'Zsecret')
})

const REFUSED = [
  '',
  'apps/acme',
  'apps/acme/',
  '/apps/acme/db',
  'apps/acme-evil/db',
  'apps/acme.evil/db',
  'apps/globex/db',
  'apps/acme/../globex/db',
  'apps/acme/./db',
  'apps/acme//db',
  'apps/acme/..',
  'apps/acme/%2e%2e/globex/db',
  'apps/acme/..%2fglobex/db',
  'apps/acme/db?version=1',
  'apps/acme/db#password',
  'apps\\acme\\db',
  'apps/acme/d b',
  'apps/acme/db\n',
  ' apps/acme/db',
  'apps/acme/dé',
  'Apps/acme/db',
  'APPS/ACME/db',
  'arn:aws:secretsmanager:eu-west-1:123456789012:secret:apps/acme/db',
  'projects/other/secrets/db',
  'projects/other/secrets/db/versions/1',
  'https://vault.internal/apps/acme/db',
  'strongroom',
  `strongroom/acme/${randomUUID()}`,
  `STRONGROOM/acme/${randomUUID()}`,
  `Little/eu/acme/${randomUUID()}`,
]

t.test('what is not opened to the workspace is refused before the store is called', async (t) => {
  const before = [...vault.calls, ...flat.calls]
  for (const locator of REFUSED) {
    for (const method of ['POST', 'PUT']) {
      const asked = { connector, link: link(locator), ...(method === 'POST' && { name: 'refused' }) }
      const { status, json } = await writer(method, method === 'POST' ? C : `${C}/refused`, asked)
      t.match([status, json.code, json.store], [403, 'link_refused', 'team-vault'], locator)
    }
  }
  for (const locator of ['apps/acme/a--b', 'apps/acme/-a', 'apps/acme/a.b', 'apps/acme/a_b']) {
    const { json } = await make('refused', { store: 'flat', locator })
    t.match([json.code, json.store], ['link_refused', 'flat'], locator)
  }
  t.equal((await make('flat', { store: 'flat', locator: 'apps/acme/a-b' })).status, 201)
  t.equal((await make('refused', { store: 'local', locator: 'a/b' })).json.code, 'link_refused')
  const unknown = await make('refused', { store: 'nowhere', locator: 'apps/acme/db' })
  t.match([unknown.json.code, unknown.json.errors[0].pointer], ['unknown_name', '/link/store'])
  t.same([...vault.calls, ...flat.calls], before)
  const events = await eventsIn(service.ground, `code = 'link_refused'`)
  t.equal(events.length, REFUSED.length * 2 + 5)
  t.ok(events.every(({ outcome }) => outcome === 'refused'))
})

t.test('a workspace reads only under its own prefixes, whatever is cached for another', async (t) => {
  const G = '/v1/workspaces/globex/credentials'
  t.equal((await valueAt('private', 'one')).status, 201)
  const asked = (locator: string) => writer('PUT', `${G}/theirs`, { connector, link: link(locator) })
  t.equal((await asked('apps/acme/private')).json.code, 'link_refused')
  t.equal((await asked('apps/globex/private')).status, 201)
  t.equal((await writer('POST', `${G}/theirs/leases`)).json.code, 'store_not_found')
})

t.test(
  'a link that is no longer opened is refused when it is leased, and its lease has failed',
  async (t) => {
    const { id } = (await valueAt('closed', 'one')).json.lease
    await service.ground.sql(`update copies set locator = 'apps/globex/c' where locator = 'apps/acme/closed'`)
    const before = vault.calls.length
    t.match(await lease('closed'), { status: 403, json: { code: 'link_refused', store: 'team-vault' } })
    t.equal(vault.calls.length, before)
    const failed = async () => eventsIn(service.ground, `credential = 'closed' and code = 'link_refused'`)
    t.ok(await eventually(async () => (await failed()).length === 1))
    const [event] = await failed()
    t.equal((await writer('GET', `/v1/leases/${event!.lease}`)).json.state, 'failed')
    const renewal = await writer('POST', `/v1/leases/${id}/renew`)
    t.match(renewal, { status: 403, json: { code: 'link_refused' } }, 'nor is an older lease renewed')
  },
)

t.test('only PUT of the credential points a link elsewhere, as a new version', async (t) => {
  const first = await valueAt('pointed', 'one')
  vault.kept.set('apps/acme/other', '{"a":"two"}')
  t.match((await make('pointed', link('apps/acme/pointed'))).json, { version: 1, changed: false })
  const other = link('apps/acme/other', { field: 'a' })
  const moved = await make('pointed', other)
  t.match(moved.json, { version: 2, changed: true, link: other })
  t.equal(moved.headers['etag'], '"2"')
  t.match((await make('pointed', other)).json, { version: 2, changed: false, link: other })
  t.equal((await lease('pointed')).json.value, 'two')
  t.match((await lease('pointed', { version: 1 })).json, { value: 'one', lease: { superseded: true } })
  t.equal((await writer('GET', `/v1/leases/${first.json.lease.id}`)).json.superseded, true)
  const { items } = (await writer('GET', `${C}/pointed/versions`)).json
  t.same(
    items.map((one: Json) => [one.version, one.state, one.store, 'key_id' in one]),
    [
      [2, 'current', 'team-vault', false],
      [1, 'kept', 'team-vault', false],
    ],
  )
  const elsewhere = await make('pointed', { store: 'flat', locator: 'apps/acme/other' })
  t.match([elsewhere.status, elsewhere.json.code], [409, 'not_changeable'])
  const late = await writer('PUT', `${C}/pointed`, { connector, link: other }, { 'if-match': '"1"' })
  t.equal(late.json.code, 'version_mismatch')
  t.equal((await writer('DELETE', `${C}/pointed/versions/1`)).status, 204)
  t.equal((await lease('pointed', { version: 1 })).json.code, 'version_gone')
})

t.test('neither a link becomes a value nor a value a link, and a link has no value to write', async (t) => {
  await valueAt('fixed', 'one')
  await writer('PUT', `${C}/valued`, { connector, value: 1, store: 'team-vault' })
  const before = vault.calls.length
  const refusals = [
    await writer('PUT', `${C}/fixed`, { connector, value: 1 }),
    await make('valued', link('apps/acme/fixed')),
    await writer('PUT', `${C}/fixed/value`, { value: 1 }),
    await writer('PATCH', `${C}/fixed/value`, { value: { a: 1 } }),
    await writer('POST', `${C}/fixed/versions/1/promote`),
  ]
  for (const { status, json } of refusals) t.match([status, json.code], [409, 'not_changeable'])
  t.equal(vault.calls.length, before)
  t.match((await writer('GET', `${C}/fixed`)).json, { kind: 'link', version: 1 })
})

t.test('a credential has a value or a link, and a link names its store itself', async (t) => {
  const to = link('apps/acme/db')
  for (const body of [
    {},
    { value: 1, link: to },
    { link: { store: 'team-vault' } },
    { link: { locator: 'apps/acme/db' } },
    { link: { ...to, version: '1' } },
    { link: null },
    { link: to, store: 'flat' },
  ]) {
    t.equal((await writer('POST', C, { name: 'formless', connector, ...body })).status, 400)
    t.equal((await writer('PUT', `${C}/formless`, { connector, ...body })).status, 400)
  }
  const named = await writer('PUT', `${C}/twice-named`, { connector, link: to, store: 'team-vault' })
  t.equal(named.status, 201)
})

t.test('a deleted link’s secret is nobody’s to delete', async (t) => {
  await valueAt('purged', 'one')
  t.equal((await writer('DELETE', `${C}/purged?purge=true`)).status, 204)
  await service.ground.sql(`update copies set dropped_at = dropped_at - interval '1 hour'`)
  await service.strongroom.sweep.run()
  t.same(await service.ground.sql(`select from copies where locator = 'apps/acme/purged'`), [])
  t.equal(vault.kept.get('apps/acme/purged'), 'one')
  t.notOk(vault.calls.some((call) => call.startsWith('delete')))
})
