import t from 'tap'
import type { Test } from 'tap'
import type { Answer } from '../service.ts'
import { ALL, startService } from '../service.ts'

const C = '/v1/workspaces/acme/credentials'
const service = await startService(t)
const workerToken = await service.identity('worker', [ALL])
const worker = service.as(workerToken)
const put = (name: string, more: object = {}) =>
  worker('PUT', `${C}/${name}`, { connector: 'source-postgres', value: 'one', ...more })
const lease = (name: string, body?: object) => worker('POST', `${C}/${name}/leases`, body)
const secondsUntil = (time: string): number => (Date.parse(time) - Date.now()) / 1000
const idsOf = (answer: Answer): string[] => answer.json.items.map((one: { id: string }) => one.id)
const near = (t: Test, actual: number, expected: number): void =>
  void t.ok(actual <= expected && actual > expected - 5, `${actual} is about ${expected}`)

t.test('a lease says what it is of and until when, and is found where it says', async (t) => {
  await put('plain')
  const { status, json, headers } = await lease('plain', {
    ttl_seconds: 60,
    run_id: 'run-1',
    reason: 'because',
  })
  t.equal(status, 201)
  t.same(Object.keys(json).sort(), ['lease', 'value'])
  t.equal(json.value, 'one')
  t.equal(headers['location'], `/v1/leases/${json.lease.id}`)
  t.equal(headers['etag'], undefined)
  const { id, issued_at: issuedAt, expires_at: expiresAt, ...rest } = json.lease
  t.same(rest, {
    workspace: 'acme',
    credential: 'plain',
    connector: 'source-postgres',
    version: 1,
    identity: 'worker',
    run_id: 'run-1',
    reason: 'because',
    state: 'active',
    superseded: false,
    ttl_seconds: 60,
  })
  t.equal(Date.parse(expiresAt) - Date.parse(issuedAt), 60_000)
  t.same((await worker('GET', headers['location']!)).json, json.lease)
  const [event] = (await service.admin('GET', '/v1/admin/audit?action=lease:issue&credential=plain')).json
    .items
  t.match(event, {
    outcome: 'allowed',
    lease: id,
    version: 1,
    run_id: 'run-1',
    reason: 'because',
    identity: 'worker',
  })
  t.equal(event.request_id, headers['x-request-id'])
})

t.test('leasing again gives another lease, without a body 900 seconds long', async (t) => {
  await put('twice')
  const first = (await lease('twice')).json.lease
  const second = (await lease('twice', {})).json.lease
  t.not(first.id, second.id)
  t.equal(first.ttl_seconds, 900)
  t.notOk('run_id' in first || 'reason' in first)
})

t.test('a lease lasts 1 to 3600 seconds; texts have their lengths', async (t) => {
  await put('bounded')
  for (const ttl_seconds of [1, 3600])
    t.match((await lease('bounded', { ttl_seconds })).json.lease, { ttl_seconds })
  const texts = { run_id: '😀'.repeat(128), reason: '😀'.repeat(200) }
  t.match((await lease('bounded', texts)).json.lease, texts)
  const wrong = [
    ...[0, 3601, -1, 1.5, '60', null].map((ttl_seconds) => ({ ttl_seconds })),
    ...['x'.repeat(129), 'a\0b', 1, null].map((run_id) => ({ run_id })),
    ...['x'.repeat(201), 'a\0b', 1, null].map((reason) => ({ reason })),
    { more: 1 },
    [],
    null,
  ]
  for (const body of wrong)
    t.equal((await lease('bounded', body as object)).status, 400, JSON.stringify(body))
})

t.test('what would pass the grant, the credential or the token is shortened, not refused', async (t) => {
  await put('short', { labels: { a: 'b' } })
  const grant = { actions: ['lease:issue'], workspaces: ['acme'] }
  const of = async (name: string, grants: object[], seconds?: number) => {
    const token = await service.identity(name, grants as never, seconds)
    const { json } = await service.as(token)('POST', `${C}/short/leases`, { ttl_seconds: 3600 })
    return json.lease
  }
  t.equal((await of('by-grant', [{ ...grant, lease_ttl_seconds_max: 30 }])).ttl_seconds, 30)
  const two = [
    { ...grant, lease_ttl_seconds_max: 30 },
    { ...grant, labels: { a: '*' }, lease_ttl_seconds_max: 70 },
    { ...grant, credentials: ['other'], lease_ttl_seconds_max: 200 },
    { actions: ['lease:read'], workspaces: ['*'], lease_ttl_seconds_max: 300 },
  ]
  t.equal((await of('by-two', two)).ttl_seconds, 70, 'the longest that allows the lease counts')
  const byToken = await of('by-token', [grant], 120)
  near(t, byToken.ttl_seconds, 120)
  await put('ending', { expires_at: new Date(Date.now() + 90_000).toISOString() })
  const ending = (await lease('ending', { ttl_seconds: 3600 })).json.lease
  near(t, secondsUntil(ending.expires_at), 90)
  t.ok(ending.ttl_seconds <= 90 && ending.ttl_seconds > 80)
})

t.test('a lease is superseded as soon as there is a newer version, and the filter tells which', async (t) => {
  await put('news')
  await put('no-news')
  const { id } = (await lease('news', { run_id: 'news' })).json.lease
  const { id: other } = (await lease('no-news', { run_id: 'news' })).json.lease
  t.same(idsOf(await worker('GET', '/v1/leases?run_id=news&superseded=true')), [])
  await worker('PUT', `${C}/news/value`, { value: 'two' })
  t.same(idsOf(await worker('GET', '/v1/leases?run_id=news&superseded=true')), [id])
  t.same(idsOf(await worker('GET', '/v1/leases?run_id=news&superseded=false')), [other])
  const renewal = await worker('POST', `/v1/leases/${id}/renew`)
  t.match([renewal.status, renewal.json.code], [409, 'lease_superseded'])
  t.equal((await worker('GET', `/v1/leases/${id}`)).json.state, 'active', 'the lease itself stays')
  t.equal((await lease('news', { version: 1 })).json.lease.superseded, true)
  t.equal((await lease('news')).json.value, 'two')
})

t.test('a renewal runs from now, is judged as a new lease, and ends with the lease', async (t) => {
  await put('renewed')
  const first = (await lease('renewed', { ttl_seconds: 5 })).json.lease
  const url = `/v1/leases/${first.id}`
  const { status, json } = await worker('POST', `${url}/renew`, { ttl_seconds: 1800 })
  t.equal(status, 200)
  t.same(Object.keys(json), ['lease'])
  near(t, secondsUntil(json.lease.expires_at), 1800)
  t.match(json.lease, { id: first.id, issued_at: first.issued_at, state: 'active', version: 1 })
  near(t, secondsUntil((await worker('POST', `${url}/renew`)).json.lease.expires_at), 900)
  near(t, secondsUntil((await worker('POST', `${url}/renew`, { ttl_seconds: 10 })).json.lease.expires_at), 10)
  for (const wrong of [{ ttl_seconds: 0 }, { version: 1 }, { run_id: 'a' }]) {
    t.equal((await worker('POST', `${url}/renew`, wrong)).status, 400)
  }
  await worker('PATCH', `${C}/renewed`, { expires_at: '2020-01-01T00:00:00Z' })
  t.equal((await worker('POST', `${url}/renew`)).json.code, 'credential_expired')
  await worker('DELETE', url)
  const ended = await worker('POST', `${url}/renew`)
  t.match([ended.status, ended.json.code], [410, 'lease_ended'])

  await put('ran-out')
  const short = (await lease('ran-out', { ttl_seconds: 1 })).json.lease
  await new Promise((resolve) => setTimeout(resolve, 1100))
  t.equal((await worker('GET', `/v1/leases/${short.id}`)).json.state, 'expired')
  t.equal((await worker('POST', `/v1/leases/${short.id}/renew`)).json.code, 'lease_ended')
})

t.test('who may not lease any more is told so, whatever has become of his lease', async (t) => {
  const narrowed = service.as(await service.identity('narrowed', [ALL]))
  const leases: Record<string, string> = {}
  for (const name of ['n-active', 'n-superseded', 'n-revoked']) {
    await put(name)
    leases[name] = (await narrowed('POST', `${C}/${name}/leases`)).json.lease.id
  }
  await worker('PUT', `${C}/n-superseded/value`, { value: 'two' })
  await worker('DELETE', `/v1/leases/${leases['n-revoked']}`)
  const renewals = async () => {
    const answers = await Promise.all(
      Object.values(leases).map((id) => narrowed('POST', `/v1/leases/${id}/renew`)),
    )
    return answers.map(({ json }) => json.code)
  }
  t.same(await renewals(), [undefined, 'lease_superseded', 'lease_ended'])
  const grants = [{ ...ALL, actions: ['lease:read'] }]
  await service.admin('PUT', '/v1/admin/roles/narrowed', { grants })
  t.same(await renewals(), ['forbidden', 'forbidden', 'forbidden'])
  await service.admin('PUT', '/v1/admin/roles/narrowed', { grants: [] })
  t.same(await renewals(), ['not_found', 'not_found', 'lease_ended'], 'his own lease he knows')
})

t.test('revoking a lease is 204 again and again, and changes nothing the second time', async (t) => {
  await put('revoked')
  const { id } = (await lease('revoked')).json.lease
  for (let time = 0; time < 3; time++) t.equal((await worker('DELETE', `/v1/leases/${id}`)).status, 204)
  t.equal((await worker('GET', `/v1/leases/${id}`)).json.state, 'revoked')
  const marks = (await service.admin('GET', '/v1/admin/audit?action=lease:revoke&credential=revoked')).json
    .items
  t.same(
    marks.map((one: { mark?: string }) => one.mark),
    ['unchanged', 'unchanged', undefined],
  )
  for (const id of ['x', '0190a1b2-0000-7000-8000-000000000001', `${'0'.repeat(400)}`]) {
    t.equal((await worker('DELETE', `/v1/leases/${id}`)).status, 404)
    t.equal((await worker('GET', `/v1/leases/${id}`)).status, 404)
    t.equal((await worker('POST', `/v1/leases/${id}/renew`)).status, 404)
  }
})

t.test('own leases are listed by each filter', async (t) => {
  await put('listed')
  const active = (await lease('listed', { run_id: 'r 1' })).json.lease.id
  const revoked = (await lease('listed', { run_id: 'r2' })).json.lease.id
  await worker('DELETE', `/v1/leases/${revoked}`)
  const expected: Record<string, string[]> = {
    'credential=listed': [revoked, active],
    'credential=listed&state=active': [active],
    'credential=listed&state=revoked': [revoked],
    'credential=listed&state=expired': [],
    'credential=listed&state=failed': [],
    'credential=listed&run_id=r%201': [active],
    'credential=listed&workspace=acme&identity=worker': [revoked, active],
    'credential=listed&workspace=globex': [],
    'credential=listed&identity=admin': [],
    'credential=nothing': [],
  }
  for (const [query, ids] of Object.entries(expected))
    t.same(idsOf(await worker('GET', `/v1/leases?${query}`)), ids, query)
  for (const query of ['superseded=1', 'state=ended', 'run_id=%00', 'workspace=A', 'more=1', 'superseded']) {
    t.equal((await worker('GET', `/v1/leases?${query}`)).status, 400, query)
  }
})

t.test('last_leased_at and last_used_at follow', async (t) => {
  await put('used')
  await lease('used')
  let credential: { last_leased_at?: string } = {}
  for (let tries = 0; tries < 40 && credential.last_leased_at === undefined; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    credential = (await worker('GET', `${C}/used`)).json
  }
  t.match(credential.last_leased_at, /Z$/)
  const [token] = (await service.admin('GET', '/v1/admin/identities/worker/tokens')).json.items
  t.match(token.last_used_at, /Z$/)
})
