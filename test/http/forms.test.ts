import t from 'tap'
import { buildAdminApp } from '../../src/http/admin-app.ts'
import { writeCursor } from '../../src/http/query.ts'
import { buildServiceApp } from '../../src/http/service-app.ts'
import { ask, credential, stubDeps } from './stub-deps.ts'

const C = '/v1/workspaces/acme/credentials'
const MARK = 'kilroy-was-here'

function service() {
  const { deps, seen } = stubDeps()
  return { app: buildServiceApp(deps), seen }
}

function pointers(answer: { json: { errors: { pointer: string }[] } }): string[] {
  return answer.json.errors.map(({ pointer }) => pointer).sort()
}

t.test('every route refuses a query parameter that it does not know, and does not repeat it', async (t) => {
  const { app } = service()
  const urls = ['/v1/whoami', C, `${C}/x`, '/v1/leases', '/health/live', '/openapi.json', `${C}/x/versions`]
  for (const url of urls) {
    const answer = await ask(app, { url: `${url}?${MARK}=${MARK}` })
    t.equal(answer.status, 400, url)
    t.strictSame(pointers(answer), ['?'])
    t.notMatch(answer.text, MARK)
  }
})

t.test('a parameter that stands there twice is refused, but for label', async (t) => {
  const { app, seen } = service()
  t.strictSame(pointers(await ask(app, { url: `${C}?limit=1&limit=1` })), ['?limit'])
  const answer = await ask(app, { url: `${C}?label=team:orders&label=tier:a:b` })
  t.equal(answer.status, 200)
  t.match(seen.calls[0]!.args[3], {
    labels: [
      { key: 'team', value: 'orders' },
      { key: 'tier', value: 'a:b' },
    ],
  })
})

t.test('nothing is coerced', async (t) => {
  const { app } = service()
  for (const limit of ['0', '501', '1.0', '+1', ' 1', '01', '', 'x', '1e2']) {
    t.equal((await ask(app, { url: `${C}?limit=${encodeURIComponent(limit)}` })).status, 400, limit)
  }
  for (const limit of ['1', '99', '100', '500'])
    t.equal((await ask(app, { url: `${C}?limit=${limit}` })).status, 200)
  for (const purge of ['1', 'TRUE', 'yes', '']) {
    t.equal((await ask(app, { method: 'DELETE', url: `${C}/x?purge=${purge}` })).status, 400, purge)
  }
  const url = `${C}/x/leases`
  for (const payload of [
    { ttl_seconds: '900' },
    { ttl_seconds: 1.5 },
    { ttl_seconds: null },
    { version: true },
  ]) {
    t.equal((await ask(app, { method: 'POST', url, payload })).status, 400, JSON.stringify(payload))
  }
})

t.test('no refusal repeats a text of the body', async (t) => {
  const { app } = service()
  const bodies = [
    { [MARK]: 1 },
    { name: MARK.toUpperCase() + '!', connector: MARK + '!', value: MARK },
    { name: 'x', connector: 'y', value: 1, labels: { [`${MARK}!`]: 1, [MARK]: MARK.repeat(20) } },
    { name: 'x', connector: 'y', value: 1, expires_at: MARK, store: `${MARK}_` },
  ]
  for (const payload of bodies) {
    const answer = await ask(app, { method: 'POST', url: C, payload })
    t.equal(answer.status, 400)
    t.notMatch(answer.text.toLowerCase(), MARK)
  }
  const labels = await ask(app, { method: 'POST', url: C, payload: bodies[2]! })
  t.strictSame([...new Set(pointers(labels))], ['/labels'])
  const payload = `{"name":"${MARK}`
  const headers = { 'content-type': 'application/json' }
  t.notMatch((await ask(app, { method: 'POST', url: C, payload, headers })).text, MARK)
})

t.test(
  'a value may be null, empty or hold U+0000, but not be left out; other text holds no U+0000',
  async (t) => {
    const { app } = service()
    const body = { name: 'x', connector: 'y' }
    for (const value of [null, '', 0, false, [], 'a\0b', { 'a\0': 1 }]) {
      const answer = await ask(app, { method: 'POST', url: C, payload: { ...body, value } })
      t.equal(answer.status, 201, JSON.stringify(value))
    }
    t.strictSame(pointers(await ask(app, { method: 'POST', url: C, payload: body })), ['/value'])
    const url = `${C}/x/leases`
    for (const payload of [{ run_id: 'a\0' }, { reason: '\0' }]) {
      t.equal((await ask(app, { method: 'POST', url, payload })).status, 400)
    }
    t.equal((await ask(app, { url: '/v1/leases?run_id=%00' })).status, 400)
  },
)

t.test('a length counts characters', async (t) => {
  const { app } = service()
  const url = `${C}/x/leases`
  t.equal((await ask(app, { method: 'POST', url, payload: { run_id: '😀'.repeat(128) } })).status, 201)
  t.equal((await ask(app, { method: 'POST', url, payload: { run_id: '😀'.repeat(129) } })).status, 400)
})

t.test('a value nests at most 64 deep', async (t) => {
  const { app } = service()
  const put = (value: string) =>
    ask(app, {
      method: 'PUT',
      url: `${C}/x/value`,
      payload: `{"value":${value}}`,
      headers: { 'content-type': 'application/json' },
    })
  const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
  for (const value of [nested(64), `{"a":${nested(63)},"b":1}`]) t.equal((await put(value)).status, 200)
  for (const value of [nested(65), `{"a":${nested(64)}}`, nested(100_000)]) {
    const refused = await put(value)
    t.equal(refused.status, 400)
    t.strictSame(pointers(refused), ['/value'])
  }
})

t.test('a day that no calendar has is refused at its place', async (t) => {
  const { app } = service()
  const payload = { connector: 'y', value: 1, expires_at: '2030-02-30T00:00:00Z' }
  t.strictSame(pointers(await ask(app, { method: 'PUT', url: `${C}/x`, payload })), ['/expires_at'])
  t.strictSame(pointers(await ask(app, { url: `${C}?expires_before=2030-02-30T00:00:00Z` })), [
    '?expires_before',
  ])
})

t.test('if-match is one quoted version', async (t) => {
  const { app, seen } = service()
  const put = (ifMatch: string) => {
    return ask(app, {
      method: 'PUT',
      url: `${C}/x/value`,
      payload: { value: 1 },
      headers: { 'if-match': ifMatch },
    })
  }
  for (const text of ['3', '*', 'W/"3"', '"3", "4"', '"0"', '"03"', '""', ''])
    t.equal((await put(text)).status, 400, text)
  t.equal(seen.calls.length, 0)
  t.equal((await put('"3"')).status, 200)
  t.equal(seen.calls[0]!.args.at(-1), 3)
})

t.test('a cursor is what a list of the same kind wrote', async (t) => {
  const { app, seen } = service()
  const first = await ask(app, { url: C })
  t.equal((await ask(app, { url: `${C}?after=${first.json.next}` })).status, 200)
  t.strictSame(seen.calls[1]!.args.at(-1), { limit: 100, after: ['orders-db', credential.id] })
  const forged = [
    'x',
    `${first.json.next}=`,
    writeCursor(['orders-db']),
    writeCursor(['orders-db', 'x']),
    writeCursor(['a\0', credential.id]),
    Buffer.from('{}').toString('base64url'),
    Buffer.from('[1,2]').toString('base64url'),
    'A'.repeat(600),
  ]
  for (const after of forged) {
    const answer = await ask(app, { url: `${C}?after=${encodeURIComponent(after)}` })
    t.equal(answer.status, 400, after)
    t.strictSame([...new Set(pointers(answer))], ['?after'])
  }
  t.equal((await ask(app, { url: `/v1/leases?after=${first.json.next}` })).status, 400)
})

t.test('what is without a body counts as {} in a POST, and only there', async (t) => {
  const { app } = service()
  const json = { 'content-type': 'application/json' }
  t.equal((await ask(app, { method: 'POST', url: `${C}/x/leases` })).status, 201)
  t.equal((await ask(app, { method: 'POST', url: `${C}/x/leases`, headers: json })).status, 201)
  t.equal((await ask(app, { method: 'POST', url: `${C}/x/restore` })).status, 200)
  t.equal((await ask(app, { method: 'POST', url: `${C}/x/restore`, payload: {} })).status, 200)
  t.equal((await ask(app, { method: 'POST', url: `${C}/x/restore`, payload: { force: true } })).status, 400)
  t.equal((await ask(app, { method: 'PUT', url: `${C}/x/value`, headers: json })).status, 400)
  t.equal((await ask(app, { method: 'DELETE', url: `${C}/x`, headers: json })).status, 204)
  t.equal((await ask(app, { url: `${C}/x`, headers: json })).status, 200)
})

t.test('a body is JSON and says so, and is at most 1 MiB', async (t) => {
  const { app } = service()
  const send = (payload: string | Buffer, type?: string) => {
    const headers = type === undefined ? {} : { 'content-type': type }
    return ask(app, { method: 'POST', url: C, payload, headers })
  }
  const body = '{"name":"x","connector":"y","value":1}'
  t.equal((await send(body, 'application/json')).status, 201)
  t.equal((await send(body, 'application/json; charset=utf-8')).status, 201)
  const types = ['text/plain', 'application/merge-patch+json', 'nonsense', 'application/jsonp']
  for (const type of types) t.equal((await send(body, type)).status, 415, type)
  t.equal((await send(Buffer.from(body))).status, 415)
  const large = await send(`{"value":"${'x'.repeat(1024 * 1024)}"}`, 'application/json')
  t.equal(large.status, 413)
  t.equal(large.json.code, 'body_too_large')
})

t.test('a batch names 1 to 100 credentials, none twice', async (t) => {
  const { app } = service()
  const lease = (credentials: unknown[]) => {
    return ask(app, { method: 'POST', url: '/v1/workspaces/acme/leases', payload: { credentials } })
  }
  const names = Array.from({ length: 101 }, (_, index) => `n${index}`)
  t.equal((await lease(names.slice(0, 100))).status, 200)
  for (const faulty of [[], names, ['.a'], [1]]) t.equal((await lease(faulty)).status, 400)
  const errors = [{ pointer: '/credentials', detail: 'Nothing may stand here twice' }]
  t.match((await lease(['a', 'b', 'a'])).json, { status: 400, errors })
  t.equal((await lease(['a', 'A'])).status, 200)
})

t.test('only text is compared where nothing may stand twice', async (t) => {
  const { deps } = stubDeps()
  for (const app of [buildServiceApp(deps), buildAdminApp(deps)]) {
    const { text } = await ask(app, { url: '/openapi.json' })
    const kinds: unknown[] = []
    JSON.parse(text, (_name, part) => {
      if (part?.uniqueItems) kinds.push(part.items.type)
      return part
    })
    t.ok(kinds.length > 0)
    t.same(new Set(kinds), new Set(['string']))
  }
})

t.test('what is asked of the admin listener has a form too', async (t) => {
  const { deps } = stubDeps()
  const app = buildAdminApp(deps)
  const revoke = (payload: object) => ask(app, { method: 'POST', url: '/v1/admin/leases/revoke', payload })
  t.equal((await revoke({})).status, 400)
  t.strictSame(pointers(await revoke({ credential: 'x' })), ['/workspace'])
  t.strictSame((await revoke({ workspace: 'acme', credential: 'x' })).json, { revoked: 2 })
  const grants = [{ actions: ['everything'], workspaces: ['*'], labels: { _: 'x' }, more: 1 }]
  const role = await ask(app, { method: 'PUT', url: '/v1/admin/roles/x', payload: { grants } })
  t.strictSame(pointers(role), ['/grants/0', '/grants/0/actions/0', '/grants/0/labels', '/grants/0/labels'])
  const heads = [{ stream: 'x', sequence: 0, hash: 'y' }]
  t.equal((await ask(app, { method: 'POST', url: '/v1/admin/audit/verify', payload: { heads } })).status, 400)
})
