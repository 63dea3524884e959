import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import t from 'tap'
import { azureKeyVault } from '../../providers/azure-key-vault.ts'
import { Locator } from '../../src/core/locator.ts'
import type { LinkReader, SecretStore, StoreFault } from '../../src/core/secret-store.ts'
import { GuardedStore } from '../../src/guarded-store.ts'
import { conforms, endsByTime, failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { outcome, within } from '../troubled-store.ts'
import { AzureKeyVaultServer } from './azure-key-vault-server.ts'

const HASTY_MS = 1_000
const PATIENT_MS = 8_000
const PURGING_MS = 4_000 // A quarter of it is spent on waiting for the recovery window.
const PREFIX = 'strongroom'

conforms(t, {
  name: 'azure-key-vault',
  troubles: ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections'],
  make: async (_, trouble) => {
    const server = await AzureKeyVaultServer.start()
    const timeoutMs = endsByTime(trouble) ? HASTY_MS : PATIENT_MS
    return {
      store: await open(server, PREFIX, timeoutMs),
      prefix: PREFIX,
      timeoutMs,
      valueBytesMax: azureKeyVault.valueBytesMax,
      suffer: (trouble) => server.suffer(trouble),
      recover: () => server.recover(),
      plant: (locator, text) => server.plant(locator, text),
      close: () => server.close(),
    }
  },
})

t.test('what is no ref or locator of this store is rejected before anything is sent', async (t) => {
  const { server, store } = await begin(t)
  const id = randomUUID()
  const refs = [`other/acme/${id}`, `strongroom--acme--${id}`, `strongroom/acme/${id}?api-version=1`, '']
  for (const ref of refs) {
    await failsAs(t, 'rejected', () => store.get(ref), `get ${ref}`)
    await failsAs(t, 'rejected', () => store.put(ref, MARKED), `put ${ref}`)
    await failsAs(t, 'rejected', () => store.delete(ref, true), `delete ${ref}`)
  }
  const own = mint({ prefix: PREFIX })
  for (const text of [
    'apps--acme',
    'apps/-acme',
    'apps-/acme',
    'Apps/acme',
    'apps/a_b',
    'a'.repeat(128),
    own,
  ]) {
    await failsAs(t, 'rejected', () => store.read(Locator.parse(text)!), `read ${text}`)
  }
  t.same(server.seen, [])
})

t.test('a prefix that a locator could build, or that leaves a workspace no room, is refused', async (t) => {
  for (const prefix of ['str--ong', 'a/b--c', 'x'.repeat(25), 'a/b/c/d/e/f/g/h/i/j/k']) {
    const settings = { vault_url: 'http://127.0.0.1:9' }
    await failsAs(t, 'rejected', () => azureKeyVault.open(settings, { prefix, timeoutMs: 100 }), prefix)
  }
  const { server, store } = await begin(t, 'team/' + 'p'.repeat(18))
  const ref = `team/${'p'.repeat(18)}/${'w'.repeat(63)}/${randomUUID()}`
  await store.put(ref, '"kept"')
  t.equal(await store.get(ref), '"kept"')
  t.equal([...server.secrets.keys()][0]!.length, 127)
})

t.test('workspaces that differ by a separator only do not meet', async (t) => {
  const { store } = await begin(t)
  const id = randomUUID()
  await store.put(`strongroom/a--b/${id}`, '"one"')
  await failsAs(t, 'not_found', () => store.get(`strongroom/a-b/${id}`))
  t.equal(await store.get(`strongroom/a--b/${id}`), '"one"')
})

t.test('put leaves one version, says whose it is, and sends no value without a login', async (t) => {
  const { server, store } = await begin(t)
  const ref = mint({ prefix: PREFIX })
  await store.put(ref, MARKED, { workspace: 'acme', credential: 'o'.repeat(300) })
  await store.put(ref, MARKED, { workspace: 'acme', credential: 'o'.repeat(300) })
  const [secret, ...more] = server.secrets.values()
  t.same([secret!.versions.length, more.length], [1, 0])
  t.match(secret!.versions[0], { contentType: 'application/json', tags: { workspace: 'acme' } })
  t.equal(secret!.versions[0]!.tags!.credential, 'o'.repeat(256))
  t.same([...new Set(server.seen.filter(({ login }) => !login).map(({ body }) => body))], [''])
  t.same(server.kept(), [ref])
})

t.test('another value is rejected, and what was kept stays', async (t) => {
  const { store } = await begin(t)
  const ref = mint({ prefix: PREFIX })
  await store.put(ref, '"first"')
  await failsAs(t, 'rejected', () => store.put(ref, MARKED))
  t.equal(await store.get(ref), '"first"')
})

t.test('a put whose answer was lost is repeated without another version', async (t) => {
  const { server, store } = await begin(t, PREFIX, HASTY_MS)
  const patient = await open(server, PREFIX, PATIENT_MS)
  t.teardown(() => patient.close())
  const ref = mint({ prefix: PREFIX })
  server.onCall = async (call, moment) => {
    if (call === 'put' && moment === 'after') await new Promise(() => undefined)
  }
  await failsAs(t, 'unavailable', () => store.put(ref, MARKED))
  server.onCall = undefined
  await patient.put(ref, MARKED)
  t.equal([...server.secrets.values()][0]!.versions.length, 1)
})

t.test('delete leaves a secret in the recovery window, and for good empties it', async (t) => {
  const { server, store } = await begin(t)
  const ref = mint({ prefix: PREFIX })
  await store.put(ref, MARKED)
  await store.delete(ref)
  t.same([server.kept(), server.recoverable()], [[], [ref]])
  await failsAs(t, 'not_found', () => store.get(ref))
  await failsAs(t, 'rejected', () => store.put(ref, MARKED), 'put into the recovery window')
  await store.delete(ref, true)
  t.same([server.recoverable(), server.secrets.size], [[], 0])
})

t.test('delete for good waits a little for the recovery window, and else says so', async (t) => {
  const { server, store } = await begin(t, PREFIX, PURGING_MS)
  const [soon, late] = [mint({ prefix: PREFIX }), mint({ prefix: PREFIX })]
  await store.put(soon, MARKED)
  await store.put(late, MARKED)
  server.deletingMs = 40
  await store.delete(soon, true)
  t.equal(server.secrets.size, 1)
  server.deletingMs = Infinity
  await failsAs(t, 'throttled', () => store.delete(late, true), 'what is not yet deleted')
  await store.delete(late)
  t.same(server.recoverable(), [], 'to delete it once more is no fault')
  server.arrive()
  await store.delete(late, true)
  t.equal(server.secrets.size, 0)
})

t.test('deletes for good that take Azure its time count for nothing against the store', async (t) => {
  const { server, store } = await begin(t, PREFIX, PURGING_MS)
  const events: object[] = []
  const guarded = new GuardedStore(store, {
    name: 'azure',
    provider: 'azure-key-vault',
    prefix: PREFIX,
    links: {},
    versionsKept: 10,
    valueBytesMax: azureKeyVault.valueBytesMax,
    limits: { concurrency: 32, timeoutMs: 30_000 },
    cacheSeconds: 0,
    onEvent: (event) => events.push(event),
    tuning: { retriesMax: 0 },
  })
  const refs = Array.from({ length: 10 }, () => mint({ prefix: PREFIX }))
  for (const ref of refs) await store.put(ref, '"doomed"')
  server.deletingMs = Infinity
  const deleteAll = () => Promise.all(refs.map((ref) => outcome(guarded.delete(ref, true, within(30_000)))))
  t.same(await deleteAll(), Array(10).fill('throttled'))
  t.match(guarded.state(), { reachable: true, breaker: 'closed' })
  t.same(events, [])
  server.arrive()
  t.same(await deleteAll(), Array(10).fill(undefined))
  t.equal(server.secrets.size, 0)
})

t.test('with purge protection what is in the recovery window counts as deleted', async (t) => {
  const { server, store } = await begin(t)
  server.recoveryLevel = 'CustomizedRecoverable+ProtectedSubscription'
  const ref = mint({ prefix: PREFIX })
  await store.put(ref, MARKED)
  await store.delete(ref, true)
  await store.delete(ref, true)
  t.same(server.recoverable(), [ref])
})

t.test('in a vault without a recovery window deleted is deleted', async (t) => {
  const { server, store } = await begin(t)
  server.recoveryLevel = 'Purgeable'
  const ref = mint({ prefix: PREFIX })
  await store.put(ref, MARKED)
  await store.delete(ref, true)
  await store.delete(ref, true)
  t.equal(server.secrets.size, 0)
})

t.test('without the right to purge, delete for good is denied', async (t) => {
  const { server, store } = await begin(t)
  const ref = mint({ prefix: PREFIX })
  await store.put(ref, MARKED)
  server.answer = ({ method, url }) => {
    if (method === 'DELETE' && url!.startsWith('/deletedsecrets'))
      return fail(403, 'Forbidden', 'ForbiddenByRbac')
    return undefined
  }
  await failsAs(t, 'denied', () => store.delete(ref, true))
  t.same(server.recoverable(), [ref])
})

const TABLE: [number, string, string | undefined, StoreFault][] = [
  [400, 'BadParameter', undefined, 'rejected'],
  [401, 'Unauthorized', undefined, 'denied'],
  [403, 'Forbidden', undefined, 'denied'],
  [403, 'Forbidden', 'AccessDenied', 'denied'],
  [403, 'Forbidden', 'ForbiddenByConnection', 'denied'],
  [403, 'Forbidden', 'ForbiddenByFirewall', 'denied'],
  [403, 'Forbidden', 'ForbiddenByPolicy', 'denied'],
  [403, 'Forbidden', 'ForbiddenByRbac', 'denied'],
  [403, 'Forbidden', 'SecretDisabled', 'denied'],
  [404, 'SecretNotFound', undefined, 'not_found'],
  [404, 'NotFound', undefined, 'rejected'],
  [409, 'Conflict', undefined, 'throttled'],
  [409, 'Conflict', 'ObjectIsBeingDeleted', 'throttled'],
  [409, 'Conflict', 'ObjectIsBeingRecovered', 'throttled'],
  [409, 'Conflict', 'ObjectIsDeletedButRecoverable', 'rejected'],
  [418, MARKED, MARKED, 'rejected'],
  [429, 'Throttled', undefined, 'throttled'],
  [429, 'VaultRequestTypeLimitReached', undefined, 'throttled'],
  [500, 'InternalServerError', undefined, 'unavailable'],
  [503, 'SecretNotFound', undefined, 'unavailable'],
]

for (const [status, code, inner, fault] of TABLE) {
  t.test(
    `${status} ${code === MARKED ? 'of an unknown name' : (inner ?? code)} is ${fault}, asked once`,
    async (t) => {
      const { server, store } = await begin(t)
      await store.check()
      server.answer = () => ({ ...fail(status, code, inner), headers: { 'retry-after': '1' } })
      server.seen.length = 0
      await failsAs(t, fault, () => store.get(mint({ prefix: PREFIX })))
      t.equal(server.seen.length, 1)
    },
  )
}

const found = (name: string, more: object): string =>
  JSON.stringify({ id: `http://127.0.0.1:1/secrets/${name}/1`, attributes: {}, ...more })
const ANSWERS: [string, (name: string) => { raw: string; type?: string; status?: number }][] = [
  ['no text at all', () => ({ raw: '' })],
  ['half a document', (name) => ({ raw: found(name, { value: MARKED }).slice(0, -9) })],
  ['a text', (name) => ({ raw: found(name, { value: MARKED }), type: 'text/plain' })],
  ['a list', (name) => ({ raw: `[${found(name, { value: MARKED })}]` })],
  ['a secret without a value', (name) => ({ raw: found(name, { text: MARKED }) })],
  ['a value that is no text', (name) => ({ raw: found(name, { value: { a: MARKED } }) })],
  ['another secret', () => ({ raw: found('strongroom--acme--other', { value: MARKED }) })],
  ['an endless value', (name) => ({ raw: found(name, { value: MARKED + 'x'.repeat(300_000) }) })],
  ['a page', () => ({ raw: `<html>${MARKED}</html>`, type: 'text/html', status: 404 })],
]

for (const [what, answer] of ANSWERS) {
  t.test(`${what} for an answer is rejected, and nothing of it is told`, async (t) => {
    const { server, store } = await begin(t)
    server.answer = ({ url }) => {
      const { raw, type = 'application/json', status = 200 } = answer(/secrets\/([^/?]+)/.exec(url!)![1]!)
      return { status, raw, headers: { 'content-type': type } }
    }
    const ref = mint({ prefix: PREFIX })
    await failsAs(t, 'rejected', () => store.get(ref))
    await failsAs(t, 'rejected', () => store.put(ref, MARKED), 'put')
  })
}

t.test('a connection that the vault closed while it lay idle is not a fault', async (t) => {
  const { server, store } = await begin(t)
  await Promise.all([store.check(), store.check(), store.check()])
  server.disconnect()
  await t.resolves(store.check())
})

async function begin(
  t: Test,
  prefix = PREFIX,
  timeoutMs = PATIENT_MS,
): Promise<{ server: AzureKeyVaultServer; store: SecretStore & LinkReader }> {
  const server = await AzureKeyVaultServer.start()
  const store = await open(server, prefix, timeoutMs)
  t.teardown(async () => {
    await store.close()
    await server.close()
  })
  return { server, store }
}

function open(
  server: AzureKeyVaultServer,
  prefix: string,
  timeoutMs: number,
): Promise<SecretStore & LinkReader> {
  Object.assign(process.env, server.env)
  return azureKeyVault.open({ vault_url: server.url }, { prefix, timeoutMs })
}

function fail(status: number, code: string, inner?: string): { status: number; body: object } {
  return { status, body: { error: { code, message: MARKED, ...(inner && { innererror: { code: inner } }) } } }
}
