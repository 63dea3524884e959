import t from 'tap'
import { kubernetes } from '../../providers/kubernetes.ts'
import type { LinkReader, SecretStore, StoreFault } from '../../src/core/secret-store.ts'
import { Locator } from '../../src/core/locator.ts'
import { conforms, endsByTime, failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { HASTY, openKubernetes, OPTIONS } from './kubernetes-ground.ts'
import { statusOf } from './kubernetes-server.ts'

conforms(t, {
  name: 'kubernetes',
  troubles: ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections'],
  make: async (t, trouble) => {
    const options = endsByTime(trouble) ? HASTY : OPTIONS
    const { server, store } = await openKubernetes(t, {}, options)
    const { suffer, recover, plant } = server
    const { valueBytesMax } = kubernetes
    return { store, ...options, valueBytesMax, suffer, recover, plant, close: async () => {} }
  },
})

const FAULTS: [number, string, StoreFault][] = [
  [400, 'BadRequest', 'rejected'],
  [401, 'Unauthorized', 'denied'],
  [403, 'Forbidden', 'denied'],
  [405, 'MethodNotAllowed', 'rejected'],
  [406, 'NotAcceptable', 'rejected'],
  [409, 'AlreadyExists', 'rejected'],
  [409, 'Conflict', 'unavailable'],
  [413, 'RequestEntityTooLarge', 'rejected'],
  [415, 'UnsupportedMediaType', 'rejected'],
  [422, 'Invalid', 'rejected'],
  [429, 'TooManyRequests', 'throttled'],
  [500, 'InternalError', 'unavailable'],
  [500, 'ServerTimeout', 'unavailable'],
  [503, 'ServiceUnavailable', 'unavailable'],
  [504, 'Timeout', 'unavailable'],
  // The reason counts and not the status: a webhook may put any two together.
  [400, 'Forbidden', 'denied'],
  [500, 'Invalid', 'rejected'],
  [418, 'IsATeapot', 'rejected'],
  [599, 'toString', 'unavailable'],
]

t.test('each reason of the API server is one fault, and its message is not told', async (t) => {
  const { server, store } = await openKubernetes(t)
  for (const [status, reason, fault] of FAULTS) {
    server.canned = { status, body: JSON.stringify(statusOf(status, reason, MARKED)[1]) }
    await failsAs(t, fault, () => store.get(mint(OPTIONS)), `a get: ${status} ${reason}`)
    await failsAs(t, fault, () => store.put(mint(OPTIONS), MARKED), `a put: ${status} ${reason}`)
    await failsAs(t, fault, () => store.delete(mint(OPTIONS)), `a delete: ${status} ${reason}`)
  }
})

t.test('without a Status document the status is the fault', async (t) => {
  const { server, store } = await openKubernetes(t)
  const bare: [number, StoreFault][] = [
    [401, 'denied'],
    [403, 'denied'],
    [429, 'throttled'],
    [502, 'unavailable'],
    [302, 'rejected'],
    [404, 'rejected'],
  ]
  for (const [status, fault] of bare) {
    for (const body of ['', `<p>${MARKED}</p>`, 'null', '"Status"', '{"kind":"Status","details":null}']) {
      server.canned = { status, headers: { 'content-type': 'text/plain' }, body }
      await failsAs(t, fault, () => store.get(mint(OPTIONS)), `${status} ${body.length}`)
    }
  }
})

t.test('a 404 about anything but the Secret never says that it is missing', async (t) => {
  const { server, store } = await openKubernetes(t)
  const elsewhere = await kubernetes.open({ namespace: 'no-such' }, OPTIONS)
  t.teardown(() => elsewhere.close())
  await failsAs(t, 'rejected', () => elsewhere.put(mint(OPTIONS), MARKED), 'a put without the namespace')
  for (const details of [
    { kind: 'namespaces', name: 'connectors' },
    { kind: 'secrets', name: 'other' },
    {},
  ]) {
    server.canned = { status: 404, body: JSON.stringify(statusOf(404, 'NotFound', 'not found', details)[1]) }
    await failsAs(t, 'rejected', () => store.delete(mint(OPTIONS)), 'a delete')
    await failsAs(t, 'rejected', () => store.get(mint(OPTIONS)), 'a get')
    await failsAs(t, 'rejected', () => store.check(), 'a check')
  }
})

t.test('what cannot be a ref or a locator of this store is refused before anything is sent', async (t) => {
  const { server, store } = await openKubernetes(t)
  const uuid = '0190a4a2-5d0f-7c3e-9d7a-1f2e3d4c5b6a'
  const refs = [
    `strongroom/acme/../${uuid}`,
    `strongroom/acme%2f${uuid}`,
    `strongroom/acme.evil/${uuid}`,
    `strongroom/Acme/${uuid}`,
    `strongroom/acme/${uuid}/../other`,
    `strongroom/acme/${uuid}?pretty=true`,
    `strongroom/acme/${uuid}\n`,
    `strongroom-evil/acme/${uuid}`,
    `strongroom/acme/${uuid.toUpperCase()}`,
    `strongroom/${'a'.repeat(64)}/${uuid}`,
    `strongroom//${uuid}`,
    `other/acme/${uuid}`,
    'strongroom',
    '',
  ]
  for (const ref of refs) {
    for (const act of [() => store.put(ref, MARKED), () => store.get(ref), () => store.delete(ref)])
      await failsAs(t, 'rejected', act, ref)
  }
  const locators = ['apps/acme.db', 'apps.acme', 'Apps/db', 'a_b/c', '-a/b', 'a/b-', `a/${'b'.repeat(252)}`]
  for (const locator of locators) {
    await failsAs(t, 'rejected', () => store.read(Locator.parse(locator)!), locator)
  }
  const forged = { segments: ['..', 'kube-system'] } as unknown as Locator
  await failsAs(t, 'rejected', () => store.read(forged), 'a forged locator')
  t.same(server.asked, [])
  t.ok(
    locators
      .slice(0, 5)
      .every((locator) => !locator.split('/').every((part) => kubernetes.segment!.test(part))),
  )
})

t.test('the longest prefix, workspace and uuid make a name that Kubernetes takes', async (t) => {
  const { server } = await openKubernetes(t)
  const prefix = 'p'.repeat(kubernetes.prefixLengthMax!)
  const store = await kubernetes.open({ namespace: server.namespace }, { ...OPTIONS, prefix })
  t.teardown(() => store.close())
  const ref = mint({ prefix }).replace('acme', 'w'.repeat(63))
  await store.put(ref, MARKED)
  t.equal(await store.get(ref), MARKED)
  t.same(server.kept(), [ref])
  t.equal([...server.secrets.keys()][0]!.length, 253)
})

t.test('a copy is an immutable Secret that says whose it is, and its value is plain JSON', async (t) => {
  const { server, store } = await openKubernetes(t)
  const ref = mint(OPTIONS)
  const credential = `Orders_db.${'x'.repeat(100)}`
  await store.put(ref, MARKED, { workspace: 'acme', credential })
  const { metadata, ...secret } = server.secrets.get(ref.replaceAll('/', '.'))!
  const value = Buffer.from(MARKED).toString('base64')
  t.same(secret, { apiVersion: 'v1', kind: 'Secret', type: 'Opaque', immutable: true, data: { value } })
  t.same(metadata.labels, { 'app.kubernetes.io/managed-by': 'strongroom' })
  t.same(metadata.annotations, { 'strongroom/workspace': 'acme', 'strongroom/credential': credential })
})

t.test('a put whose answer was lost is repeated, and another value under its ref is rejected', async (t) => {
  const { server, store } = await openKubernetes(t)
  const ref = mint(OPTIONS)
  server.onCall = (call, moment) => {
    if (moment === 'after') throw new Error(`the answer to ${call} is lost`)
  }
  await failsAs(t, 'unavailable', () => store.put(ref, MARKED))
  server.onCall = undefined
  await store.put(ref, MARKED)
  await failsAs(t, 'rejected', () => store.put(ref, '"other"'))
  t.equal(await store.get(ref), MARKED)
})

t.test('what a finalizer holds after its deletion is not_found, and is not put again', async (t) => {
  const { server, store } = await openKubernetes(t)
  const ref = mint(OPTIONS)
  await store.put(ref, MARKED)
  server.secrets.get(ref.replaceAll('/', '.'))!.metadata.finalizers = ['example.com/slow']
  await store.delete(ref)
  t.equal(server.kept().length, 1)
  await failsAs(t, 'not_found', () => store.get(ref))
  await failsAs(t, 'rejected', () => store.put(ref, MARKED))
  await store.delete(ref, true)
})

t.test('an answer that is not the Secret is refused, never taken for an empty value', async (t) => {
  const { server, store } = await openKubernetes(t)
  const ref = mint(OPTIONS)
  const name = ref.replaceAll('/', '.')
  const secret = (data: unknown) => JSON.stringify({ kind: 'Secret', metadata: { name }, data })
  const bodies: Record<string, string> = {
    nothing: '',
    null: 'null',
    'half of it': `{"data":{"value":"${MARKED.slice(0, 9)}`,
    'another Secret': JSON.stringify({ metadata: { name: `${name}x` }, data: { value: 'IiI=' } }),
    'no data': secret(undefined),
    'no value': secret({ password: 'IiI=' }),
    'a number': secret({ value: 7 }),
    'no Base64': secret({ value: MARKED }),
    'Base64 for URLs': secret({ value: Buffer.from('"??>>"').toString('base64url') }),
    'no UTF-8': secret({ value: Buffer.from([0x22, 0xff, 0x22]).toString('base64') }),
    'too much': secret({ value: 'A'.repeat(5 * 1024 * 1024) }),
  }
  for (const [what, body] of Object.entries(bodies)) {
    server.canned = { status: 200, body }
    await failsAs(t, 'rejected', () => store.get(ref), what)
  }
  server.canned = { status: 200, headers: { 'content-type': 'text/html' }, body: `<p>${MARKED}</p>` }
  await failsAs(t, 'rejected', () => store.get(ref), 'a page')
  const headers = { 'content-length': '100', connection: 'close' }
  server.canned = { status: 200, headers, body: '{"data":' }
  await failsAs(t, 'unavailable', () => store.get(ref), 'an answer cut off')
})

t.test('a link is a JSON object of what the Secret holds, with its resourceVersion', async (t) => {
  const { server, store } = await openKubernetes(t)
  await server.plant('apps/acme/db', '{"user":"reader","password":"пароль\\n ","empty":""}')
  const { text, version } = await store.read(Locator.parse('apps/acme/db')!)
  t.same(JSON.parse(text), { user: 'reader', password: 'пароль\n ', empty: '' })
  t.equal(version, server.secrets.get('apps.acme.db')!.metadata.resourceVersion)
  delete server.secrets.get('apps.acme.db')!.data
  t.equal((await store.read(Locator.parse('apps/acme/db')!)).text, '{}')
})

t.test('a link to bytes that are no text, or to a copy of any Strongroom, is rejected', async (t) => {
  const { server, store } = await openKubernetes(t)
  await server.plant('apps/acme/db', '{"user":"reader"}')
  server.secrets.get('apps.acme.db')!.data!['keystore'] = Buffer.from([0xfe, 0xed, 0xfe, 0xed]).toString(
    'base64',
  )
  await failsAs(t, 'rejected', () => store.read(Locator.parse('apps/acme/db')!))
  const ref = mint(OPTIONS)
  await store.put(ref, MARKED)
  await failsAs(t, 'rejected', () => store.read(Locator.parse(ref)!))
})

t.test('calls share their connections, which end when the store is closed', async (t) => {
  const { server, store } = await openKubernetes(t)
  await everyCall(store)
  await everyCall(store)
  t.equal(server.connections, 1)
  await store.close()
  await failsAs(t, 'unavailable', () => store.get(mint(OPTIONS)))
  t.equal(server.connections, 1)
})

t.test('a call that is under way when the store is closed ends as unavailable', async (t) => {
  const { server, store } = await openKubernetes(t, {}, { ...OPTIONS, timeoutMs: 30_000 })
  await server.suffer('hang')
  const call = store.get(mint(OPTIONS))
  setTimeout(() => void store.close(), 50)
  const beganAt = performance.now()
  await failsAs(t, 'unavailable', () => call)
  t.ok(performance.now() - beganAt < 10_000)
})

async function everyCall(store: SecretStore & LinkReader): Promise<void> {
  const ref = mint(OPTIONS)
  await store.put(ref, MARKED)
  await store.get(ref)
  await store.check()
  await store.delete(ref)
}
