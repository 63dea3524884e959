import type { Test } from 'tap'
import t from 'tap'
import type { StoreFault } from '../../src/core/secret-store.ts'
import { StoreError } from '../../src/core/secret-store.ts'
import type { Answer, Json } from '../service.ts'
import { ALL, startService } from '../service.ts'
import type { Troubled } from '../troubled-store.ts'
import { barrier, forEver, rest, troubledStore } from '../troubled-store.ts'
import { eventually } from '../eventually.ts'
import { eventsIn } from '../vault.ts'

const C = '/v1/workspaces/acme/credentials'
const tuning = { retriesMax: 1, retryDelayMs: 1, breakerFailuresMax: 1_000 }
const faulty = await troubledStore(t, {
  cacheSeconds: 0,
  limits: { timeoutMs: 150 },
  tuning,
  seen: { name: 'faulty', links: { acme: ['apps/'] } },
})
const well = await troubledStore(t, {
  limits: { timeoutMs: 30_000 },
  seen: { name: 'well', prefix: 'other' },
})
const service = await startService(
  t,
  { settleEveryMs: 50, storeCheckEveryMs: 3_600_000, healthMaxAgeMs: 0, sweepEveryMs: 200 },
  { stores: [faulty.store, well.store], longestCallSeconds: 30 },
)
const { ground } = service
const token = await service.identity('writer', [ALL])
const writer = service.as(token)
const connector = 'source-postgres'
const SECRET = 'Z-what-the-provider-says'
const put = (name: string, body: object) => writer('PUT', `${C}/${name}`, { connector, ...body })
const lease = (name: string) => writer('POST', `${C}/${name}/leases`)
const batch = (...credentials: string[]) => writer('POST', '/v1/workspaces/acme/leases', { credentials })

const url = await service.strongroom.serviceApp.listen({ host: '127.0.0.1', port: 0 })
await put('stored', { value: 'one', store: 'faulty' })
await put('linked', { link: { store: 'faulty', locator: 'apps/db' } })
await put('local', { value: 'local' })
await put('elsewhere', { value: 'elsewhere', store: 'well' })
faulty.kept.set('apps/db', 'linked')

/** Puts the store into trouble while `act` runs. */
async function during<T>(onCall: Troubled['trouble']['onCall'], act: () => Promise<T>): Promise<T> {
  faulty.trouble.onCall = onCall
  try {
    return await act()
  } finally {
    faulty.trouble.onCall = undefined
  }
}

/** The fault table of a caller: whatever the provider, and whatever was asked for. */
const TABLE: Record<StoreFault, { status: number; retryAfter?: string; tries: number }> = {
  not_found: { status: 502, tries: 1 },
  denied: { status: 502, tries: 1 },
  throttled: { status: 503, retryAfter: '5', tries: 2 },
  unavailable: { status: 503, retryAfter: '5', tries: 2 },
  rejected: { status: 502, tries: 1 },
}

for (const [fault, { status, retryAfter, tries }] of Object.entries(TABLE)) {
  const code = `store_${fault}`
  const fail = (): never => {
    throw new StoreError(fault as StoreFault, SECRET)
  }
  const told = (t: Test, { headers, ...answer }: Answer): void => {
    t.match([answer.status, answer.json.code, answer.json.store], [status, code, 'faulty'])
    t.equal(headers['retry-after'], retryAfter)
  }

  t.test(`${fault} is ${code} to a write, and nothing is switched`, async (t) => {
    const before = faulty.calls.length
    const name = `new-${fault.replace('_', '-')}`
    const onPut = (call: string): unknown => (call === 'put' ? fail() : undefined)
    told(t, await during(onPut, () => put(name, { value: 1, store: 'faulty' })))
    t.equal(faulty.calls.length - before, tries, 'only what may pass by itself is tried again')
    t.equal((await writer('GET', `${C}/${name}`)).status, 404)
    told(t, await during(onPut, () => put('stored', { value: 'two' })))
    told(t, await during(onPut, () => writer('PATCH', `${C}/stored/value`, { value: { a: 1 } })))
    const unread = (call: string): unknown => (call === 'get' ? fail() : undefined)
    told(t, await during(unread, () => put(name, { value: 1, store: 'faulty' })))
    told(t, await during(unread, () => writer('PATCH', `${C}/stored/value`, { value: { a: 1 } })))
    t.match((await writer('GET', `${C}/stored`)).json, { version: 1 })
    t.equal((await lease('stored')).json.value, 'one')
    const events = await eventsIn(ground, `code = '${code}' and action = 'credential:write'`)
    t.equal(events.length, 5)
    t.ok(events.every(({ outcome }) => outcome === 'failed'))
  })

  t.test(`${fault} is ${code} to a lease of a copy or a link, which has failed`, async (t) => {
    for (const name of ['stored', 'linked']) {
      told(t, await during(fail, () => lease(name)))
      const failures = () =>
        eventsIn(ground, `code = '${code}' and action = 'lease:issue' and credential = '${name}'`)
      t.ok(await eventually(async () => (await failures()).length > 0), 'an event says so')
      const [event] = await failures()
      t.equal(event!.outcome, 'failed')
      t.equal((await writer('GET', `/v1/leases/${event!.lease}`)).json.state, 'failed')
    }
  })

  t.test(`${fault} is ${code} to its own credentials of a batch only`, async (t) => {
    const problem = { status, code, store: 'faulty' }
    const asked = ['stored', 'local', 'linked', 'elsewhere']
    const { status: all, json } = await during(fail, () => batch(...asked))
    t.equal(all, 200)
    t.match(json.results, [{ problem }, { value: 'local' }, { problem }, { value: 'elsewhere' }])
    t.same(
      json.results.map((one: Json) => one.credential),
      asked,
    )
    const alone = await during(fail, () => batch('stored', 'linked'))
    t.equal(alone.status, 200, 'a request was admitted, though none of its values could leave')
    t.match(alone.json.results, [{ problem }, { problem }])
  })
}

t.test('a provider that throws anything else, or never answers, is store_unavailable', async (t) => {
  const foreign = (): never => {
    throw new TypeError(SECRET)
  }
  for (const trouble of [foreign, forEver]) {
    t.match((await during(trouble, () => lease('stored'))).json, {
      code: 'store_unavailable',
      store: 'faulty',
    })
    t.equal((await during(trouble, () => put('stored', { value: 'two' }))).json.code, 'store_unavailable')
  }
  t.equal((await lease('elsewhere')).json.value, 'elsewhere')
})

t.test(
  'the log says which store had which fault; what a provider says beside that is neither answered nor logged',
  async (t) => {
    for (const fault of Object.keys(TABLE))
      t.match(service.log(), new RegExp(`"code":"store_${fault}","store":"faulty"`))
    t.notMatch(service.log(), SECRET)
    t.notOk(service.answers.some(({ text }) => text.includes(SECRET)))
  },
)

t.test('a value whose secret is lost can be put anew, but not patched', async (t) => {
  await put('lost', { value: { a: 1 }, store: 'faulty' })
  const { id } = (await writer('GET', `${C}/lost`)).json
  const [copy] = await ground.sql('select ref from copies where credential_id = $1', [id])
  faulty.kept.delete(copy!['ref'])
  t.equal((await lease('lost')).json.code, 'store_not_found')
  t.equal((await writer('PATCH', `${C}/lost/value`, { value: { b: 2 } })).json.code, 'store_not_found')
  t.match((await writer('PUT', `${C}/lost/value`, { value: 2 })).json, { version: 2, changed: true })
  t.equal((await lease('lost')).json.value, 2)
})

t.test(
  'a secret that somebody made into no JSON is store_rejected, never a part of the answer',
  async (t) => {
    for (const [index, text] of ['', 'plain', '1,"lease":{}', '{"a":1}}', '{"Zcut'].entries()) {
      const name = `altered-${index}`
      await put(name, { value: { a: 1 }, store: 'well' })
      const { id } = (await writer('GET', `${C}/${name}`)).json
      const [copy] = await ground.sql('select ref from copies where credential_id = $1', [id])
      well.kept.set(copy!['ref'], text)
      for (const again of ['', ', also the second time']) {
        const { status, json } = await lease(name)
        t.match([status, json.code, json.store], [502, 'store_rejected', 'well'], `${text}${again}`)
      }
      t.equal((await writer('PATCH', `${C}/${name}/value`, { value: {} })).json.code, 'store_rejected')
      t.match((await writer('PUT', `${C}/${name}/value`, { value: 2 })).json, { version: 2 })
      t.equal((await lease(name)).json.value, 2)
    }
  },
)

t.test('operators see each store, what it keeps and whether it is well', async (t) => {
  const list = async (): Promise<Json[]> => (await service.admin('GET', '/v1/admin/stores')).json.items
  const [first, second, third] = await list()
  t.match(first, { name: 'faulty', provider: 'memory', default: false, reachable: true, breaker: 'closed' })
  t.match(second, { name: 'local', provider: 'local', default: true, reachable: true, breaker: 'closed' })
  t.match(third, { name: 'well', breaker: 'closed' })
  t.same(second.copies, { current: 1 })
  t.same(
    first.copies,
    Object.fromEntries(
      (
        await ground.sql(
          `select state, count(*)::integer as copies from copies where store = 'faulty' and ref is not null group by state`,
        )
      ).map(({ state, copies }) => [state, copies]),
    ),
    'a link is no copy',
  )
  t.ok(first.copies.pending > 0, 'what failed waits for the sweep')
  const page = await service.admin('GET', '/v1/admin/stores?limit=2')
  t.equal(page.json.items.length, 2)
  const rest = await service.admin('GET', `/v1/admin/stores?limit=2&after=${page.json.next}`)
  t.match([rest.json.items.map((one: Json) => one.name), rest.json.next], [['well'], null])

  const unready = (await service.as(undefined)('GET', '/health/ready')).json
  t.match(unready, { ready: true, checks: { stores: { ok: 3, degraded: 0 } } })
  await during(forEver, () => lease('stored'))
  t.match((await list())[0], { name: 'faulty', reachable: false })
  const { status, json } = await service.as(undefined)('GET', '/health/ready')
  t.match([status, json.ready, json.checks.stores], [200, true, { ok: 2, degraded: 1 }])
  t.notMatch(JSON.stringify(json), 'faulty', 'by count only')
  await lease('stored')
  t.match((await list())[0], { reachable: true })

  const other = await service.identity('other', [{ actions: ['admin:keys'], workspaces: ['*'] }])
  const refused = await service.adminAs(other)('GET', '/v1/admin/stores')
  t.match([refused.status, refused.json.code], [403, 'forbidden'])
})

t.test('a lease of one who hung up while its store was waited for has failed', async (t) => {
  await put('unwanted', { value: 'one', store: 'faulty' })
  const hangUp = new AbortController()
  const authorization = `Bearer ${token}`
  const leave = async (call: string): Promise<void> => {
    if (call !== 'get') return
    hangUp.abort()
    await rest(50)
  }
  const unwanted = { method: 'POST', headers: { authorization }, signal: hangUp.signal }
  await during(leave, async () => {
    await t.rejects(fetch(`${url}${C}/unwanted/leases`, unwanted), { name: 'AbortError' })
    await rest(100)
  })
  const events = () => eventsIn(ground, `credential = 'unwanted' and action = 'lease:issue'`)
  t.ok(await eventually(async () => (await events()).length === 2))
  const [granted, failed] = await events()
  t.match([granted, failed], [{ outcome: 'allowed' }, { outcome: 'failed', lease: granted!.lease }])
  t.equal((await writer('GET', `/v1/leases/${granted!.lease}`)).json.state, 'failed')
})

t.test('a service that is stopped takes no more connections, whatever its sweep waits for', async (t) => {
  const names = Array.from({ length: 12 }, (_, n) => `doomed-${n}`)
  for (const name of names) await put(name, { value: 1, store: 'well' })
  const { wait, open } = barrier()
  well.trouble.onCall = (call) => (call === 'delete' ? wait() : undefined)
  const deletes = (): number => well.calls.filter((call) => call.startsWith('delete')).length
  for (const name of names) await writer('DELETE', `${C}/${name}?purge=true`)
  await ground.sql(
    `update copies set dropped_at = now() - interval '1 hour' where store = 'well' and for_good`,
  )
  const answers = (): Promise<boolean> =>
    fetch(`${url}/health/live`, { headers: { connection: 'close' } }).then(
      () => true,
      () => false,
    )
  t.ok(await answers())
  t.ok(await eventually(async () => deletes() > 0))
  const closing = service.strongroom.close()
  t.ok(await eventually(async () => !(await answers())))
  open()
  await closing
  t.ok(deletes() <= 8, 'the sweep has ended what was on its way, and no more')
})
