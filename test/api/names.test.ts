import t from 'tap'
import type { Answer, Ask } from '../service.ts'
import { ALL, startService } from '../service.ts'
import { eventsIn } from '../vault.ts'

const service = await startService(t)
const { ground } = service
const writer = service.as(await service.identity('writer', [ALL]))
const nobody = service.adminAs(await service.identity('nobody', [ALL]))
const C = '/v1/workspaces/acme/credentials'
const input = { connector: 'source-postgres', value: 'one' }
await writer('PUT', `${C}/db`, input)
await writer('PUT', `${C}/db`, { ...input, value: 'two' })

/** What no name looks like, as it stands in a path; U+0000 is what PostgreSQL takes in no text. */
const BAD = ['-bad', '.x', 'a%00b', 'a%2Fb', 'n'.repeat(129), '%CE%A9', '%EF%BF%BF', 'a%0Ab', '%27%22']
const BAD_NUMBERS = ['0', '01', '1e3', 'x', '-1', '12345678901', '1%00']

type Way = [method: string, url: (part: string) => string, body?: unknown]
const bodies = { value: { value: 'three' }, patch: { labels: {} }, batch: { credentials: ['db'] } }

const OF_CREDENTIALS: Way[] = [
  ['GET', (name) => `${C}/${name}`],
  ['PATCH', (name) => `${C}/${name}`, bodies.patch],
  ['PUT', (name) => `${C}/${name}/value`, bodies.value],
  ['PATCH', (name) => `${C}/${name}/value`, bodies.value],
  ['GET', (name) => `${C}/${name}/versions`],
  ['POST', (name) => `${C}/${name}/versions/1/promote`],
  ['DELETE', (name) => `${C}/${name}/versions/1`],
  ['DELETE', (name) => `${C}/${name}`],
  ['DELETE', (name) => `${C}/${name}?purge=true`],
  ['POST', (name) => `${C}/${name}/restore`],
  ['POST', (name) => `${C}/${name}/leases`],
]
const OF_WORKSPACES: Way[] = [
  ['GET', (workspace) => `/v1/workspaces/${workspace}/credentials`],
  ['POST', (workspace) => `/v1/workspaces/${workspace}/credentials`, { ...input, name: 'x' }],
  ['PUT', (workspace) => `/v1/workspaces/${workspace}/credentials/x`, input],
  ['GET', (workspace) => `/v1/workspaces/${workspace}/credentials/db`],
  ['POST', (workspace) => `/v1/workspaces/${workspace}/leases`, bodies.batch],
]
const OF_OPERATORS: Way[] = [
  ['GET', (workspace) => `/v1/admin/workspaces/${workspace}`],
  ['DELETE', (workspace) => `/v1/admin/workspaces/${workspace}`],
  ['GET', (role) => `/v1/admin/roles/${role}`],
  ['DELETE', (role) => `/v1/admin/roles/${role}`],
  ['GET', (identity) => `/v1/admin/identities/${identity}`],
  ['DELETE', (identity) => `/v1/admin/identities/${identity}`],
  ['POST', (identity) => `/v1/admin/identities/${identity}/tokens`],
  ['GET', (identity) => `/v1/admin/identities/${identity}/tokens`],
  ['DELETE', (identity) => `/v1/admin/identities/${identity}/tokens/0123456789abcdef`],
  ['DELETE', (token) => `/v1/admin/identities/writer/tokens/${token}`],
  ['GET', (rotation) => `/v1/admin/rotations/${rotation}`],
  ['POST', (rotation) => `/v1/admin/rotations/${rotation}/cancel`],
  ['GET', (migration) => `/v1/admin/store-migrations/${migration}`],
  ['POST', (migration) => `/v1/admin/store-migrations/${migration}/finalize`],
]
/** What makes a thing of a name that is new: there is nothing missing to compare it with. */
const MAKING: Way[] = [
  ['PUT', (workspace) => `/v1/admin/workspaces/${workspace}`, {}],
  ['PUT', (role) => `/v1/admin/roles/${role}`, { grants: [] }],
  ['PUT', (identity) => `/v1/admin/identities/${identity}`, { roles: [] }],
]

const same = ({ status, json }: Answer): unknown => ({ status, ...json, instance: '' })
const eventsOf = ({ headers }: Answer) => eventsIn(ground, `request_id = '${headers['x-request-id']}'`)

for (const [who, ask, ways] of [
  ['a worker', writer, OF_CREDENTIALS],
  ['a worker', writer, OF_WORKSPACES],
  ['an operator', service.admin, OF_OPERATORS],
] as [string, Ask, Way[]][]) {
  for (const [method, url, body] of ways) {
    t.test(`${who}: what cannot be a name is missing, ${method} ${url('*')}`, async (t) => {
      const missing = await ask(method, url('nope'), body)
      t.equal(missing.status, 404)
      const [event] = await eventsOf(missing)
      for (const part of BAD) {
        const answer = await ask(method, url(part), body)
        t.same(same(answer), same(missing), part)
        const events = await eventsOf(answer)
        t.equal(events.length, 1, 'it is an event like every call')
        const { action, operation, outcome, code, identity } = event!
        t.match(events[0], { action, operation, outcome, code, identity })
        for (const column of ['workspace', 'credential', 'detail'] as const) {
          t.notMatch(events[0]![column] ?? '', part.slice(0, 40), `${column} repeats nothing`)
          t.notMatch(events[0]![column] ?? '', decodeURIComponent(part).slice(0, 40))
          t.not(events[0]![column], '')
        }
      }
    })
  }
}

t.test('what cannot be a name is never made', async (t) => {
  for (const part of BAD) {
    const answers = [await writer('PUT', `${C}/${part}`, input)]
    for (const [method, url, body] of MAKING) answers.push(await service.admin(method, url(part), body))
    for (const answer of answers) {
      t.match([answer.status, answer.json.code], [404, 'not_found'])
      t.match(await eventsOf(answer), [{ outcome: 'refused', code: 'not_found', credential: null }])
    }
  }
  const [{ count }] = (await ground.sql(
    `select (select count(*) from workspaces where name !~ '^[a-z0-9-]+$')
       + (select count(*) from roles where name !~ '^[a-z0-9-]+$')
       + (select count(*) from identities where name !~ '^[a-z0-9-]+$') as count`,
  )) as [{ count: string }]
  t.equal(Number(count), 0)
})

t.test('what cannot be the number of a version is one that never was', async (t) => {
  for (const part of BAD_NUMBERS) {
    for (const [method, more] of [
      ['POST', '/promote'],
      ['DELETE', ''],
    ] as const) {
      const answer = await writer(method, `${C}/db/versions/${part}${more}`)
      t.match([answer.status, answer.json.code], [404, 'not_found'], `${method} ${part}`)
      t.match(await eventsOf(answer), [{ outcome: 'refused', credential: 'db', version: null }])
    }
  }
})

t.test('the form is judged before a name that cannot be one', async (t) => {
  const ifMatch = { 'if-match': 'x' }
  const answers = [
    await writer('PUT', `${C}/-bad`, input, ifMatch),
    await writer('PUT', `${C}/-bad`, { connector: 'x' }),
    await writer('PUT', `${C}/-bad`, { ...input, expires_at: '2030-02-30T00:00:00Z' }),
    await writer('PUT', `${C}/-bad/value`, bodies.value, ifMatch),
    await writer('PATCH', `${C}/-bad`, { expires_at: '2030-02-30T00:00:00Z' }),
    await writer('GET', `${C}/-bad/versions?after=xx`),
    await writer('GET', '/v1/workspaces/-bad/credentials?after=xx'),
    await writer('POST', `${C}/db/versions/0/promote`, undefined, ifMatch),
    await service.admin('GET', '/v1/admin/identities/-bad/tokens?after=xx'),
    await service.admin('PUT', '/v1/admin/roles/-bad', { grants: [{ actions: ['x'], workspaces: [] }] }),
  ]
  for (const answer of answers) {
    t.match([answer.status, answer.json.code], [400, 'invalid_request'])
    t.same(await eventsOf(answer), [])
  }
})

t.test('who lacks the action is told so, whatever the name', async (t) => {
  for (const [method, url, body] of [...OF_OPERATORS, ...MAKING]) {
    for (const part of ['nope', 'BAD', 'a%00b']) {
      const answer = await nobody(method, url(part), body)
      t.match([answer.status, answer.json.code], [403, 'forbidden'], `${method} ${url(part)}`)
      const events = await eventsOf(answer)
      t.match(events, [{ outcome: 'refused', code: 'forbidden', identity: 'nobody' }])
      t.notMatch(JSON.stringify(events), /BAD|a.u0000b/)
    }
  }
})
