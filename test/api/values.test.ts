import t from 'tap'
import { ALL, startService } from '../service.ts'

const C = '/v1/workspaces/acme/credentials'
const service = await startService(t)
const writer = service.as(await service.identity('writer', [ALL]))
const input = { connector: 'source-postgres', value: 'v1' }
const make = (name: string, more: object = {}) => writer('PUT', `${C}/${name}`, { ...input, ...more })
const put = (name: string, value: unknown, headers = {}) =>
  writer('PUT', `${C}/${name}/value`, { value }, headers)
const lease = (name: string, body = {}) => writer('POST', `${C}/${name}/leases`, body)
const valueOf = async (name: string) => (await lease(name)).json.value

t.test(
  'the newest ten versions are kept; one that no longer is is gone, one that never was is missing',
  async (t) => {
    await make('many')
    for (let version = 2; version <= 12; version++) {
      const { json, headers } = await put('many', `v${version}`)
      t.match([json.version, json.changed, headers['etag']], [version, true, `"${version}"`])
    }
    const versions = (await writer('GET', `${C}/many/versions`)).json
    t.equal(versions.next, null)
    t.same(
      versions.items.map((one: { version: number }) => one.version),
      [12, 11, 10, 9, 8, 7, 6, 5, 4, 3],
    )
    t.same(
      versions.items.map((one: { state: string }) => one.state),
      ['current', ...Array(9).fill('kept')],
    )
    const { key_id: keyId, created_at: _createdAt, ...first } = versions.items[0]
    t.same(first, { version: 12, state: 'current', store: 'local', created_by: 'writer' })
    t.equal(keyId, (await service.admin('GET', '/v1/admin/keys')).json.items[0].id)

    const url = `${C}/many/versions`
    const outcomes: [number, string][] = [
      [2, 'version_gone'],
      [13, 'not_found'],
    ]
    for (const [version, code] of outcomes) {
      t.equal((await lease('many', { version })).json.code, code)
      t.equal((await writer('POST', `${url}/${version}/promote`)).json.code, code)
      t.equal((await writer('DELETE', `${url}/${version}`)).json.code, code)
    }
    t.match((await lease('many', { version: 3 })).json, {
      value: 'v3',
      lease: { version: 3, superseded: true },
    })
    for (const version of ['0', '-1', '01', '1.0', 'x', '99999999999']) {
      t.equal((await writer('POST', `${url}/${version}/promote`)).status, 404, version)
      t.equal((await writer('DELETE', `${url}/${version}`)).status, 404, version)
    }
    for (const version of [0, -1, 1.5, '1', null]) t.equal((await lease('many', { version })).status, 400)
  },
)

t.test('versions are paged newest first', async (t) => {
  await make('paged')
  for (const value of ['v2', 'v3', 'v4', 'v5']) await put('paged', value)
  const seen: number[] = []
  let next: string | null = ''
  while (next !== null) {
    const page = await writer('GET', `${C}/paged/versions?limit=2${next && `&after=${next}`}`)
    seen.push(...page.json.items.map((one: { version: number }) => one.version))
    next = page.json.next
  }
  t.same(seen, [5, 4, 3, 2, 1])
})

t.test('promoting makes a new version of a kept one, and of the current one none', async (t) => {
  await make('promoted')
  await put('promoted', 'v2')
  const { status, json, headers } = await writer('POST', `${C}/promoted/versions/1/promote`)
  t.match([status, json.version, json.changed, headers['etag']], [200, 3, true, '"3"'])
  t.equal(await valueOf('promoted'), 'v1')
  for (const version of [3, 1]) {
    t.match((await writer('POST', `${C}/promoted/versions/${version}/promote`)).json, {
      changed: false,
      version: 3,
    })
  }
  const guarded = await writer('POST', `${C}/promoted/versions/2/promote`, undefined, { 'if-match': '"2"' })
  t.match([guarded.status, guarded.json.code], [412, 'version_mismatch'])
  const fits = await writer('POST', `${C}/promoted/versions/2/promote`, {}, { 'if-match': '"3"' })
  t.match(fits.json, { version: 4, changed: true })
  t.equal((await writer('POST', `${C}/promoted/versions/2/promote`, { a: 1 })).status, 400)
})

t.test('a kept version is deleted for good and the current one is not', async (t) => {
  const { json } = await make('trimmed')
  await put('trimmed', 'v2')
  const current = await writer('DELETE', `${C}/trimmed/versions/2`)
  t.match([current.status, current.json.code], [409, 'wrong_state'])
  t.equal((await writer('DELETE', `${C}/trimmed/versions/1`)).status, 204)
  t.equal((await writer('DELETE', `${C}/trimmed/versions/1`)).json.code, 'version_gone')
  t.equal((await lease('trimmed', { version: 1 })).json.code, 'version_gone')
  t.equal((await writer('GET', `${C}/trimmed/versions`)).json.items.length, 1)
  const left = await service.ground.sql(
    'select version from copies where credential_id = $1 and token is not null',
    [json.id],
  )
  t.same(left, [{ version: 2 }])
})

t.test(
  'an equal value makes no version, whatever the order of its members, and is audited as such',
  async (t) => {
    await make('equal', { value: { a: { x: 1, y: [1, { p: 1, q: 2 }] }, b: null } })
    const same = { b: null, a: { y: [1, { q: 2, p: 1 }], x: 1 } }
    t.match((await put('equal', same)).json, { version: 1, changed: false })
    t.equal((await lease('equal')).text.includes('{"a":{"x":1,"y":[1,{"p":1,"q":2}]},"b":null}'), true)
    const events = await service.admin(
      'GET',
      '/v1/admin/audit?workspace=acme&credential=equal&action=credential:write',
    )
    t.match(events.json.items[0], {
      outcome: 'allowed',
      mark: 'unchanged',
      version: 1,
      operation: 'putValue',
    })
    for (const other of [{ a: 1 }, [same], null, { ...same, c: null }, { ...same, b: false }]) {
      t.equal((await put('equal', other)).json.changed, true)
    }
  },
)

t.test('a merge patch does what RFC 7396 says, and nothing where nothing changes', async (t) => {
  // The examples of appendix A.
  const cases: [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ]
  for (const [index, [value, patch, result]] of cases.entries()) {
    await make(`merged-${index}`, { value })
    const patched = await writer('PATCH', `${C}/merged-${index}/value`, { value: patch })
    t.match(patched.json, { version: 2, changed: true }, JSON.stringify(patch))
    t.equal(JSON.stringify(await valueOf(`merged-${index}`)), JSON.stringify(result))
    t.match((await writer('PATCH', `${C}/merged-${index}/value`, { value: patch })).json, { changed: false })
  }
  const url = `${C}/merged-0/value`
  t.equal((await writer('PATCH', url, { value: 1 }, { 'if-match': '"9"' })).status, 412)
  t.equal((await writer('PATCH', url, { a: 'c' })).status, 400)
  t.equal((await writer('PATCH', url, { value: { more: 'x'.repeat(40_000) } })).json.code, 'value_too_large')
})

t.test('if-match is judged before the value is looked at, and the form before if-match', async (t) => {
  await make('guarded')
  const large = 'x'.repeat(40_000)
  t.equal((await put('guarded', large, { 'if-match': '"2"' })).status, 412)
  t.equal((await put('guarded', large, { 'if-match': '"1"' })).status, 413)
  t.equal((await put('guarded', 'v1', { 'if-match': '"2"' })).status, 412)
  const unformed = await writer('PUT', `${C}/guarded/value`, { value: 1, more: 1 }, { 'if-match': '"2"' })
  t.equal(unformed.status, 400)
  t.equal((await put('missing', large, { 'if-match': '"2"' })).status, 404)
})

t.test('of writes at once without if-match all are versions, with it one wins', async (t) => {
  await make('raced')
  const free = await Promise.all(['a', 'b', 'c', 'd'].map((value) => put('raced', value)))
  t.same(free.map(({ json }) => json.version).sort(), [2, 3, 4, 5])
  const last = free.findIndex(({ json }) => json.version === 5)
  t.equal(await valueOf('raced'), ['a', 'b', 'c', 'd'][last])
  const guarded = await Promise.all(
    ['e', 'f', 'g'].map((value) => put('raced', value, { 'if-match': '"5"' })),
  )
  t.same(guarded.map(({ status }) => status).sort(), [200, 412, 412])
})

t.test('of creations at once one makes it', async (t) => {
  const posts = await Promise.all(
    Array.from({ length: 5 }, () => writer('POST', C, { name: 'once', ...input })),
  )
  t.same(posts.map(({ status }) => status).sort(), [201, 409, 409, 409, 409])
  for (let round = 0; round < 5; round++) {
    const puts = await Promise.all(['a', 'b', 'c', 'd'].map((value) => make(`once-put-${round}`, { value })))
    const statuses = puts.map(({ status }) => status).sort()
    t.same(statuses, [200, 200, 200, 201], 'a PUT that lost the race makes it so')
  }
})
