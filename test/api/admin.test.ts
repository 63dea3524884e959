import t from 'tap'
import type { Answer } from '../service.ts'
import { ALL, startService } from '../service.ts'

const service = await startService(t)
const { admin } = service
const A = '/v1/admin'
const writer = service.as(await service.identity('writer', [ALL]))
const codeOf = ({ status, json }: Answer): unknown[] => [status, json.code]

t.test(
  'a thing is made with 201, replaced with 200, answered whole, deleted with 204 and then 404',
  async (t) => {
    const things = [
      { path: 'workspaces/thing', body: { default_store: 'local' }, other: {} },
      { path: 'roles/thing', body: { grants: [ALL] }, other: { grants: [] } },
      { path: 'identities/thing', body: { roles: ['writer'] }, other: { roles: [] } },
    ]
    for (const { path, body, other } of things) {
      const url = `${A}/${path}`
      t.same(codeOf(await admin('GET', url)), [404, 'not_found'])
      const made = await admin('PUT', url, body)
      t.match([made.status, made.headers['location']], [201, url])
      t.match(made.json, { name: 'thing', ...body, created_at: /Z$/ })
      t.equal((await admin('PUT', url, body)).status, 200)
      const replaced = await admin('PUT', url, other)
      t.equal(replaced.status, 200)
      t.same(replaced.json, { name: 'thing', ...other, created_at: made.json.created_at })
      t.same((await admin('GET', url)).json, replaced.json, 'what is left out becomes empty')
      t.equal((await admin('DELETE', url)).status, 204)
      t.same(codeOf(await admin('DELETE', url)), [404, 'not_found'])
      for (const name of ['Thing', '-a', 'a_b', 'a'.repeat(64), 'a%20b']) {
        const elsewhere = url.replace('thing', name)
        for (const method of ['GET', 'DELETE']) t.equal((await admin(method, elsewhere)).status, 404)
        t.equal((await admin('PUT', elsewhere, other)).status, 404)
      }
      for (const wrong of [null, [], { ...body, more: 1 }, undefined])
        t.equal((await admin('PUT', url, wrong)).status, 400)
    }
  },
)

t.test('a workspace is in use while it has credentials, deleted ones included', async (t) => {
  await admin('PUT', `${A}/workspaces/busy`, {})
  const url = '/v1/workspaces/busy/credentials/a'
  await writer('PUT', url, { connector: 'c', value: 1 })
  t.same(codeOf(await admin('DELETE', `${A}/workspaces/busy`)), [409, 'in_use'])
  await writer('DELETE', url)
  t.same(codeOf(await admin('DELETE', `${A}/workspaces/busy`)), [409, 'in_use'])
  await writer('DELETE', `${url}?purge=true`)
  t.equal((await admin('DELETE', `${A}/workspaces/busy`)).status, 204)
  t.equal((await writer('GET', '/v1/workspaces/busy/credentials')).status, 404)
  const unknown = await admin('PUT', `${A}/workspaces/busy`, { default_store: 'vault' })
  t.match(
    [unknown.status, unknown.json.code, unknown.json.errors[0].pointer],
    [400, 'unknown_name', '/default_store'],
  )
  t.equal((await admin('PUT', `${A}/workspaces/busy`, { default_store: null })).status, 400)
})

t.test(
  'a role is in use while an identity has it, and a role that is not there is unknown_name',
  async (t) => {
    await admin('PUT', `${A}/roles/used`, { grants: [] })
    await admin('PUT', `${A}/identities/user`, { roles: ['used'] })
    t.same(codeOf(await admin('DELETE', `${A}/roles/used`)), [409, 'in_use'])
    await admin('DELETE', `${A}/identities/user`)
    t.equal((await admin('DELETE', `${A}/roles/used`)).status, 204)
    const unknown = await admin('PUT', `${A}/identities/user`, { roles: ['writer', 'used'] })
    t.match(
      [unknown.status, unknown.json.code, unknown.json.errors[0].pointer],
      [400, 'unknown_name', '/roles'],
    )
    t.equal((await admin('GET', `${A}/identities/user`)).status, 404, 'nothing was made')
    t.equal((await admin('PUT', `${A}/identities/user`, { roles: ['writer', 'writer'] })).status, 400)
  },
)

t.test('a grant says what the contract lets it say, and is answered as it was put', async (t) => {
  const put = async (grant: unknown) => (await admin('PUT', `${A}/roles/tried`, { grants: [grant] })).status
  const full = {
    actions: ['credential:read', 'lease:*'],
    workspaces: ['ac*', 'globex'],
    connectors: ['source-*'],
    credentials: ['Orders_*', '*.prod'],
    labels: { team: 'a*', tier: '' },
    lease_ttl_seconds_max: 3600,
  }
  t.equal(await put(full), 201)
  t.same((await admin('GET', `${A}/roles/tried`)).json.grants, [full])
  const good = [
    { actions: ['admin:*'], workspaces: ['*'] },
    { actions: [], workspaces: [] },
    { actions: ['credential:*', 'admin:audit'], workspaces: ['*'] },
    { ...full, connectors: [], credentials: [], labels: {} },
    { ...full, credentials: ['*a*a*a*a*a*a*a*'] },
  ]
  for (const grant of good) t.equal(await put(grant), 200, JSON.stringify(grant))
  const bad = [
    {},
    { actions: ['lease:issue'] },
    { ...full, actions: ['*'] },
    { ...full, actions: ['lease:grant'] },
    { ...full, actions: 'lease:*' },
    { ...full, workspaces: ['Acme'] },
    { ...full, workspaces: [''] },
    { ...full, workspaces: null },
    { ...full, credentials: ['a b'] },
    { ...full, credentials: ['*a*a*a*a*a*a*a*a*'] },
    { ...full, labels: { Team: 'a' } },
    { ...full, labels: { team: null } },
    { ...full, labels: { team: 'a\0' } },
    { ...full, lease_ttl_seconds_max: 0 },
    { ...full, lease_ttl_seconds_max: 3601 },
    { ...full, lease_ttl_seconds_max: '60' },
    { ...full, more: 1 },
    { actions: ['admin:audit'], workspaces: ['acme'] },
    { actions: ['admin:audit'], workspaces: ['*', 'acme'] },
    { actions: ['admin:audit', 'lease:issue'], workspaces: ['*'], labels: {} },
    { actions: ['admin:audit'], workspaces: ['*'], credentials: ['*'] },
    { actions: ['admin:audit'], workspaces: ['*'], lease_ttl_seconds_max: 60 },
  ]
  for (const grant of bad) t.equal(await put(grant), 400, JSON.stringify(grant))
})

t.test('nobody changes his own roles, and the last identity with admin:* stays', async (t) => {
  t.same(codeOf(await admin('PUT', `${A}/identities/admin`, { roles: ['admin', 'writer'] })), [
    403,
    'forbidden',
  ])
  t.same(codeOf(await admin('PUT', `${A}/identities/admin`, { roles: [] })), [403, 'forbidden'])
  t.equal((await admin('PUT', `${A}/identities/admin`, { roles: ['admin'] })).status, 200, 'nothing changes')
  t.same(codeOf(await admin('DELETE', `${A}/identities/admin`)), [409, 'in_use'])
  t.same(codeOf(await admin('PUT', `${A}/roles/admin`, { grants: [] })), [409, 'in_use'])

  const almost = [{ actions: ['admin:identities', 'admin:roles', 'admin:tokens'], workspaces: ['*'] }]
  const other = service.adminAs(await service.identity('almost', almost))
  t.same(codeOf(await other('PUT', `${A}/identities/admin`, { roles: [] })), [409, 'in_use'])
  t.same(codeOf(await other('DELETE', `${A}/identities/admin`)), [409, 'in_use'])
  t.equal((await admin('GET', `${A}/identities/admin`)).json.roles[0], 'admin', 'nothing was changed')

  await admin('PUT', `${A}/identities/second`, { roles: ['admin'] })
  const second = service.adminAs((await admin('POST', `${A}/identities/second/tokens`)).json.token)
  t.equal((await second('PUT', `${A}/identities/admin`, { roles: [] })).status, 200)
  t.equal((await admin('GET', `${A}/roles`)).status, 403)
  t.equal((await second('PUT', `${A}/identities/admin`, { roles: ['admin'] })).status, 200)
  t.equal((await second('DELETE', `${A}/identities/second`)).status, 204)
  t.equal((await second('GET', `${A}/roles`)).status, 401)
})

t.test('a token is shown once, lasts 90 days unless said, and ends with its leases', async (t) => {
  await admin('PUT', `${A}/identities/holder`, { roles: ['writer'] })
  const list = `${A}/identities/holder/tokens`
  const issued = await admin('POST', list)
  t.equal(issued.status, 201)
  t.same(Object.keys(issued.json).sort(), ['expires_at', 'id', 'token'])
  t.equal(issued.headers['location'], `${list}/${issued.json.id}`)
  t.match(issued.json.token, /^srt_[0-9A-Za-z]{16}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/)
  const days = (Date.parse(issued.json.expires_at) - Date.now()) / 86_400_000
  t.ok(days > 89.9 && days <= 90)
  const short = (await admin('POST', list, { expires_in_seconds: 1 })).json
  t.not(short.token, issued.json.token, 'a token is simply issued again')
  t.equal((await admin('POST', list, { expires_in_seconds: 365 * 86_400 })).status, 201)
  for (const expires_in_seconds of [0, 365 * 86_400 + 1, -1, '60', 1.5, null]) {
    t.equal((await admin('POST', list, { expires_in_seconds })).status, 400)
  }
  const shown = await admin('GET', list)
  t.equal(shown.json.items.length, 3)
  t.notOk(shown.text.includes(issued.json.token) || shown.text.includes('digest'))

  const holder = service.as(issued.json.token)
  t.same((await holder('GET', '/v1/whoami')).json.expires_at, issued.json.expires_at)
  await holder('PUT', '/v1/workspaces/acme/credentials/held', { connector: 'c', value: 1 })
  const { lease } = (await holder('POST', '/v1/workspaces/acme/credentials/held/leases')).json
  t.same(codeOf(await admin('DELETE', `${A}/identities/writer/tokens/${issued.json.id}`)), [404, 'not_found'])
  t.equal((await admin('DELETE', `${list}/${issued.json.id}`)).status, 204)
  t.same(codeOf(await admin('DELETE', `${list}/${issued.json.id}`)), [404, 'not_found'])
  for (const url of ['/v1/whoami', '/v1/leases', '/v1/workspaces/acme/credentials'])
    t.equal((await holder('GET', url)).status, 401)
  t.equal((await writer('GET', `/v1/leases/${lease.id}`)).json.state, 'revoked')
  await new Promise((resolve) => setTimeout(resolve, 1000))
  t.equal((await service.as(short.token)('GET', '/v1/whoami')).status, 401, 'an expired token opens nothing')
  for (const method of ['GET', 'POST'])
    t.equal((await admin(method, `${A}/identities/nobody/tokens`)).status, 404)
})

t.test('leases are revoked by workspace, credential and identity, and their number is told', async (t) => {
  const url = '/v1/workspaces/acme/credentials/bulk'
  await writer('PUT', url, { connector: 'c', value: 1 })
  const other = service.as(await service.identity('other', [ALL]))
  const issue = async () => [await writer('POST', `${url}/leases`), await other('POST', `${url}/leases`)]
  const revoke = (body: unknown) => admin('POST', `${A}/leases/revoke`, body)
  await issue()
  t.same((await revoke({ identity: 'other', workspace: 'acme', credential: 'bulk' })).json, { revoked: 1 })
  t.same((await revoke({ workspace: 'acme', credential: 'bulk' })).json, { revoked: 1 })
  t.same((await revoke({ workspace: 'acme', credential: 'bulk' })).json, { revoked: 0 })
  await issue()
  t.same((await revoke({ identity: 'other' })).json, { revoked: 1 })
  t.same((await revoke({ workspace: 'globex' })).json, { revoked: 0 })
  t.ok((await revoke({ workspace: 'acme' })).json.revoked >= 1)
  for (const [field, body] of Object.entries({
    workspace: { workspace: 'nowhere' },
    credential: { workspace: 'acme', credential: 'nothing' },
    identity: { identity: 'nobody' },
  })) {
    const { status, json } = await revoke(body)
    t.match([status, json.code, json.errors[0].pointer], [400, 'unknown_name', `/${field}`])
  }
  for (const wrong of [
    undefined,
    {},
    { credential: 'bulk' },
    { credential: 'bulk', identity: 'other' },
    { workspace: null },
  ]) {
    t.same(codeOf(await revoke(wrong)), [400, 'invalid_request'])
  }
})
