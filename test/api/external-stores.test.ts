import t from 'tap'
import type { Ask, Json } from '../service.ts'
import { ALL, startService } from '../service.ts'
import { barrier, troubledStore } from '../troubled-store.ts'

const C = '/v1/workspaces/acme/credentials'
const vault = await troubledStore(t)
const small = await troubledStore(t, {
  seen: { name: 'small', prefix: 'little', valueBytesMax: 100, versionsKept: 2 },
})
const service = await startService(
  t,
  { sweepEveryMs: 3_600_000, storeCheckEveryMs: 3_600_000 },
  { stores: [vault.store, small.store], byDefault: 'team-vault' },
)
const { ground, strongroom } = service
await service.admin('PUT', '/v1/admin/workspaces/globex', { default_store: 'small' })
const writer = service.as(await service.identity('writer', [ALL]))
const connector = 'source-postgres'
const make = (name: string, value: unknown, more: object = {}, by: Ask = writer) =>
  by('POST', C, { name, connector, store: 'team-vault', value, ...more })
const put = (name: string, value: unknown, headers = {}) =>
  writer('PUT', `${C}/${name}/value`, { value }, headers)
const lease = (name: string, body = {}) => writer('POST', `${C}/${name}/leases`, body)
const versionsOf = async (name: string): Promise<Json[]> =>
  (await writer('GET', `${C}/${name}/versions`)).json.items
const copiesOf = (id: string) =>
  ground.sql(
    'select version, store, state, ref, for_good from copies where credential_id = $1 order by version, id',
    [id],
  )
const statesOf = async (id: string) => (await copiesOf(id)).map(({ version, state }) => [version, state])
const textsAt = async (id: string) => (await copiesOf(id)).map(({ ref }) => vault.kept.get(ref))

/** Sweeps twice, a grace apart. */
async function sweepTwice(): Promise<void> {
  for (let pass = 0; pass < 2; pass++) {
    await ground.sql(`update copies set named_at = named_at - interval '1 hour', dropped_at = dropped_at - interval '1 hour',
      attempted_at = attempted_at - interval '1 hour', deleted_at = deleted_at - interval '1 hour'`)
    await strongroom.sweep.run()
  }
}

t.test('a value in an external store is plain JSON there, and comes back byte for byte', async (t) => {
  const text = '{"z":1,"a":[{"é€𐍈":""}],"nested":{"y":null,"x":1.5e-7},"B":"\\u0001\\n\\"/"}'
  const made = await make('exact', JSON.parse(text))
  t.match([made.status, made.json.store, made.json.kind], [201, 'team-vault', 'stored'])
  const [copy] = await copiesOf(made.json.id)
  t.match(copy, { version: 1, store: 'team-vault', state: 'current' })
  t.match(copy!['ref'], /^strongroom\/acme\/[0-9a-f-]{36}$/)
  t.equal(vault.kept.get(copy!['ref']), text)
  for (const way of ['from the store', 'from the cache']) {
    const leased = await lease('exact')
    t.equal(leased.status, 201, way)
    t.ok(leased.text.endsWith(`"value":${text}}`), way)
  }
  t.equal(vault.calls.filter((one) => one === `get ${copy!['ref']}`).length, 2, 'read back, and leased once')
})

t.test('null, an empty text and a bare number are values outside too', async (t) => {
  for (const [index, value] of [null, '', 0, false, []].entries()) {
    t.equal((await make(`scalar-${index}`, value)).status, 201)
    t.same((await lease(`scalar-${index}`)).json.value, value)
  }
})

t.test('PUT, PATCH and promote write new copies, and an equal value writes none', async (t) => {
  const { id } = (await make('changed', { a: 1, b: 2 })).json
  t.match((await put('changed', { b: 2, a: 1 })).json, { version: 1, changed: false })
  t.match((await writer('PATCH', `${C}/changed/value`, { value: { a: null, c: 3 } })).json, { version: 2 })
  t.match((await put('changed', 'three')).json, { version: 3, changed: true, store: 'team-vault' })
  t.match((await writer('POST', `${C}/changed/versions/1/promote`)).json, { version: 4, changed: true })
  t.match((await writer('POST', `${C}/changed/versions/1/promote`)).json, { version: 4, changed: false })
  const whole = { connector, value: { a: 1, b: 2 }, labels: { team: 'a' } }
  t.match((await writer('PUT', `${C}/changed`, whole)).json, {
    version: 4,
    changed: true,
    store: 'team-vault',
  })
  t.match((await writer('PUT', `${C}/changed`, whole)).json, { version: 4, changed: false })
  t.match((await writer('PUT', `${C}/changed`, { ...whole, value: 5 })).json, { version: 5 })
  t.same(await textsAt(id), ['{"a":1,"b":2}', '{"b":2,"c":3}', '"three"', '{"a":1,"b":2}', '5'])
  t.same(await statesOf(id), [
    [1, 'kept'],
    [2, 'kept'],
    [3, 'kept'],
    [4, 'kept'],
    [5, 'current'],
  ])
  t.same((await lease('changed', { version: 2 })).json.value, { b: 2, c: 3 })
  for (const one of await versionsOf('changed')) {
    t.equal(one.store, 'team-vault')
    t.notOk('key_id' in one, 'no key of ours seals it')
  }
  t.match((await put('changed', 6, { 'if-match': '"4"' })).json.code, 'version_mismatch')
  t.equal((await copiesOf(id)).length, 5)
})

t.test('a destroyed version is gone from the store after two sweeps, and no other one', async (t) => {
  const { id } = (await make('cut', 'one')).json
  for (const value of ['two', 'three']) await put('cut', value)
  const refs = (await copiesOf(id)).map(({ ref }) => ref)
  t.equal((await writer('DELETE', `${C}/cut/versions/3`)).json.code, 'wrong_state')
  t.equal((await writer('DELETE', `${C}/cut/versions/1`)).status, 204)
  t.equal((await writer('DELETE', `${C}/cut/versions/1`)).json.code, 'version_gone')
  t.equal((await lease('cut', { version: 1 })).json.code, 'version_gone')
  t.same(await copiesOf(id).then(([first]) => [first!['state'], first!['for_good']]), ['dropped', true])
  t.ok(vault.kept.has(refs[0]), 'only the sweep deletes')
  await sweepTwice()
  t.same(
    refs.map((ref) => vault.kept.has(ref)),
    [false, true, true],
  )
  t.same(await statesOf(id), [
    [2, 'kept'],
    [3, 'current'],
  ])
})

t.test('a deleted credential keeps its copies, comes back, and purged is gone for good', async (t) => {
  const { id } = (await make('gone', 'one')).json
  await put('gone', 'two')
  const refs = (await copiesOf(id)).map(({ ref }) => ref)
  const { lease: held } = (await lease('gone')).json
  t.equal((await writer('DELETE', `${C}/gone`)).status, 204)
  t.equal((await writer('GET', `/v1/leases/${held.id}`)).json.state, 'revoked')
  t.equal((await lease('gone')).json.code, 'not_found')
  await sweepTwice()
  t.ok(refs.every((ref) => vault.kept.has(ref)))
  t.match((await writer('POST', `${C}/gone/restore`)).json, { id, store: 'team-vault', version: 2 })
  t.equal((await lease('gone')).json.value, 'two')
  t.equal((await writer('DELETE', `${C}/gone?purge=true`)).status, 204)
  t.ok((await copiesOf(id)).every(({ state, for_good }) => state === 'dropped' && for_good))
  t.equal((await lease('gone')).json.code, 'not_found')
  t.equal((await make('gone', 'anew')).status, 201, 'its name is free')
  await sweepTwice()
  t.notOk(refs.some((ref) => vault.kept.has(ref)))
  t.same(await copiesOf(id), [])
  t.equal((await lease('gone')).json.value, 'anew')
})

t.test('of two writers at once both are versions, and the later one wins', async (t) => {
  const { id } = (await make('raced', 'zero')).json
  const both = await Promise.all([put('raced', 'one'), put('raced', 'two')])
  t.same(both.map(({ json }) => json.version).toSorted(), [2, 3])
  const later = both.find(({ json }) => json.version === 3) === both[0] ? 'one' : 'two'
  t.equal((await lease('raced')).json.value, later)
  const equal = await Promise.all([put('raced', 'same'), put('raced', 'same')])
  t.same(equal.map(({ json }) => [json.version, json.changed]).toSorted(), [
    [4, false],
    [4, true],
  ])
  t.equal((await statesOf(id)).filter(([, state]) => state === 'current').length, 1)
  await sweepTwice()
  t.equal((await statesOf(id)).length, 4, 'what the loser wrote is swept')
  t.equal([...vault.kept.values()].filter((text) => text === '"same"').length, 1)
})

t.test('a patch that was overtaken while the store kept it is made of what is current then', async (t) => {
  await make('patched', { a: 1 })
  const gate = barrier()
  let first = true
  vault.trouble.onCall = (call) => {
    if (call !== 'put' || !first) return
    first = false
    return gate.wait()
  }
  const slow = writer('PATCH', `${C}/patched/value`, { value: { b: 2 } })
  while (first) await new Promise(setImmediate)
  await put('patched', { a: 9 })
  gate.open()
  vault.trouble.onCall = undefined
  t.match((await slow).json, { version: 3, changed: true })
  t.same((await lease('patched')).json.value, { a: 9, b: 2 })
})

t.test('of two who create a name at once one has it, and the other leaves no value behind', async (t) => {
  const both = await Promise.all([make('new', 'taker 1'), make('new', 'taker 2')])
  t.same(both.map(({ status }) => status).toSorted(), [201, 409])
  const [won, lost] = both[0].status === 201 ? ['taker 1', 'taker 2'] : ['taker 2', 'taker 1']
  await sweepTwice()
  t.equal((await lease('new')).json.value, won)
  t.notOk([...vault.kept.values()].includes(`"${lost}"`))
  const { id } = (await writer('GET', `${C}/new`)).json
  const whole = (value: string) => writer('PUT', `${C}/newer`, { connector, store: 'team-vault', value })
  const puts = await Promise.all([whole('one'), whole('two')])
  t.same(puts.map(({ status, json }) => [status, json.version]).toSorted(), [
    [200, 2],
    [201, 1],
  ])
  await sweepTwice()
  t.same(await statesOf(id), [[1, 'current']])
  t.same(await ground.sql(`select from copies where state = 'pending'`), [])
})

t.test(
  'the store of a new credential is the request’s, else the workspace’s, else the default',
  async (t) => {
    const G = '/v1/workspaces/globex/credentials'
    const storeOf = async (at: string, name: string, more = {}) =>
      (await writer('POST', at, { name, connector, value: 1, ...more })).json.store
    t.equal(await storeOf(C, 'by-default'), 'team-vault')
    t.equal(await storeOf(G, 'by-workspace'), 'small')
    t.equal(await storeOf(G, 'by-request', { store: 'team-vault' }), 'team-vault')
    t.equal(await storeOf(G, 'local', { store: 'local' }), 'local')
    for (const [method, url] of [
      ['POST', C],
      ['PUT', `${C}/nowhere`],
    ] as const) {
      const body = { connector, value: 1, store: 'nowhere', ...(method === 'POST' && { name: 'nowhere' }) }
      const { status, json } = await writer(method, url, body)
      t.match([status, json.code, json.errors[0].pointer], [400, 'unknown_name', '/store'])
    }
    const unknown = await service.admin('PUT', '/v1/admin/workspaces/acme', { default_store: 'nowhere' })
    t.match([unknown.status, unknown.json.code], [400, 'unknown_name'])
    const moved = await writer('PUT', `${C}/by-default`, { connector, value: 1, store: 'small' })
    t.match([moved.status, moved.json.code], [409, 'not_changeable'])
    const listed = async (query: string) =>
      (await writer('GET', `${G}?${query}`)).json.items.map((one: Json) => one.name)
    t.same(await listed('store=small'), ['by-workspace'])
    t.same(await listed('store=local'), ['local'])
    t.same(await listed('store=nowhere'), [])
  },
)

t.test('a value that is longer than its store takes is refused before the store is asked', async (t) => {
  const fits = 'x'.repeat(98)
  const before = small.calls.length
  const refused = await make('long', `${fits}x`, { store: 'small' })
  t.match([refused.status, refused.json.code], [413, 'value_too_large'])
  t.match(refused.json.detail, /100 bytes/)
  t.equal(small.calls.length, before)
  t.equal((await make('long', fits, { store: 'small' })).status, 201)
  t.equal((await put('long', 'é'.repeat(50))).json.code, 'value_too_large', 'bytes are counted')
  t.equal((await writer('PATCH', `${C}/long/value`, { value: { a: fits } })).json.code, 'value_too_large')
  t.equal((await make('long-elsewhere', `${fits}x`)).status, 201)
})

t.test('a store that keeps fewer versions drops the oldest', async (t) => {
  await make('few', 'one', { store: 'small' })
  for (const value of ['two', 'three']) await put('few', value)
  t.same(
    (await versionsOf('few')).map(({ version, state }) => [version, state]),
    [
      [3, 'current'],
      [2, 'kept'],
    ],
  )
  t.equal((await lease('few', { version: 1 })).json.code, 'version_gone')
  await sweepTwice()
  t.same([...small.kept.values()].filter((text) => /one|two|three/.test(text)).toSorted(), [
    '"three"',
    '"two"',
  ])
})
