import t from 'tap'
import { ALL, startService } from '../service.ts'

const C = '/v1/workspaces/acme/credentials'
const service = await startService(t)
const writer = service.as(await service.identity('writer', [ALL]))
const input = { connector: 'source-postgres', value: { password: 'one' } }

t.test('what is made says where it is, and is answered without its value', async (t) => {
  const made = await writer('POST', C, { name: 'made', ...input })
  t.equal(made.status, 201)
  t.equal(made.headers['location'], `${C}/made`)
  t.equal(made.headers['etag'], '"1"')
  const { id, created_at: createdAt, updated_at: updatedAt, changed, ...rest } = made.json
  t.same(rest, {
    workspace: 'acme',
    name: 'made',
    connector: 'source-postgres',
    kind: 'stored',
    store: 'local',
    version: 1,
    state: 'active',
    labels: {},
    created_by: 'writer',
  })
  t.equal(changed, true)
  t.equal(createdAt, updatedAt)
  t.match(createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.match(id, /^[0-9a-f-]{36}$/)
  const read = await writer('GET', made.headers['location']!)
  t.equal(read.status, 200)
  t.equal(read.headers['etag'], '"1"')
  t.same({ ...read.json, changed }, made.json)
})

t.test('creating again is name_taken, and putting again changes nothing', async (t) => {
  const described = { ...input, labels: { team: 'a' }, expires_at: '2040-01-01T00:00:00Z' }
  t.equal((await writer('POST', C, { name: 'again', ...described })).status, 201)
  const twice = await writer('POST', C, { name: 'again', ...described })
  t.match([twice.status, twice.json.code], [409, 'name_taken'])
  const before = await writer('GET', `${C}/again`)
  const put = await writer('PUT', `${C}/again`, described)
  t.equal(put.status, 200)
  t.equal(put.headers['etag'], '"1"')
  t.same(put.json, { ...before.json, changed: false })
  t.equal((await writer('PUT', `${C}/anew`, described)).status, 201)
  t.equal((await writer('PUT', `${C}/anew`, described)).json.changed, false)
})

t.test('what a PUT leaves out becomes empty, but store and purge_at stay', async (t) => {
  const purge = { purge_at: '2040-01-01T00:00:00.000Z' }
  const full = {
    ...input,
    store: 'local',
    labels: { team: 'a' },
    expires_at: '2039-01-01T00:00:00.000Z',
    ...purge,
  }
  t.match((await writer('PUT', `${C}/left`, full)).json, { store: 'local', ...purge })
  const { json, headers } = await writer('PUT', `${C}/left`, input)
  t.match(json, { labels: {}, store: 'local', ...purge, version: 1, changed: true })
  t.equal(headers['etag'], '"1"')
  t.notOk('expires_at' in json)
  t.equal((await writer('PUT', `${C}/left`, { ...input, ...purge, store: 'local' })).json.changed, false)
})

t.test('connector, store and purge_at cannot be changed, and who tries changes nothing', async (t) => {
  const { json: before } = await writer('PUT', `${C}/fixed`, input)
  const value = { password: 'two' }
  for (const other of [{ connector: 'other' }, { store: 'vault' }, { purge_at: '2040-01-01T00:00:00Z' }]) {
    const { status, json } = await writer('PUT', `${C}/fixed`, {
      ...input,
      value,
      labels: { a: 'b' },
      ...other,
    })
    t.match([status, json.code], [409, 'not_changeable'])
  }
  t.same({ ...(await writer('GET', `${C}/fixed`)).json, changed: true }, before)
  const unknown = await writer('PUT', `${C}/elsewhere`, { ...input, store: 'vault' })
  t.match(
    [unknown.status, unknown.json.code, unknown.json.errors[0].pointer],
    [400, 'unknown_name', '/store'],
  )
})

t.test(
  'a patch of labels and expiry merges, makes no version, and changes nothing the second time',
  async (t) => {
    const url = `${C}/patched`
    await writer('PUT', url, { ...input, labels: { a: '1', b: '2' } })
    const end = '2040-01-01T00:00:00.000Z'
    const steps = [
      { patch: { labels: { a: null, c: '3', d: null } }, labels: { b: '2', c: '3' }, expires: undefined },
      { patch: { expires_at: '2040-01-01T00:00:00Z' }, labels: { b: '2', c: '3' }, expires: end },
      { patch: { labels: { b: '' } }, labels: { b: '', c: '3' }, expires: end },
      { patch: { labels: {}, expires_at: null }, labels: { b: '', c: '3' }, expires: undefined },
      { patch: { labels: null }, labels: {}, expires: undefined },
    ]
    for (const { patch, labels, expires } of steps) {
      const { status, json, headers } = await writer('PATCH', url, patch)
      t.match([status, headers['etag'], json.version, json.changed], [200, '"1"', 1, true])
      t.same(json.labels, labels)
      t.equal(json.expires_at, expires)
      t.same((await writer('PATCH', url, patch)).json, { ...json, changed: false })
    }
    t.equal((await writer('PATCH', url, {})).json.changed, false)
    for (const wrong of [{ value: 1 }, { connector: 'x' }, { purge_at: null }, { labels: [] }, [], null]) {
      t.equal((await writer('PATCH', url, wrong)).status, 400)
    }
  },
)

t.test('there are at most 32 labels, each a slug and at most 128 characters', async (t) => {
  const many = (count: number): Record<string, string> =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`l${index}`, String(index)]))
  const put = async (name: string, labels: object) =>
    (await writer('PUT', `${C}/${name}`, { ...input, labels })).status
  t.equal(await put('labels', many(32)), 201)
  t.equal(await put('labels-33', many(33)), 400)
  const over = await writer('PATCH', `${C}/labels`, { labels: { one: 'more' } })
  t.match([over.status, over.json.errors[0].pointer], [400, '/labels'])
  t.equal((await writer('PATCH', `${C}/labels`, { labels: { l0: null, one: 'more' } })).status, 200)
  t.equal(await put('long', { ['k'.repeat(63)]: '😀'.repeat(128), constructor: '', 'a-b': '%_\\*' }), 201)
  t.match((await writer('GET', `${C}/long`)).json.labels, { constructor: '', 'a-b': '%_\\*' })
  for (const labels of [{ ['k'.repeat(64)]: '' }, { Team: 'a' }, { a_b: 'a' }, { '': '' }, { '-a': '' }]) {
    t.equal(await put('refused', labels), 400)
  }
  for (const label of ['a'.repeat(129), 'a\0b', 1, true, null, {}])
    t.equal(await put('refused', { a: label }), 400)
  t.equal((await writer('GET', `${C}/refused`)).status, 404)
})

t.test('a credential has a name of 1 to 128 characters, and what cannot be one is missing', async (t) => {
  const longest = `A${'-._0z'.repeat(26)}`.slice(0, 128)
  for (const name of ['a', '7', 'Ab.c_D-', '0190a1b2-0000-7000-8000-000000000001', longest]) {
    const made = await writer('POST', C, { name, ...input })
    t.match([made.status, made.headers['location']], [201, `${C}/${name}`])
    t.equal((await writer('GET', `${C}/${name}`)).status, 200)
  }
  for (const name of ['', '.a', '-a', '_a', 'a b', 'ä', 'a/b', 'a\n', `${longest}x`, 1, null, ['a']]) {
    t.equal((await writer('POST', C, { name, ...input })).status, 400, JSON.stringify(name))
  }
  for (const name of ['.a', '-a', '_a', 'a%20b', '%C3%A4', 'a%0A', 'a%2Fb', `${longest}x`]) {
    t.equal((await writer('PUT', `${C}/${name}`, input)).status, 404, name)
    t.equal((await writer('GET', `${C}/${name}`)).status, 404, name)
  }
})

t.test('times are RFC 3339 in UTC, of days that exist', async (t) => {
  const put = async (expires_at: unknown) => writer('PUT', `${C}/timed`, { ...input, expires_at })
  const good = {
    '2039-12-31T23:59:59Z': '2039-12-31T23:59:59.000Z',
    '2040-02-29T00:00:00.5Z': '2040-02-29T00:00:00.500Z',
    '2040-02-29T00:00:00.123456Z': '2040-02-29T00:00:00.123Z',
  }
  for (const [written, answered] of Object.entries(good))
    t.equal((await put(written)).json.expires_at, answered)
  const bad = ['2039-02-29T00:00:00Z', '2039-01-01', '2039-01-01T00:00:00', '2039-01-01T00:00:00+00:00']
  for (const written of [...bad, '2039-01-01T24:00:00Z', '2039-01-01t00:00:00z', '', 0, null, 2 ** 31]) {
    const { status, json } = await put(written)
    t.match([status, json.errors?.[0].pointer], [400, '/expires_at'], JSON.stringify(written))
  }
})

t.test('if-match guards a PUT, and is judged before the value is looked at', async (t) => {
  const url = `${C}/guarded`
  const large = { ...input, value: 'x'.repeat(40_000) }
  const absent = await writer('PUT', url, input, { 'if-match': '"1"' })
  t.match([absent.status, absent.json.code], [412, 'version_mismatch'])
  await writer('PUT', url, input)
  for (const body of [large, { ...input, connector: 'other' }, input]) {
    t.equal((await writer('PUT', url, body, { 'if-match': '"2"' })).status, 412)
  }
  t.equal((await writer('PUT', url, large, { 'if-match': '"1"' })).status, 413)
  t.equal((await writer('PUT', url, input, { 'if-match': '"1"' })).json.changed, false)
  for (const wrong of ['1', '*', 'W/"1"', '"1", "2"', '""', '"0"', '"a"', '"99999999999"']) {
    t.equal((await writer('PUT', url, input, { 'if-match': wrong })).status, 400, wrong)
  }
})

t.test('updated_at moves with a change and with nothing else', async (t) => {
  const url = `${C}/moving`
  const first = (await writer('PUT', url, input)).json.updated_at
  await writer('PUT', url, input)
  await writer('PUT', `${url}/value`, { value: { password: 'one' } })
  await writer('POST', `${url}/leases`)
  t.equal((await writer('GET', url)).json.updated_at, first)
  const second = (await writer('PATCH', url, { labels: { a: 'b' } })).json.updated_at
  t.ok(second > first)
  const third = (await writer('PUT', `${url}/value`, { value: 2 })).json.updated_at
  t.ok(third > second)
})

t.test(
  'a body without a value, or with what is not documented, is 400 and names no text of it',
  async (t) => {
    const { name, ...unnamed } = { name: 'x', ...input }
    const wrong = [
      unnamed,
      { name, connector: 'c' },
      { name, value: 1 },
      { name, ...input, 'secret-field': 'secret-text' },
      { name, ...input, link: { store: 'local', locator: 'secret-text' } },
      { name, ...input, connector: 'Secret-Text' },
      { name, ...input, labels: { 'Secret-Field': 'secret-text' } },
      { name, ...input, config: {} },
      undefined,
      null,
      [],
    ]
    for (const body of wrong) {
      const { status, text } = await writer('POST', C, body)
      t.equal(status, 400)
      t.notMatch(text, /secret-/i)
    }
  },
)
