import t from 'tap'
import { v7 } from 'uuid'
import type { Json } from '../service.ts'
import { ALL, startService } from '../service.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, lockWaits } from '../vault.ts'

const C = '/v1/workspaces/acme/credentials'
const AUDIT = '/v1/admin/audit'
const service = await startService(t)
const { admin } = service
const writer = service.as(await service.identity('writer', [ALL]))
const reader = service.as(
  await service.identity('reader', [{ actions: ['credential:read'], workspaces: ['acme'] }]),
)
await writer('PUT', `${C}/a`, { connector: 'c', value: 1 })
const leased = await writer('POST', `${C}/a/leases`, { run_id: 'run', reason: 'why' })
const refused = await reader('POST', `${C}/a/leases`)
const events = async (query: string): Promise<Json[]> => (await admin('GET', `${AUDIT}?${query}`)).json.items

t.test('an event says who did what to what, from where, and under which request', async (t) => {
  const [event] = await events('action=lease:issue&outcome=allowed')
  t.match(event, {
    sequence: Number,
    recorded_at: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/,
    identity: 'writer',
    action: 'lease:issue',
    operation: 'leaseCredential',
    outcome: 'allowed',
    workspace: 'acme',
    credential: 'a',
    version: 1,
    lease: leased.json.lease.id,
    run_id: 'run',
    reason: 'why',
    address: '127.0.0.1',
    request_id: leased.headers['x-request-id'],
    hash: /^[0-9a-f]{64}$/,
  })
  t.notOk('code' in event)
  const [no] = await events('action=lease:issue&outcome=refused')
  t.match(no, { identity: 'reader', code: 'forbidden', request_id: refused.headers['x-request-id'] })
  t.notOk('lease' in no)
})

t.test('each filter keeps what it says, and all of them must hold', async (t) => {
  const all = await events('limit=500')
  const kept: Record<string, (one: Json) => boolean> = {
    'workspace=acme': (one) => one.workspace === 'acme',
    'credential=a': (one) => one.credential === 'a',
    'identity=reader': (one) => one.identity === 'reader',
    'action=lease:issue': (one) => one.action === 'lease:issue',
    'outcome=refused': (one) => one.outcome === 'refused',
    'identity=writer&action=credential:write': (one) =>
      one.identity === 'writer' && one.action === 'credential:write',
    'workspace=globex&credential=a': () => false,
  }
  const before = all[0].recorded_at
  for (const [query, keeps] of Object.entries(kept)) {
    const found = (await events(`${query}&limit=500`)).filter((one) => one.recorded_at <= before)
    t.same(
      found.map((one) => one.id),
      all.filter(keeps).map((one) => one.id),
      query,
    )
  }
  const middle = all[Math.floor(all.length / 2)].recorded_at.slice(0, 23) + 'Z'
  const since = await events(`limit=500&from=${middle}`)
  const until = await events(`limit=500&to=${middle}`)
  t.ok(since.every((one) => one.recorded_at.slice(0, 23) + 'Z' >= middle))
  t.ok(until.every((one) => one.recorded_at.slice(0, 23) + 'Z' <= middle))
  t.ok(all.every((one) => [...since, ...until].some((other) => other.id === one.id)))
  for (const query of [
    'outcome=ok',
    'action=Lease',
    'identity=A',
    'from=x',
    'from=2030-02-30T00:00:00Z',
    'code=forbidden',
  ]) {
    t.equal((await admin('GET', `${AUDIT}?${query}`)).status, 400, query)
  }
})

t.test('whoami, refused forms and failed authentications are no events of a caller', async (t) => {
  const count = async () => (await events('limit=500&identity=reader')).length
  const before = await count()
  await reader('GET', '/v1/whoami')
  await reader('GET', `${C}?more=1`)
  await reader('POST', `${C}/a/leases`, { more: 1 })
  await reader('GET', '/v1/nowhere')
  t.equal(await count(), before)
  await reader('GET', `${C}/a`)
  t.equal(await count(), before + 1)
  for (let time = 0; time < 3; time++) await service.as('srt_wrong')('GET', '/v1/whoami')
  await new Promise((resolve) => setTimeout(resolve, 200))
  let failed: Json[] = []
  await eventually(async () => (failed = await events('action=authenticate')).length > 0)
  t.ok(failed.length === 1 || failed.length === 2, 'one for an address and minute')
  t.match(failed[0], { outcome: 'refused', code: 'unauthenticated', address: '127.0.0.1' })
})

t.test('what a grant gives is an event marked privilege, and a warning in the log', async (t) => {
  await admin('PUT', '/v1/admin/roles/mighty', { grants: [{ actions: ['lease:issue'], workspaces: ['*'] }] })
  await admin('PUT', '/v1/admin/roles/weak', { grants: [{ actions: ['lease:read'], workspaces: ['*'] }] })
  const [weak, mighty] = await events('action=admin:roles&limit=2')
  t.equal(mighty.mark, 'privilege')
  t.notOk('mark' in weak)
  const warnings = service
    .log()
    .split('\n')
    .filter((line) => line.includes('privilege granted'))
  t.ok(warnings.some((line) => line.includes('putRole') && line.includes('"level":"warn"')))
})

t.test('a trail verifies, anchored where heads were given, and what does not fit is found', async (t) => {
  const verified = await admin('GET', `${AUDIT}/verify`)
  t.match(verified.json, { valid: true, anchored: false })
  const heads = verified.json.streams.map((one: Json) => one.head)
  t.ok(heads.length >= 2)
  const anchored = await admin('POST', `${AUDIT}/verify`, { heads })
  t.match(anchored.json, { valid: true, anchored: true })
  for (const stream of anchored.json.streams)
    t.ok(stream.valid && stream.events >= 1 && stream.head.hash.length === 64)
  const [head] = heads
  const wrong = [
    { ...head, hash: '0'.repeat(64) },
    { ...head, sequence: head.sequence + 1000 },
    { ...head, stream: v7() },
  ]
  for (const one of wrong)
    t.match((await admin('POST', `${AUDIT}/verify`, { heads: [one] })).json, { valid: false })
  t.equal((await admin('POST', `${AUDIT}/verify`)).status, 400)
  for (const bad of [
    { ...head, stream: 'x' },
    { ...head, sequence: 0 },
    { ...head, hash: 'AB' },
    { stream: head.stream },
  ]) {
    t.equal((await admin('POST', `${AUDIT}/verify`, { heads: [bad] })).status, 400)
  }
  const range = await admin('GET', `${AUDIT}/verify?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z`)
  t.match(range.json, { valid: true })

  await service.ground.sql(`update audit_events set reason = 'other' where reason = 'why'`)
  const broken = (await admin('GET', `${AUDIT}/verify`)).json
  t.equal(broken.valid, false)
  const [event] = await events('action=lease:issue&outcome=allowed')
  t.match(
    broken.streams.filter((one: Json) => !one.valid),
    [{ stream: event.stream, first_bad: event.sequence }],
  )
})

t.test('keys and rotations are told as they are', async (t) => {
  const { items } = (await admin('GET', '/v1/admin/keys')).json
  t.equal(items.length, 1)
  t.match(items[0], { id: /^[0-9a-f]{32}$/, sealing: true, copies: 1 })
  t.equal(items[0].processes.length, 1)
  const unknown = await admin('POST', '/v1/admin/rotations', { to_key: '0'.repeat(32) })
  t.match([unknown.status, unknown.json.code], [400, 'unknown_name'])
  t.equal((await admin('POST', '/v1/admin/rotations', { to_key: 'x' })).status, 400)
  const begun = await admin('POST', '/v1/admin/rotations')
  t.equal(begun.status, 202)
  t.match(begun.json, { to_key: items[0].id, total: 0, started_by: 'admin' })
  const url = begun.headers['location']!
  let run = begun.json
  for (let tries = 0; tries < 50 && run.state === 'running'; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    run = (await admin('GET', url)).json
  }
  t.match(run, { state: 'done', moved: 0, failed: 0, failures: [], finished_at: /Z$/ })
  t.match((await admin('POST', `${url}/cancel`)).json, { code: 'wrong_state' })
  t.same((await admin('GET', '/v1/admin/rotations')).json.items, [run])
  for (const id of ['x', v7()]) {
    t.equal((await admin('GET', `/v1/admin/rotations/${id}`)).status, 404)
    t.equal((await admin('POST', `/v1/admin/rotations/${id}/cancel`)).status, 404)
  }
})

t.test('of two verifications at once one is refused, and recorded so', async (t) => {
  // No event is written into this partition, and every verification reads it.
  const session = await anotherSession(t, service.ground)
  await session.query('begin')
  await session.query('lock table audit_events_default in access exclusive mode')
  const first = admin('GET', `${AUDIT}/verify`)
  t.ok(await eventually(async () => (await lockWaits(service.ground)) > 0), 'the first one reads')
  const refused = await admin('GET', `${AUDIT}/verify`)
  t.equal(refused.status, 409)
  t.equal(refused.json.code, 'already_running')
  await session.query('commit')
  t.equal((await first).status, 200)
  const requestId = refused.headers['x-request-id']
  const recorded = await service.ground.sql('select outcome, code from audit_events where request_id = $1', [
    requestId,
  ])
  t.strictSame(recorded, [{ outcome: 'refused', code: 'already_running' }])
  t.equal((await admin('GET', `${AUDIT}/verify`)).status, 200, 'and afterwards there may be another')
})
