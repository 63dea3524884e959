import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Caller } from '../../src/core/calls.ts'
import { buildAdminApp } from '../../src/http/admin-app.ts'
import { buildServiceApp } from '../../src/http/service-app.ts'
import { listening, requestText, until } from './raw-connection.ts'
import { caller, credential, stubDeps } from './stub-deps.ts'

const C = '/v1/workspaces/acme/credentials'
const READ = requestText(`GET ${C}/orders-db`)
const LEASE = requestText(`POST ${C}/orders-db/leases`, { 'content-length': '0' })

t.test('a lease that was sent ahead is judged when its answer can leave, and not before', async (t) => {
  const first = Promise.withResolvers<typeof credential>()
  const { deps, seen } = stubDeps({ 'credentials.read': () => first.promise })
  const connection = (await listening(t, buildServiceApp(deps)))()
  connection.send(READ, LEASE)
  await until(() => seen.calls.length > 0)
  await sleep(100)
  t.strictSame(
    seen.calls.map(({ method }) => method),
    ['credentials.read'],
  )
  first.resolve(credential)
  const answers = await connection.answers(2)
  t.strictSame(
    answers.map(({ status }) => status),
    [200, 201],
  )
  t.equal(seen.calls.length, 2)
})

t.test('a token that was revoked while a lease waited for its turn gets no value', async (t) => {
  const first = Promise.withResolvers<typeof credential>()
  let known: typeof caller | undefined = caller
  const { deps } = stubDeps({ 'credentials.read': () => first.promise }, { authenticate: async () => known })
  const connection = (await listening(t, buildServiceApp(deps)))()
  connection.send(READ, LEASE)
  await sleep(50)
  known = undefined
  first.resolve(credential)
  const [, second] = await connection.answers(2)
  t.equal(second?.status, 401)
})

t.test('what was sent ahead has its deadline from its arrival, and is never begun after it', async (t) => {
  const first = Promise.withResolvers<unknown>()
  const grants: Caller['grants'] = [{ actions: ['admin:audit'], workspaces: ['*'] }]
  const { deps, seen } = stubDeps(
    { 'auditTrail.verify': () => first.promise },
    { deadlineSeconds: 0.1, authenticate: async () => ({ ...caller, grants }) },
  )
  const connection = (await listening(t, buildAdminApp(deps)))()
  connection.send(requestText('GET /v1/admin/audit/verify'), requestText('GET /v1/admin/roles'))
  await sleep(200)
  t.equal(connection.text, '')
  first.resolve({ valid: true, anchored: false, streams: [] })
  const answers = await connection.answers(2)
  t.strictSame(
    answers.map(({ status }) => status),
    [200, 503],
  )
  t.equal(seen.calls.length, 1)
})

t.test(
  'what waits for its turn on a connection that closes is never begun, and keeps no timer',
  async (t) => {
    const first = Promise.withResolvers<typeof credential>()
    const answered: number[] = []
    const { deps, seen } = stubDeps(
      { 'credentials.read': () => first.promise },
      { deadlineSeconds: 0.2, onAnswered: (_operation: string, status: number) => answered.push(status) },
    )
    const connection = (await listening(t, buildServiceApp(deps)))()
    connection.send(READ, LEASE, LEASE)
    await until(() => seen.calls.length > 0)
    connection.socket.destroy()
    await sleep(50)
    first.resolve(credential)
    await sleep(300)
    t.equal(seen.calls.length, 1)
    t.strictSame(answered, [200], 'no deadline passed')
  },
)
