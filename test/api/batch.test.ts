import t from 'tap'
import type { Answer } from '../service.ts'
import { ALL, startService } from '../service.ts'

const C = '/v1/workspaces/acme/credentials'
const BATCH = '/v1/workspaces/acme/leases'
const service = await startService(t)
const writer = service.as(await service.identity('writer', [ALL]))
for (const name of ['a', 'b', 'c'])
  await writer('PUT', `${C}/${name}`, { connector: 'c', value: { of: name } })
await writer('PUT', `${C}/hidden`, { connector: 'other', value: 1 })
await writer('PUT', `${C}/expired`, { connector: 'c', value: 1, expires_at: '2020-01-01T00:00:00Z' })
const worker = service.as(
  await service.identity('worker', [
    { actions: ['lease:issue'], workspaces: ['acme'], connectors: ['c'], credentials: ['a', 'b', 'expired'] },
    { actions: ['lease:read'], workspaces: ['acme'], credentials: ['c'] },
  ]),
)

t.test('a batch answers each in the order asked, each judged alone', async (t) => {
  const credentials = ['b', 'missing', 'c', 'hidden', 'expired', 'a']
  const { status, json, headers } = await worker('POST', BATCH, {
    credentials,
    ttl_seconds: 60,
    run_id: 'r',
    reason: 'x',
  })
  t.equal(status, 200)
  t.same(
    json.results.map((one: { credential: string }) => one.credential),
    credentials,
  )
  const codes = json.results.map((one: { problem?: { code: string } }) => one.problem?.code)
  t.same(codes, [undefined, 'not_found', 'forbidden', 'not_found', 'credential_expired', undefined])
  const [b, missing, c, hidden] = json.results
  t.same(Object.keys(b), ['credential', 'lease', 'value'])
  t.match(b, {
    value: { of: 'b' },
    lease: { credential: 'b', ttl_seconds: 60, run_id: 'r', reason: 'x', state: 'active' },
  })
  t.same(missing.problem, hidden.problem, 'what may not be known is as if it were missing')
  t.match(c.problem, {
    status: 403,
    type: '/problems/forbidden',
    instance: `/requests/${headers['x-request-id']}`,
  })
  t.match(c.problem.detail, 'lease:issue')
  const events = (await service.admin('GET', '/v1/admin/audit?action=lease:issue&workspace=acme')).json.items
  const ours = events.filter((one: { request_id: string }) => one.request_id === headers['x-request-id'])
  t.equal(ours.length, credentials.length, 'each is an event')
  t.same(ours.map((one: { outcome: string }) => one.outcome).sort(), [
    'allowed',
    'allowed',
    ...Array(4).fill('refused'),
  ])
})

t.test('where all are refused the answer is 200 all the same', async (t) => {
  const { status, json } = await worker('POST', BATCH, { credentials: ['missing', 'expired'] })
  t.equal(status, 200)
  t.same(
    json.results.map((one: { problem: { code: string } }) => one.problem.code),
    ['not_found', 'credential_expired'],
  )
})

t.test('a workspace that is missing, or in which the caller has nothing, is 404 as a whole', async (t) => {
  const admin = service.as(service.adminToken)
  const answers = [
    await worker('POST', '/v1/workspaces/globex/leases', { credentials: ['a'] }),
    await worker('POST', '/v1/workspaces/nowhere/leases', { credentials: ['a'] }),
    await worker('POST', '/v1/workspaces/-no-slug/leases', { credentials: ['a'] }),
    await admin('POST', BATCH, { credentials: ['a', 'b'] }),
  ]
  for (const { status, json } of answers) {
    t.equal(status, 404)
    t.same({ ...json, instance: '' }, { ...answers[0]!.json, instance: '' })
  }
})

t.test('a batch names 1 to 100 credentials, none twice, and no version', async (t) => {
  const hundred = Array.from({ length: 100 }, (_, index) => `n${index}`)
  t.equal((await worker('POST', BATCH, { credentials: hundred })).json.results.length, 100)
  const wrong = [
    undefined,
    {},
    { credentials: [] },
    { credentials: [...hundred, 'more'] },
    { credentials: ['a', 'a'] },
    { credentials: ['a', '.a'] },
    { credentials: ['a', 1] },
    { credentials: 'a' },
    { credentials: ['a'], version: 1 },
    { credentials: ['a'], ttl_seconds: 3601 },
    { credentials: ['a'], config: {} },
  ]
  for (const body of wrong)
    t.equal((await worker('POST', BATCH, body)).status, 400, JSON.stringify(body)?.slice(0, 60))
})

t.test('who shows no good token is 401 whatever the batch', async (t) => {
  for (const body of [{ credentials: ['a'] }, { credentials: [] }, undefined]) {
    const { status, headers } = await service.as(undefined)('POST', BATCH, body)
    t.match([status, headers['www-authenticate']], [401, 'Bearer'])
  }
})

t.test('one caller gets so many credentials a second, and a batch of n counts n', async (t) => {
  const limited = await startService(t, {}, { rateLimit: 5 })
  const token = await limited.identity('caller', [ALL])
  const ask = limited.as(token)
  await ask('PUT', `${C}/a`, { connector: 'c', value: 1 })
  const oneTooMany = async (): Promise<Answer> => {
    await new Promise((resolve) => setTimeout(resolve, 1100))
    const beganAt = performance.now()
    t.equal((await ask('POST', BATCH, { credentials: ['a', 'b', 'c', 'd', 'e'] })).status, 200)
    const answer = await ask('POST', `${C}/a/leases`)
    // On a busy machine the second may be over by then.
    return performance.now() - beganAt < 900 ? answer : oneTooMany()
  }
  const { status, json, headers } = await oneTooMany()
  t.match([status, json.code, headers['retry-after']], [429, 'rate_limited', '1'])
  const other = limited.as(await limited.identity('another', [ALL]))
  t.equal((await other('POST', `${C}/a/leases`)).status, 201, 'another caller is not slowed')
  await new Promise((resolve) => setTimeout(resolve, 1100))
  t.equal((await ask('POST', `${C}/a/leases`)).status, 201)
})
