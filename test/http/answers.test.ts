import t from 'tap'
import { forbidden, VaultError } from '../../src/core/errors.ts'
import type { HealthReport } from '../../src/core/health.ts'
import { Secret } from '../../src/core/secret.ts'
import { buildAdminApp } from '../../src/http/admin-app.ts'
import { buildServiceApp } from '../../src/http/service-app.ts'
import { ask, caller, credential, lease, stubDeps, VALUE_TEXT } from './stub-deps.ts'

const C = '/v1/workspaces/acme/credentials'

t.test('every answer names its request, and no cache keeps it but the document', async (t) => {
  const { deps } = stubDeps()
  const app = buildServiceApp(deps)
  const ids = new Set<unknown>()
  const urls = [
    '/v1/whoami',
    C,
    `${C}/.x`,
    '/nowhere',
    '/v1/who%ZZ',
    `${C}/${'a'.repeat(601)}`,
    '/health/ready',
  ]
  for (const url of urls) {
    const { headers } = await ask(app, { url, headers: { 'x-request-id': 'mine' } })
    t.equal(headers['cache-control'], 'no-store', url)
    t.equal(headers['x-content-type-options'], 'nosniff', url)
    ids.add(headers['x-request-id'])
  }
  t.equal(ids.size, urls.length)
  t.notOk(ids.has('mine') || ids.has(undefined))
  const document = await ask(app, { url: '/openapi.json', headers: { authorization: '' } })
  t.equal(document.status, 200)
  t.equal(document.headers['cache-control'], undefined)
  t.equal(document.json.openapi, '3.1.0')
})

t.test('an unknown path or method is 404 whoever asks and whatever he sends', async (t) => {
  const { deps, seen } = stubDeps({}, { authenticate: () => Promise.reject(new Error('nobody is asked')) })
  const app = buildServiceApp(deps)
  const asked = [
    { url: '/' },
    { url: '/v1/whoami/' },
    { url: '//v1/whoami' },
    { url: '/V1/whoami' },
    { url: '/v1/who%ZZ' },
    { url: '/v1/admin/roles' },
    { method: 'HEAD', url: '/v1/whoami' },
    { method: 'OPTIONS', url: '/v1/whoami' },
    { method: 'POST', url: '/v1/whoami', payload: '{', headers: { 'content-type': 'application/json' } },
    { method: 'POST', url: '/nowhere', payload: 'x', headers: { 'content-type': 'text/plain' } },
    {
      method: 'POST',
      url: '/nowhere',
      payload: 'x'.repeat(2 ** 21),
      headers: { 'content-type': 'application/json' },
    },
  ] as const
  for (const request of asked) {
    const answer = await ask(app, request)
    t.equal(answer.status, 404, request.url)
    t.equal(answer.headers['content-type'], 'application/problem+json; charset=utf-8')
  }
  t.equal(seen.failedAuthentications.length, 0)
  t.equal((await ask(buildAdminApp(deps), { url: '/v1/whoami' })).status, 404)
})

t.test('a credential is answered as it is documented, and nothing else of it', async (t) => {
  const { deps } = stubDeps({
    'credentials.read': async () => ({
      ...credential,
      deletedAt: new Date(),
      value: 'secret',
      sealed: 'secret',
    }),
  })
  const answer = await ask(buildServiceApp(deps), { url: `${C}/orders-db` })
  t.equal(answer.headers.etag, '"3"')
  t.strictSame(answer.json, {
    id: credential.id,
    workspace: 'acme',
    name: 'orders-db',
    connector: 'source-postgres',
    kind: 'stored',
    store: 'local',
    version: 3,
    state: 'active',
    labels: { team: 'orders' },
    created_at: '2030-01-01T00:00:00.000Z',
    created_by: 'ada',
    updated_at: '2030-01-02T00:00:00.000Z',
  })
})

t.test('what was made says where it is, what was there does not', async (t) => {
  const { deps } = stubDeps()
  const app = buildServiceApp(deps)
  const payload = { connector: 'y', value: 1 }
  const made = await ask(app, { method: 'POST', url: C, payload: { ...payload, name: 'orders-db' } })
  t.equal(made.status, 201)
  t.equal(made.headers.location, `${C}/orders-db`)
  t.equal(made.headers.etag, '"3"')
  t.equal(made.json.changed, true)
  const put = await ask(app, { method: 'PUT', url: `${C}/orders-db`, payload })
  t.equal(put.status, 200)
  t.equal(put.headers.location, undefined)
})

t.test('a lease carries its value as the text that was sealed', async (t) => {
  const { deps } = stubDeps()
  const answer = await ask(buildServiceApp(deps), { method: 'POST', url: `${C}/orders-db/leases` })
  t.equal(answer.status, 201)
  t.equal(answer.headers.location, `/v1/leases/${lease.id}`)
  t.equal(answer.headers['content-type'], 'application/json; charset=utf-8')
  t.ok(answer.text.endsWith(`,"value":${VALUE_TEXT}}`))
  t.strictSame(answer.json.lease, {
    id: lease.id,
    workspace: 'acme',
    credential: 'orders-db',
    connector: 'source-postgres',
    version: 3,
    identity: 'worker',
    state: 'active',
    superseded: false,
    issued_at: '2030-01-01T00:00:00.000Z',
    expires_at: '2030-01-01T00:15:00.000Z',
    ttl_seconds: 900,
    run_id: 'run "1"',
  })
})

t.test('a batch answers each in order, lease or problem', async (t) => {
  const granted = { lease, value: new Secret('""') }
  const { deps } = stubDeps({ 'leaseGrants.leaseMany': async () => [forbidden('lease:issue'), granted] })
  const payload = { credentials: ['a', 'orders-db'] }
  const answer = await ask(buildServiceApp(deps), {
    method: 'POST',
    url: '/v1/workspaces/acme/leases',
    payload,
  })
  t.equal(answer.status, 200)
  const [first, second] = answer.json.results
  t.strictSame(Object.keys(first), ['credential', 'problem'])
  t.match(first, { credential: 'a', problem: { status: 403, code: 'forbidden' } })
  t.match(second, { credential: 'orders-db', lease: { id: lease.id }, value: '' })
})

t.test('what went wrong inside is told to the log, without any message, and not to the caller', async (t) => {
  class PostgresError extends Error {
    code = '22P02'
    detail = 'kilroy in the detail'
    where = 'kilroy in the where'
  }
  const { deps, seen } = stubDeps({
    'credentials.create': async () => {
      throw new PostgresError('invalid input: kilroy\n    kilroy on a second line')
    },
  })
  const payload = { name: 'kilroy', connector: 'y', value: 'kilroy' }
  const answer = await ask(buildServiceApp(deps), { method: 'POST', url: C, payload })
  t.equal(answer.status, 500)
  t.equal(answer.json.code, 'internal')
  t.notMatch(answer.text, 'kilroy')
  t.notMatch(JSON.stringify(seen.logged), 'kilroy')
  t.match(seen.logged, [
    [{ code: 'internal', operation: 'createCredential', causes: [{ name: 'PostgresError', code: '22P02' }] }],
  ])
})

t.test('what is worth repeating says when', async (t) => {
  const { deps } = stubDeps({
    'credentials.list': async () => {
      throw new VaultError('overloaded', 'x', { retryAfterSeconds: 3 })
    },
  })
  const answer = await ask(buildServiceApp(deps), { url: C })
  t.equal(answer.status, 503)
  t.equal(answer.headers['retry-after'], '3')
})

t.test('whatever hangs, the answer at the deadline is 503', async (t) => {
  const never = () => new Promise<never>(() => undefined)
  const { deps } = stubDeps(
    { 'credentials.read': never, 'leaseGrants.lease': never },
    { deadlineSeconds: 0.1 },
  )
  const app = buildServiceApp(deps)
  const hanging = buildServiceApp({ ...deps, authenticate: never, health: never })
  const asked = [
    ask(app, { url: `${C}/x` }),
    ask(app, { method: 'POST', url: `${C}/x/leases` }),
    ask(hanging, { url: '/v1/whoami' }),
    ask(hanging, { url: '/health/ready' }),
    ask(hanging, { method: 'POST', url: `${C}/x/leases`, payload: { nonsense: 1 } }),
  ]
  // Of two timers in one process the earlier one comes first, however busy the machine is.
  let overdue = false
  const timer = setTimeout(() => (overdue = true), 1_000)
  for (const answer of await Promise.all(asked)) {
    t.equal(answer.status, 503)
    t.equal(answer.headers['retry-after'], '1')
  }
  t.notOk(overdue)
  clearTimeout(timer)
})

t.test('an answer that took long is given only to one who is still known', async (t) => {
  let known: typeof caller | undefined = caller
  const { deps, seen } = stubDeps(
    {
      'credentials.read': () => new Promise((resolve) => setTimeout(() => resolve(credential as never), 600)),
      'credentials.delete': () => new Promise((resolve) => setTimeout(resolve, 600)),
    },
    { authenticate: async () => known },
  )
  const app = buildServiceApp(deps)
  const meanwhile = async (next: typeof caller | undefined, method: 'GET' | 'DELETE' = 'GET') => {
    known = caller
    const answer = ask(app, { method, url: `${C}/x` })
    await new Promise((resolve) => setTimeout(resolve, 200))
    known = next
    return answer
  }
  t.equal((await meanwhile(caller)).status, 200)
  const gone = await meanwhile(undefined)
  t.equal(gone.status, 401)
  t.equal(gone.headers.etag, undefined)
  t.equal((await meanwhile({ ...caller, policyVersion: 8 })).status, 503)
  t.equal((await meanwhile({ ...caller, policyVersion: 8 }, 'DELETE')).status, 204, 'what is done is told')
  t.strictSame(seen.failedAuthentications, ['getCredential'])
})

t.test('health decides readiness and never life', async (t) => {
  const { deps } = stubDeps(
    {},
    { health: async () => ({ ready: false, checks: { database: 'unreachable' } }) },
  )
  const app = buildServiceApp(deps)
  const ready = await ask(app, { url: '/health/ready', headers: { authorization: '' } })
  t.equal(ready.status, 503)
  t.strictSame(ready.json, { ready: false, checks: { database: 'unreachable' } })
  const live = await ask(app, { url: '/health/live', headers: { authorization: '' } })
  t.equal(live.status, 200)
  t.strictSame(live.json, { ready: false, checks: { database: 'unreachable' } })
})

t.test('life is answered with what is found now, not with what was found before', async (t) => {
  let found: Promise<HealthReport> = Promise.resolve({ ready: true, checks: { database: 'ok' } })
  const { deps } = stubDeps({}, { health: () => found, deadlineSeconds: 0.1 })
  const app = buildServiceApp(deps)
  const live = () => ask(app, { url: '/health/live', headers: { authorization: '' } })
  t.strictSame(
    (await live()).json,
    { ready: true, checks: { database: 'ok' } },
    'the first answer knows it too',
  )
  found = Promise.resolve({ ready: false, checks: { database: 'unavailable' } })
  t.strictSame((await live()).json, await found)
  const notKnown = { ready: false, checks: { database: 'unknown', schema: 'unknown', keys: 'unknown' } }
  found = new Promise(() => undefined)
  const start = performance.now()
  const waited = await live()
  t.ok(performance.now() - start < 10_000, 'a check that hangs does not hold it up')
  t.equal(waited.status, 200)
  t.strictSame(waited.json, notKnown)
  found = Promise.reject(new Error('nobody is asked'))
  const failed = await live()
  t.equal(failed.status, 200)
  t.strictSame(failed.json, notKnown)
})

t.test('x-forwarded-for is believed of a trusted proxy only', async (t) => {
  for (const [trustedProxies, address] of [
    [undefined, '127.0.0.1'],
    [['127.0.0.1'], '203.0.113.7'],
    [['10.0.0.0/8'], '127.0.0.1'],
  ] as const) {
    const { deps, seen } = stubDeps({}, { trustedProxies: trustedProxies ? [...trustedProxies] : undefined })
    await ask(buildServiceApp(deps), { url: C, headers: { 'x-forwarded-for': '203.0.113.7' } })
    t.match(seen.calls[0]!.args[0], { address })
  }
})
