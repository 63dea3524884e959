import t from 'tap'
import { buildServiceApp } from '../../src/http/service-app.ts'
import { barrier } from '../troubled-store.ts'
import { listening, requestText, until } from './raw-connection.ts'
import { granted, stubDeps } from './stub-deps.ts'

const LEASE = 'POST /v1/workspaces/acme/credentials/orders-db/leases'
const JSON_OF = (length: number) => ({ 'content-type': 'application/json', 'content-length': String(length) })

t.test('who says nothing, or half of something, does not keep the service from its end', async (t) => {
  const [taken, mayAnswer] = [barrier(), barrier()]
  const slow = async () => {
    taken.open()
    await mayAnswer.wait()
    return granted
  }
  const { deps } = stubDeps({ 'leaseGrants.lease': slow }, { deadlineSeconds: 2 })
  const app = buildServiceApp(deps)
  const connect = await listening(t, app)
  const [silent, half, halfBody, asking] = [connect(), connect(), connect(), connect()] as const
  half.send('GET /health/li')
  halfBody.send(`${requestText(LEASE, JSON_OF(100))}{"ttl_`)
  asking.send(`${requestText(LEASE, JSON_OF(2))}{}`)
  await taken.wait()
  const beganAt = performance.now()
  const closed = app.close()
  mayAnswer.open()
  await closed
  t.ok(performance.now() - beganAt < 20_000, 'the deadline, a second, and some patience')
  t.match((await asking.answers(1))[0], { status: 201 }, 'what is in flight is answered')
  await until(() => silent.closed && half.closed && halfBody.closed)
})

t.test('where nobody is connected it ends at once', async (t) => {
  const app = buildServiceApp(stubDeps({}, { deadlineSeconds: 60 }).deps)
  await listening(t, app)
  const beganAt = performance.now()
  await app.close()
  t.ok(performance.now() - beganAt < 20_000)
})
