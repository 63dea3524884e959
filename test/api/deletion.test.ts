import t from 'tap'
import { ALL, startService } from '../service.ts'

const C = '/v1/workspaces/acme/credentials'
const service = await startService(t, { copyGraceSeconds: 0 })
const writer = service.as(await service.identity('writer', [ALL]))
const reader = service.as(
  await service.identity('deleter', [
    { actions: ['credential:delete', 'credential:read'], workspaces: ['*'] },
  ]),
)
const input = { connector: 'source-postgres', value: 'one' }
const make = async (name: string, more: object = {}) =>
  (await writer('PUT', `${C}/${name}`, { ...input, ...more })).json
const valueOf = async (name: string, body = {}) =>
  (await writer('POST', `${C}/${name}/leases`, body)).json.value
const copiesOf = (id: string) =>
  service.ground.sql('select state, token, key_id from copies where credential_id = $1', [id])

t.test(
  'a deleted credential is missing everywhere but in the list of deleted ones, restore and purge',
  async (t) => {
    const { id } = await make('gone')
    const lease = (await writer('POST', `${C}/gone/leases`)).json.lease
    t.equal((await writer('DELETE', `${C}/gone`)).status, 204)
    const asked = [
      ['GET', ''],
      ['PATCH', '', {}],
      ['PUT', '/value', { value: 1 }],
      ['PATCH', '/value', { value: 1 }],
      ['GET', '/versions'],
      ['POST', '/versions/1/promote'],
      ['DELETE', '/versions/1'],
      ['DELETE', ''],
      ['POST', '/leases'],
    ] as const
    for (const [method, path, body] of asked) {
      t.equal((await writer(method, `${C}/gone${path}`, body)).json.code, 'not_found', `${method} ${path}`)
    }
    const batch = await writer('POST', '/v1/workspaces/acme/leases', { credentials: ['gone'] })
    t.equal(batch.json.results[0].problem.code, 'not_found')
    t.equal((await writer('GET', `/v1/leases/${lease.id}`)).json.state, 'revoked')
    t.equal((await writer('POST', `/v1/leases/${lease.id}/renew`)).json.code, 'lease_ended')
    t.same((await writer('GET', `${C}?name_prefix=gone`)).json.items, [])
    const [deleted] = (await writer('GET', `${C}?name_prefix=gone&state=deleted`)).json.items
    t.match(deleted, { id, name: 'gone', state: 'deleted' })
  },
)

t.test('a restored credential is as it was, and restoring again is name_taken', async (t) => {
  await make('back', { labels: { a: 'b' } })
  const { updated_at: _updated, ...before } = (await writer('PUT', `${C}/back/value`, { value: 'two' })).json
  await writer('DELETE', `${C}/back`)
  const restored = await writer('POST', `${C}/back/restore`)
  t.match([restored.status, restored.headers['etag']], [200, '"2"'])
  t.match(restored.json, { ...before, changed: true })
  t.equal(await valueOf('back', { version: 1 }), 'one')
  const again = await writer('POST', `${C}/back/restore`)
  t.match([again.status, again.json.code], [409, 'name_taken'])
  t.equal((await writer('POST', `${C}/never/restore`)).status, 404)
})

t.test('the name of a deleted credential is free, and the one last deleted comes back', async (t) => {
  const ids: string[] = []
  for (const value of ['first', 'second', 'third']) {
    ids.push((await make('reused', { value })).id)
    if (value !== 'third') await writer('DELETE', `${C}/reused`)
  }
  t.equal(new Set(ids).size, 3)
  t.equal((await writer('POST', `${C}/reused/restore`)).json.code, 'name_taken')
  t.equal(await valueOf('reused'), 'third')
  await writer('DELETE', `${C}/reused`)
  t.equal((await writer('POST', `${C}/reused/restore`)).json.id, ids[2])
  await writer('DELETE', `${C}/reused`)

  const seen: string[] = []
  let next = ''
  do {
    const page = await writer('GET', `${C}?state=deleted&name_prefix=reused&limit=1${next}`)
    seen.push(...page.json.items.map((one: { id: string }) => one.id))
    next = page.json.next === null ? '' : `&after=${page.json.next}`
  } while (next !== '')
  t.same(seen.sort(), ids.sort(), 'equal names are all listed')
})

t.test('a purge takes whatever has or had the name, erases every copy at once, and is final', async (t) => {
  const { id: first } = await make('purged')
  await writer('PUT', `${C}/purged/value`, { value: 'two' })
  await writer('DELETE', `${C}/purged`)
  const { id: second } = await make('purged')
  const lease = (await writer('POST', `${C}/purged/leases`)).json.lease
  const refused = await reader('DELETE', `${C}/purged?purge=true`)
  t.match([refused.status, refused.json.code], [403, 'forbidden'])
  t.match(refused.json.detail, 'credential:purge')
  t.equal((await writer('DELETE', `${C}/purged?purge=true`)).status, 204)
  t.equal((await writer('DELETE', `${C}/purged?purge=true`)).status, 404)
  t.equal((await writer('POST', `${C}/purged/restore`)).status, 404)
  t.same((await writer('GET', `${C}?name_prefix=purged&state=deleted`)).json.items, [])
  t.equal((await writer('GET', `/v1/leases/${lease.id}`)).json.state, 'revoked')
  const copies = [...(await copiesOf(first)), ...(await copiesOf(second))]
  t.equal(copies.length, 3)
  for (const copy of copies) t.same(copy, { state: 'dropped', token: null, key_id: null })
  await service.strongroom.sweep.run()
  await service.strongroom.sweep.run()
  t.same([...(await copiesOf(first)), ...(await copiesOf(second))], [])
})

t.test('what is deleted already can be purged, and purge=false only deletes', async (t) => {
  await make('later')
  t.equal((await writer('DELETE', `${C}/later?purge=false`)).status, 204)
  t.equal((await writer('POST', `${C}/later/restore`)).status, 200)
  await writer('DELETE', `${C}/later`)
  t.equal((await writer('DELETE', `${C}/later?purge=false`)).status, 404)
  t.equal((await writer('DELETE', `${C}/later?purge=true`)).status, 204)
  t.equal((await writer('POST', `${C}/later/restore`)).status, 404)
  for (const wrong of ['purge=1', 'purge=', 'purge', 'purge=TRUE', 'purge=true&purge=true', 'Purge=true']) {
    t.equal((await writer('DELETE', `${C}/later?${wrong}`)).status, 400, wrong)
  }
})

t.test('purge_at purges at its time and not before', async (t) => {
  const { id } = await make('tried', { purge_at: new Date(Date.now() + 3_600_000).toISOString() })
  await make('kept', { purge_at: '2040-01-01T00:00:00Z' })
  await service.strongroom.sweep.run()
  t.equal((await writer('GET', `${C}/tried`)).status, 200)
  await service.ground.sql('update credentials set purge_at = now() where id = $1', [id])
  await service.strongroom.sweep.run()
  t.equal((await writer('GET', `${C}/tried`)).status, 404)
  t.equal((await writer('POST', `${C}/tried/restore`)).status, 404)
  t.same(
    (await copiesOf(id)).filter((copy) => copy.token !== null),
    [],
  )
  t.equal((await writer('GET', `${C}/kept`)).status, 200)
})

t.test('an expired credential is there, and is not leased until it is renewed', async (t) => {
  await make('expired', { expires_at: '2020-01-01T00:00:00Z' })
  t.equal((await writer('GET', `${C}/expired`)).status, 200)
  const refused = await writer('POST', `${C}/expired/leases`)
  t.match([refused.status, refused.json.code], [409, 'credential_expired'])
  t.equal((await writer('PUT', `${C}/expired/value`, { value: 'two' })).json.changed, true)
  await writer('PATCH', `${C}/expired`, { expires_at: null })
  t.equal(await valueOf('expired'), 'two')
})
