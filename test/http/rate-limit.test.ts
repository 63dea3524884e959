import { mock } from 'node:test'
import t from 'tap'
import { buildServiceApp } from '../../src/http/service-app.ts'
import { ask, bad, caller, stubDeps } from './stub-deps.ts'

// The second is in the test's hand.
mock.timers.enable({ apis: ['Date', 'setTimeout'] })
t.teardown(() => mock.timers.reset())

t.test('one token gets so many credentials a second, and another is not slowed by it', async (t) => {
  const { deps } = stubDeps({}, { rateLimit: 5, authenticate: async () => caller })
  const app = buildServiceApp(deps)
  const url = '/v1/workspaces/acme/leases'
  t.equal((await ask(app, { method: 'POST', url, payload: { credentials: ['a', 'b', 'c'] } })).status, 200)
  t.equal((await ask(app, { url: '/v1/whoami' })).status, 200)
  const limited = await ask(app, { method: 'POST', url, payload: { credentials: ['a', 'b'] } })
  t.equal(limited.status, 429)
  t.equal(limited.json.code, 'rate_limited')
  t.equal(limited.headers['retry-after'], '1')
  const other = { authorization: `Bearer ${bad.text.reveal()}` }
  t.equal((await ask(app, { url: '/v1/whoami', headers: other })).status, 200)
  t.equal((await ask(app, { url: '/health/ready' })).status, 200)
})

t.test('a batch that is larger than the rate takes a whole second, and no less than that', async (t) => {
  const { deps } = stubDeps({}, { rateLimit: 2 })
  const app = buildServiceApp(deps)
  const url = '/v1/workspaces/acme/leases'
  const batch = async () =>
    (await ask(app, { method: 'POST', url, payload: { credentials: ['a', 'b', 'c'] } })).status
  t.equal(await batch(), 200)
  t.equal((await ask(app, { url: '/v1/whoami' })).status, 429, 'nothing is left of this second')
  t.equal(await batch(), 429)
  mock.timers.tick(1100)
  t.equal((await ask(app, { url: '/v1/whoami' })).status, 200)
  t.equal(await batch(), 429, 'a second of which something was taken is not whole')
})

t.test(
  'a call that is refused for its form is counted, and past the limit its body is not read',
  async (t) => {
    const { deps } = stubDeps({}, { rateLimit: 2 })
    const app = buildServiceApp(deps)
    const url = '/v1/workspaces/acme/leases'
    const statuses = []
    for (const payload of [{ credentials: 1 }, { frobnicate: 1 }, { credentials: 1 }])
      statuses.push((await ask(app, { method: 'POST', url, payload })).status)
    t.strictSame(statuses, [400, 400, 429])
  },
)
