import t from 'tap'
import type { Answer, Ask, Json } from '../service.ts'
import { ALL, startService } from '../service.ts'

const C = '/v1/workspaces/acme/credentials'
const service = await startService(t)
const writer = service.as(await service.identity('writer', [ALL]))

const CREDENTIALS: Record<string, object> = {
  Zeta: { connector: 'source-mysql', labels: { team: 'a', tier: 'x' } },
  'a.b': { connector: 'source-postgres', labels: { team: 'a' }, expires_at: '2030-01-01T00:00:00Z' },
  aXb: { connector: 'source-postgres', labels: { team: 'a:b' } },
  a_b: { connector: 'source-postgres', labels: { team: 'b', tier: 'x' }, expires_at: '2031-01-01T00:00:00Z' },
  alpha: { connector: 'source-mysql', labels: { team: '' } },
  'b-1': { connector: 'source-postgres' },
}
for (const [name, more] of Object.entries(CREDENTIALS))
  await writer('PUT', `${C}/${name}`, { value: name, ...more })
await writer('PUT', '/v1/workspaces/globex/credentials/elsewhere', { connector: 'source-postgres', value: 1 })

const namesOf = (answer: Answer): string[] => answer.json.items.map((one: { name: string }) => one.name)
const idsOf = (answer: Answer): string[] => answer.json.items.map((one: { id: string }) => one.id)

/** All pages of a list, and that no cursor names a row which was not shown. */
async function walk(ask: Ask, url: string, limit: number): Promise<Json[]> {
  const items: Json[] = []
  for (let next: string | null = ''; next !== null;) {
    const { status, json } = await ask(
      'GET',
      `${url}${url.includes('?') ? '&' : '?'}limit=${limit}${next && `&after=${next}`}`,
    )
    if (status !== 200) throw new Error(`${status}`)
    if (json.items.length > limit) throw new Error('a page is longer than its limit')
    items.push(...json.items)
    next = json.next
    const named = next === null ? [] : (JSON.parse(Buffer.from(next, 'base64url').toString()) as string[])
    const shown = JSON.stringify(items)
    for (const part of named)
      if (!shown.includes(part)) throw new Error(`the cursor names ${part}, which was not shown`)
  }
  return items
}

t.test('credentials are listed by name, without values, in pages that come to an end', async (t) => {
  const all = await writer('GET', C)
  t.same(namesOf(all), Object.keys(CREDENTIALS))
  t.equal(all.json.next, null)
  for (const item of all.json.items) t.notOk('value' in item || 'config' in item || 'changed' in item)
  for (const limit of [1, 2, 3, 6, 500]) {
    t.same(
      (await walk(writer, C, limit)).map((one) => one.name),
      Object.keys(CREDENTIALS),
    )
  }
  t.equal(
    (await writer('GET', `${C}?limit=6`)).json.next,
    null,
    'a page that ends with the last one is the last',
  )
})

t.test('each filter keeps what it says, and all of them must hold', async (t) => {
  const wanted: Record<string, string[]> = {
    'connector=source-mysql': ['Zeta', 'alpha'],
    'connector=none': [],
    'store=local': Object.keys(CREDENTIALS),
    'store=vault': [],
    'label=team:a': ['Zeta', 'a.b'],
    'label=team:a:b': ['aXb'],
    'label=team:': ['alpha'],
    'label=team:*': [],
    'label=team:a&label=tier:x': ['Zeta'],
    'label=team:a&label=team:b': [],
    'label=team:a&label=team:a': ['Zeta', 'a.b'],
    'name_prefix=a': ['a.b', 'aXb', 'a_b', 'alpha'],
    'name_prefix=a_': ['a_b'],
    'name_prefix=a.b': ['a.b'],
    'name_prefix=A': [],
    'expires_before=2030-06-01T00:00:00Z': ['a.b'],
    'expires_before=2030-01-01T00:00:00Z': [],
    'expires_before=2030-01-01T00:00:00.001Z': ['a.b'],
    'state=active': Object.keys(CREDENTIALS),
    'state=deleted': [],
    'connector=source-postgres&label=team:b&name_prefix=a&expires_before=2040-01-01T00:00:00Z&limit=1': [
      'a_b',
    ],
  }
  for (const [query, names] of Object.entries(wanted))
    t.same(namesOf(await writer('GET', `${C}?${query}`)), names, query)
})

t.test('a query that is not documented is refused and nothing is coerced', async (t) => {
  const wrong = [
    'limit=0',
    'limit=501',
    'limit=-1',
    'limit=1.0',
    'limit=1e2',
    'limit=%2010',
    'limit=',
    'limit=10&limit=10',
    'after=',
    'after=x',
    'after=bnVsbA',
    'state=gone',
    'state=',
    'Connector=source-mysql',
    'connector=Source',
    'label=team',
    'label=Team:a',
    'name_prefix=a%25',
    'expires_before=2030-01-01',
    'frobnicate=1',
    'config=true',
  ]
  for (const query of wrong) t.equal((await writer('GET', `${C}?${query}`)).status, 400, query)
  const foreign = (await service.admin('GET', '/v1/admin/workspaces?limit=1')).json.next
  t.equal((await writer('GET', `${C}?after=${foreign}`)).status, 400, 'a cursor of another list')
})

t.test('every list of the admin listener is paged by name and takes the same query', async (t) => {
  for (const name of ['r1', 'r2', 'r3']) await service.admin('PUT', `/v1/admin/roles/${name}`, { grants: [] })
  for (const name of ['i1', 'i2', 'i3'])
    await service.admin('PUT', `/v1/admin/identities/${name}`, { roles: [] })
  for (let token = 0; token < 3; token++) await service.admin('POST', '/v1/admin/identities/i1/tokens')
  const keyOf: Record<string, string> = {
    workspaces: 'name',
    roles: 'name',
    identities: 'name',
    'identities/i1/tokens': 'id',
  }
  for (const [list, key] of Object.entries(keyOf)) {
    const url = `/v1/admin/${list}`
    const all = (await service.admin('GET', url)).json.items
    t.ok(all.length >= 2, list)
    t.same(
      all.map((one: Json) => one[key]),
      all.map((one: Json) => one[key]).toSorted(),
    )
    t.same(await walk(service.admin, url, 1), all)
    t.same(await walk(service.admin, url, 2), all)
    for (const query of ['limit=0', 'after=x', 'state=active', 'limit=501']) {
      t.equal((await service.admin('GET', `${url}?${query}`)).status, 400, `${list} ${query}`)
    }
  }
  t.same(
    await walk(service.admin, '/v1/admin/keys', 1),
    (await service.admin('GET', '/v1/admin/keys')).json.items,
  )
})

t.test('leases and audit events are listed newest first, each once', async (t) => {
  const issued: string[] = []
  for (const run_id of ['1', '2', '3', '4', '5']) {
    issued.unshift((await writer('POST', `${C}/alpha/leases`, { run_id })).json.lease.id)
  }
  t.same(idsOf(await writer('GET', '/v1/leases')), issued)
  t.same(
    (await walk(writer, '/v1/leases', 2)).map((one) => one.id),
    issued,
  )
  t.same(
    (await walk(writer, '/v1/leases?state=active', 1)).map((one) => one.id),
    issued,
  )
  const events = await walk(service.admin, '/v1/admin/audit?action=lease:issue', 2)
  t.same(
    events.map((one) => one.lease),
    issued,
  )
  const all = await walk(service.admin, '/v1/admin/audit?to=2020-01-01T00:00:00Z', 2)
  t.same(all, [])
})
