import t from 'tap'
import { VaultError } from '../../src/core/errors.ts'
import { buildServiceApp } from '../../src/http/service-app.ts'
import { ask, bad, stubDeps } from './stub-deps.ts'

const C = '/v1/workspaces/acme/credentials'
const stranger = { authorization: `Bearer ${bad.text.reveal()}` }
const json = { 'content-type': 'application/json' }

const faulty = [
  { name: 'a body that is not JSON', payload: '{', headers: json },
  { name: 'a body of another type', payload: 'a=1', headers: { 'content-type': 'text/plain' } },
  { name: 'an unknown field', payload: '{"frobnicate":1}', headers: json },
  { name: 'a body that is too large', payload: `"${'x'.repeat(1024 * 1024)}"`, headers: json },
]
const doors = [
  { method: 'POST', url: C },
  { method: 'POST', url: `${C}/orders-db/leases` },
  { method: 'POST', url: '/v1/workspaces/acme/leases' },
] as const

for (const door of doors) {
  for (const { name, payload, headers } of faulty) {
    t.test(`${door.url}: who shows no good token learns nothing of ${name}`, async (t) => {
      const { deps, seen } = stubDeps()
      const app = buildServiceApp(deps)
      for (const authorization of [stranger.authorization, 'Bearer x', 'Basic x', '']) {
        const answer = await ask(app, { ...door, payload, headers: { ...headers, authorization } })
        t.equal(answer.status, 401)
        t.equal(answer.json.code, 'unauthenticated')
        t.equal(answer.headers['www-authenticate'], 'Bearer')
      }
      t.equal(seen.failedAuthentications.length, 4)
      t.equal(seen.calls.length, 0)
      const known = await ask(app, { ...door, payload, headers })
      t.ok([400, 413, 415].includes(known.status))
      t.equal(seen.failedAuthentications.length, 4)
      t.equal(seen.calls.length, 0)
    })
  }
}

t.test('the form is judged before what is there', async (t) => {
  const { deps } = stubDeps({
    'values.put': async () => {
      throw new VaultError('not_found', 'x')
    },
  })
  const app = buildServiceApp(deps)
  const url = `${C}/orders-db/value`
  t.equal((await ask(app, { method: 'PUT', url, payload: {} })).status, 400)
  t.equal((await ask(app, { method: 'PUT', url, payload: { value: 1 } })).status, 404)
  const ifMatch = { 'if-match': '3' }
  t.equal((await ask(app, { method: 'PUT', url, payload: { value: 1 }, headers: ifMatch })).status, 400)
})

t.test('a token that the statement of leases refuses counts as a failed authentication', async (t) => {
  const refuse = async () => {
    throw new VaultError('unauthenticated', 'x')
  }
  const { deps, seen } = stubDeps({ 'leaseGrants.lease': refuse, 'leaseGrants.leaseMany': refuse })
  const app = buildServiceApp(deps)
  t.equal((await ask(app, { method: 'POST', url: `${C}/orders-db/leases` })).status, 401)
  const payload = { credentials: ['a'] }
  t.equal((await ask(app, { method: 'POST', url: '/v1/workspaces/acme/leases', payload })).status, 401)
  t.strictSame(seen.failedAuthentications, ['leaseCredential', 'leaseCredentials'])
})

t.test('what cannot be a name reaches the core, which judges it, once the token is good', async (t) => {
  const { deps, seen } = stubDeps()
  const app = buildServiceApp(deps)
  const urls = [
    `${C}/.x`,
    `${C}/a%00b`,
    `${C}/a%2Fb`,
    `${C}/${'a'.repeat(129)}`,
    '/v1/workspaces/Acme/credentials',
  ]
  for (const url of urls) t.equal((await ask(app, { url, headers: stranger })).status, 401, url)
  t.equal(seen.calls.length, 0)
  for (const url of urls) t.equal((await ask(app, { url })).status, 200, url)
  t.equal(seen.calls.length, urls.length)
})

t.test('what cannot be the number of a version is none to the core', async (t) => {
  const { deps, seen } = stubDeps()
  const app = buildServiceApp(deps)
  for (const version of ['0', '01', '1e3', 'x', '12345678901']) {
    await ask(app, { method: 'POST', url: `${C}/orders-db/versions/${version}/promote` })
    t.equal(seen.calls.pop()?.args[4], 0, version)
  }
  await ask(app, { method: 'POST', url: `${C}/orders-db/versions/12/promote` })
  t.equal(seen.calls.pop()?.args[4], 12)
})

t.test('a call reaches the core once', async (t) => {
  const { deps, seen } = stubDeps()
  const app = buildServiceApp(deps)
  await ask(app, { url: C })
  await ask(app, { method: 'DELETE', url: `${C}/orders-db` })
  await ask(app, { method: 'POST', url: `${C}/orders-db/leases` })
  t.strictSame(
    seen.calls.map(({ method }) => method),
    ['credentials.list', 'credentials.delete', 'leaseGrants.lease'],
  )
})
