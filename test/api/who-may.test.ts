import t from 'tap'
import type { Grant } from '../../src/core/grants.ts'
import type { Answer, Ask } from '../service.ts'
import { ALL, startService } from '../service.ts'
import { eventually } from '../eventually.ts'

const C = '/v1/workspaces/acme/credentials'
const service = await startService(t)
const writer = service.as(await service.identity('writer', [ALL]))
const input = { connector: 'source-postgres', value: 'one' }
const labels = { team: 'orders' }
await writer('PUT', `${C}/orders-db`, { ...input, labels })
await writer('PUT', `${C}/orders-db/value`, { value: 'two' })
await writer('PUT', `${C}/other`, { ...input, connector: 'source-mysql' })
await writer('PUT', '/v1/workspaces/globex/credentials/orders-db', input)
const leaseId = (await writer('POST', `${C}/orders-db/leases`)).json.lease.id

let callers = 0
const callerWith = async (...grants: Grant[]): Promise<Ask> =>
  service.as(await service.identity(`caller-${++callers}`, grants))

/** Asks that change nothing even where they are allowed, each with the action that it needs. */
const OPERATIONS: [string, string, string, unknown?][] = [
  ['credential:read', 'GET', ''],
  ['credential:read', 'GET', '/versions'],
  ['credential:write', 'PUT', '', { ...input, value: 'two', labels }],
  ['credential:write', 'PATCH', '', {}],
  ['credential:write', 'PUT', '/value', { value: 'two' }],
  ['credential:write', 'PATCH', '/value', { value: 'two' }],
  ['credential:write', 'POST', '/versions/2/promote'],
  ['credential:purge', 'DELETE', '/versions/2'],
  ['credential:delete', 'POST', '/restore'],
  ['lease:issue', 'POST', '/leases'],
]
const ACTIONS = [
  'credential:read',
  'credential:write',
  'credential:delete',
  'credential:purge',
  'lease:issue',
  'lease:read',
  'lease:revoke',
]
const withoutId = (answer: Answer): unknown => ({ ...answer.json, instance: '', status: answer.status })

t.test('each operation needs its action and no other; what is lacking is 403 and is named', async (t) => {
  for (const action of ACTIONS) {
    const ask = await callerWith({ actions: [action], workspaces: ['acme'], labels: { team: 'ord*' } })
    for (const [needed, method, path, body] of OPERATIONS) {
      const answer = await ask(method, `${C}/orders-db${path}`, body)
      if (action === needed) {
        t.notOk([403, 404].includes(answer.status), `${action}: ${method} ${path} is ${answer.status}`)
      } else {
        t.match([answer.status, answer.json.code], [403, 'forbidden'], `${action}: ${method} ${path}`)
        t.ok(answer.json.detail.includes(needed), answer.json.detail)
      }
    }
    const own = await ask('GET', `/v1/leases/${leaseId}`)
    t.equal(own.status, action === 'lease:read' ? 200 : 403, `${action} and another's lease`)
    t.equal(
      (await ask('POST', `/v1/leases/${leaseId}/renew`)).json.code,
      'forbidden',
      'only its own identity renews',
    )
    if (action !== 'lease:revoke')
      t.equal((await ask('DELETE', `/v1/leases/${leaseId}`)).json.code, 'forbidden')
    if (action !== 'credential:delete')
      t.equal((await ask('DELETE', `${C}/orders-db`)).json.code, 'forbidden')
    t.equal((await ask('DELETE', `${C}/orders-db?purge=true`)).json.code, 'forbidden')
  }
})

t.test('to whom nothing covers it, it is exactly as if it were missing', async (t) => {
  const strangers: Grant[][] = [
    [],
    [{ actions: ['admin:*'], workspaces: ['*'] }],
    [{ actions: ['credential:*', 'lease:*'], workspaces: ['globex'] }],
    [{ actions: ['credential:*', 'lease:*'], workspaces: ['acme'], connectors: ['source-mysql'] }],
    [
      {
        actions: ['credential:*', 'lease:*'],
        workspaces: ['acme'],
        credentials: ['orders-d', 'rders-db', 'ORDERS-DB'],
      },
    ],
    [{ actions: ['credential:*', 'lease:*'], workspaces: ['acme'], credentials: [] }],
    [{ actions: ['credential:*', 'lease:*'], workspaces: ['acme'], labels: { team: 'payments' } }],
    [{ actions: ['credential:*', 'lease:*'], workspaces: ['acme'], labels: { team: '*', tier: '*' } }],
    [{ actions: [], workspaces: ['acme'] }],
  ]
  for (const grants of strangers) {
    const ask = await callerWith(...grants)
    for (const [, method, path, body] of OPERATIONS) {
      if (method === 'PUT' && path === '') continue
      const there = await ask(method, `${C}/orders-db${path}`, body)
      const missing = await ask(method, `${C}/no-such${path}`, body)
      const nowhere = await ask(method, `/v1/workspaces/no-such/credentials/orders-db${path}`, body)
      t.equal(there.status, 404, `${JSON.stringify(grants)} ${method} ${path}`)
      t.same(withoutId(there), withoutId(missing))
      t.same(withoutId(there), withoutId(nowhere))
      t.same(Object.keys(there.headers).sort(), Object.keys(missing.headers).sort())
    }
    for (const purge of ['', '?purge=true']) {
      t.equal((await ask('DELETE', `${C}/orders-db${purge}`)).json.code, 'not_found')
    }
    const lease = await ask('GET', `/v1/leases/${leaseId}`)
    t.same(withoutId(lease), withoutId(await ask('GET', '/v1/leases/0190a1b2-0000-7000-8000-000000000001')))
    for (const [method, path] of [
      ['DELETE', ''],
      ['POST', '/renew'],
    ] as const) {
      t.equal((await ask(method, `/v1/leases/${leaseId}${path}`)).json.code, 'not_found')
    }
  }
  t.equal((await writer('GET', `${C}/orders-db`)).json.version, 2)
})

t.test(
  'a list holds what may be read; without that action anywhere in the workspace it is 403',
  async (t) => {
    const namesOf = ({ json }: Answer): string[] =>
      json.items?.map((one: { name: string }) => one.name) ?? json.code
    const read = { actions: ['credential:read'], workspaces: ['acme'] }
    const write = { actions: ['credential:write', 'lease:*'], workspaces: ['*'] }
    const cases: [Grant[], unknown][] = [
      [[read], ['orders-db', 'other']],
      [[{ ...read, connectors: ['*-mysql'] }, write], ['other']],
      [[{ ...read, labels: { team: 'o*s' } }], ['orders-db']],
      [[{ ...read, credentials: ['none'] }], []],
      [
        [
          { ...read, credentials: ['none'] },
          { ...read, credentials: ['*er'] },
        ],
        ['other'],
      ],
      [[write], 'forbidden'],
      [[write, { ...read, workspaces: ['globex'] }], 'forbidden'],
      [[{ ...read, workspaces: ['globex'] }], 'not_found'],
      [[{ actions: ['admin:*'], workspaces: ['*'] }], 'not_found'],
    ]
    for (const [grants, expected] of cases) {
      const answer = await (await callerWith(...grants))('GET', C)
      t.same(namesOf(answer), expected, JSON.stringify(grants))
      if (expected === 'forbidden') t.match(answer.json.detail, 'credential:read')
    }
    t.same(
      (await (await callerWith())('GET', '/v1/leases')).json.items,
      [],
      'own leases may always be listed',
    )
    const leases = await (
      await callerWith({ actions: ['lease:read'], workspaces: ['acme'] })
    )('GET', '/v1/leases')
    t.ok(leases.json.items.some((one: { id: string }) => one.id === leaseId))
  },
)

t.test('only name_taken may tell a name, to one who could have taken it', async (t) => {
  const mine = { actions: ['credential:write'], workspaces: ['acme'], labels: { team: 'mine' } }
  const ask = await callerWith(mine)
  const taken = { ...input, labels: { team: 'mine' } }
  t.equal((await ask('POST', C, { name: 'other', ...taken })).json.code, 'name_taken')
  t.equal((await ask('PUT', `${C}/other`, taken)).json.code, 'name_taken')
  for (const name of ['other', 'no-such']) {
    t.equal(
      (await ask('POST', C, { name, ...input })).json.code,
      'not_found',
      'what may not be made is not told',
    )
    t.equal((await ask('PUT', `${C}/${name}`, input)).json.code, 'not_found')
  }
  t.equal((await ask('POST', C, { name: 'mine', ...taken })).status, 201)
  const reader = await callerWith(mine, { actions: ['credential:read'], workspaces: ['acme'] })
  t.equal((await reader('POST', C, { name: 'unlabelled', ...input })).json.code, 'forbidden')
})

t.test('a change must be allowed as it was and as it becomes', async (t) => {
  await writer('PUT', `${C}/moving`, { ...input, labels: { team: 'a' } })
  const ask = await callerWith({ actions: ['credential:write'], workspaces: ['acme'], labels: { team: 'a' } })
  const both = [
    await ask('PATCH', `${C}/moving`, { labels: { team: 'b' } }),
    await ask('PATCH', `${C}/moving`, { labels: null }),
    await ask('PUT', `${C}/moving`, { ...input, labels: { team: 'b' } }),
    await ask('PUT', `${C}/moving`, input),
  ]
  for (const { status, json } of both) t.match([status, json.code], [403, 'forbidden'])
  t.equal((await ask('PATCH', `${C}/moving`, { labels: { tier: 'x' } })).status, 200)
  await writer('PATCH', `${C}/moving`, { labels: { team: 'b' } })
  t.equal((await ask('PATCH', `${C}/moving`, { labels: { team: 'a' } })).json.code, 'not_found')
})

t.test('nobody brings a credential under a leasing grant of his own that did not cover it', async (t) => {
  const write: Grant = { actions: ['credential:write'], workspaces: ['acme'] }
  const leasing: Grant = { actions: ['lease:issue'], workspaces: ['acme'], labels: { lease: 'me' } }
  const ask = await callerWith(write, leasing)
  await writer('PUT', `${C}/coveted`, input)
  const change = { labels: { lease: 'me' } }
  for (const answer of [
    await ask('PATCH', `${C}/coveted`, change),
    await ask('PUT', `${C}/coveted`, { ...input, ...change }),
  ]) {
    t.match([answer.status, answer.json.code], [403, 'forbidden'])
  }
  t.equal((await ask('POST', `${C}/coveted/leases`)).status, 403)
  await writer('PATCH', `${C}/coveted`, change)
  t.equal(
    (await ask('PATCH', `${C}/coveted`, { labels: { more: 'x' } })).status,
    200,
    'it was covered before',
  )
  t.equal(
    (await ask('POST', C, { name: 'own', ...input, ...change })).status,
    201,
    'what is made was nobody else’s',
  )
})

t.test('each admin operation needs its action, and knows of nothing without it', async (t) => {
  const operations: [string, string, string, unknown?][] = [
    ['admin:workspaces', 'GET', 'workspaces'],
    ['admin:workspaces', 'PUT', 'workspaces/acme', {}],
    ['admin:workspaces', 'GET', 'workspaces/no-such'],
    ['admin:roles', 'GET', 'roles'],
    ['admin:roles', 'GET', 'roles/no-such'],
    ['admin:roles', 'PUT', 'roles/tried', { grants: [] }],
    ['admin:roles', 'DELETE', 'roles/no-such'],
    ['admin:identities', 'GET', 'identities'],
    ['admin:identities', 'PUT', 'identities/tried', { roles: [] }],
    ['admin:identities', 'DELETE', 'identities/no-such'],
    ['admin:tokens', 'GET', 'identities/admin/tokens'],
    ['admin:tokens', 'POST', 'identities/no-such/tokens'],
    ['admin:tokens', 'DELETE', 'identities/admin/tokens/x'],
    ['admin:keys', 'GET', 'keys'],
    ['admin:keys', 'GET', 'rotations'],
    ['admin:keys', 'POST', 'rotations', { to_key: '0'.repeat(32) }],
    ['admin:leases', 'POST', 'leases/revoke', { identity: 'no-such' }],
    ['admin:audit', 'GET', 'audit'],
    ['admin:audit', 'GET', 'audit/verify'],
  ]
  for (const action of new Set(operations.map(([needed]) => needed))) {
    const token = await service.identity(`operator-${action.slice(6)}`, [
      { actions: [action], workspaces: ['*'] },
    ])
    for (const [needed, method, path, body] of operations) {
      const { status, json } = await service.adminAs(token)(method, `/v1/admin/${path}`, body)
      if (action === needed) t.not(status, 403, `${action}: ${method} ${path}`)
      else
        t.match([status, json.code, json.detail], [403, 'forbidden', needed], `${action}: ${method} ${path}`)
    }
    t.equal((await service.as(token)('GET', C)).status, 404, 'an operator sees no credential')
  }
  const everything = service.adminAs(await service.identity('no-operator', [ALL]))
  for (const [, method, path, body] of operations) {
    t.equal((await everything(method, `/v1/admin/${path}`, body)).status, 403)
  }
})

t.test('what is on one listener is unknown on the other, and no path is told to a stranger', async (t) => {
  for (const url of ['/v1/whoami', C, '/v1/leases', `${C}/orders-db`])
    t.equal((await service.admin('GET', url)).status, 404)
  for (const url of ['/v1/admin/roles', '/v1/admin/audit']) t.equal((await writer('GET', url)).status, 404)
  const stranger = service.as(undefined)
  for (const url of ['/v1/whoami', C, '/v1/leases', '/v1/workspaces/no-such/credentials/-']) {
    t.equal((await stranger('GET', url)).status, 401)
  }
  t.equal((await stranger('GET', '/v1/nothing')).status, 404)
  for (const url of ['/health/live', '/health/ready', '/openapi.json']) {
    for (const ask of [stranger, service.adminAs(undefined)])
      t.ok(await eventually(async () => (await ask('GET', url)).status === 200), url)
  }
  const who = await writer('GET', '/v1/whoami')
  t.match(who.json, { identity: 'writer', roles: ['writer'], grants: [ALL], expires_at: /Z$/ })
})
