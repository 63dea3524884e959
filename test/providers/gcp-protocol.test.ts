import { randomUUID } from 'node:crypto'
import { Metadata, status } from '@grpc/grpc-js'
import t from 'tap'
import { crc32c } from '../../providers/crc32c.ts'
import type { GcpSettings } from '../../providers/gcp-secret-manager.ts'
import { gcpSecretManager } from '../../providers/gcp-secret-manager.ts'
import { Locator } from '../../src/core/locator.ts'
import type { StoreFault } from '../../src/core/secret-store.ts'
import { failsAs, MARKED } from '../conformance/secret-store.ts'
import { gcpGround, TIMEOUT_MS } from './gcp-ground.ts'
import { startGcpServer } from './gcp-secret-manager-server.ts'

/** Each of gRPC's codes, and what an operator is told. */
const FAULTS: Record<string, StoreFault> = {
  CANCELLED: 'unavailable',
  UNKNOWN: 'unavailable',
  INVALID_ARGUMENT: 'rejected',
  DEADLINE_EXCEEDED: 'unavailable',
  NOT_FOUND: 'not_found',
  ALREADY_EXISTS: 'rejected',
  PERMISSION_DENIED: 'denied',
  RESOURCE_EXHAUSTED: 'throttled',
  FAILED_PRECONDITION: 'rejected',
  ABORTED: 'unavailable',
  OUT_OF_RANGE: 'rejected',
  UNIMPLEMENTED: 'rejected',
  INTERNAL: 'unavailable',
  UNAVAILABLE: 'unavailable',
  DATA_LOSS: 'unavailable',
  UNAUTHENTICATED: 'denied',
}

t.test('each code has its fault, is asked for once, and shows nothing of what it says', async (t) => {
  const { server, store, ref } = await gcpGround(t)
  const metadata = new Metadata()
  metadata.set('grpc-status-details-bin', Buffer.from(MARKED))
  metadata.set('authorization', 'Bearer of-the-answer')
  for (const [name, fault] of Object.entries(FAULTS)) {
    const code = status[name as keyof typeof status]
    server.failWith = { code, details: `${name} for ${MARKED}`, metadata }
    server.asked = []
    await failsAs(t, fault, () => store.get(ref), `get, with ${name},`)
    t.equal(server.asked.length, 1, `${name} is not tried again`)
    // What is missing is no fault of a put.
    const ofPut = fault === 'not_found' || name === 'ALREADY_EXISTS' ? 'rejected' : fault
    await failsAs(t, ofPut, () => store.put(ref, MARKED), `put, with ${name},`)
    if (fault === 'not_found') await t.resolves(store.delete(ref))
    else await failsAs(t, fault, () => store.delete(ref), `delete, with ${name},`)
  }
  t.equal(Object.keys(FAULTS).length, 16, 'every code but OK')
})

t.test('an answer that is not what was asked for is no value', async (t) => {
  const { server, store, ref } = await gcpGround(t)
  await store.put(ref, MARKED)
  const value = Buffer.from(MARKED)
  const notText = Buffer.of(0xff)
  const payloadOf = (data: Buffer, dataCrc32c?: string) => ({ data, ...(dataCrc32c && { dataCrc32c }) })
  const lies: Record<
    string,
    [StoreFault, (answer: Record<string, unknown>) => Record<string, unknown> | Buffer]
  > = {
    'without a payload': ['unavailable', ({ name }) => ({ name })],
    'with an empty payload': ['unavailable', ({ name }) => ({ name, payload: {} })],
    'without a checksum': ['unavailable', ({ name }) => ({ name, payload: payloadOf(value) })],
    'with another checksum': ['unavailable', ({ name }) => ({ name, payload: payloadOf(value, '1') })],
    'of another secret': [
      'unavailable',
      ({ payload }) => ({ name: 'projects/1/secrets/b/versions/1', payload }),
    ],
    'of another version': [
      'unavailable',
      ({ name, payload }) => ({ name: String(name).replace(/1$/, '2'), payload }),
    ],
    'without a name': ['unavailable', ({ payload }) => ({ payload })],
    'with nothing at all': ['unavailable', () => Buffer.alloc(0)],
    'that is no message': ['unavailable', () => Buffer.from(MARKED)],
    'that is not UTF-8': [
      'rejected',
      ({ name }) => ({ name, payload: payloadOf(notText, String(crc32c(notText))) }),
    ],
    'that is too long': [
      'rejected',
      ({ name }) => ({ name, payload: payloadOf(Buffer.alloc(2_000_000, 97)) }),
    ],
  }
  for (const [what, [fault, lie]] of Object.entries(lies)) {
    server.tamper = (_, answer) => lie(answer)
    await failsAs(t, fault, () => store.get(ref), `an answer ${what}`)
  }
  server.tamper = undefined
  t.equal(await store.get(ref), MARKED)
})

t.test('a name that is not of this store is refused before anything is sent', async (t) => {
  const { server, store, ref } = await gcpGround(t)
  const uuid = randomUUID()
  const refs = [
    '',
    'strongroom',
    `strongroom/acme`,
    `strongroom/acme/${uuid}/versions/2`,
    `strongroom/acme/../other/${uuid}`,
    `strongroom/acme/%2e%2e/${uuid}`,
    `strongroom/ac__me/${uuid}`,
    `strongroom/acme_/${uuid}`,
    `strongroom/-acme/${uuid}`,
    `strongroom//acme/${uuid}`,
    `strongroom-evil/acme/${uuid}`,
    `elsewhere/acme/${uuid}`,
    `projects/p/secrets/strongroom/acme/${uuid}`,
    `${ref}\n`,
    `${ref.slice(0, -1)}G`,
    `strongroom/acme/latest`,
    `strongroom/${'a'.repeat(64)}/${uuid}`,
  ]
  for (const hostile of refs) {
    await failsAs(t, 'rejected', () => store.get(hostile), hostile)
    await failsAs(t, 'rejected', () => store.put(hostile, MARKED), hostile)
    await failsAs(t, 'rejected', () => store.delete(hostile, true), hostile)
  }
  const locators = ['apps/a__b', 'apps/a_/b', 'apps/_b', '_', 'apps/acme.db', 'a/'.repeat(120) + 'b']
  for (const hostile of locators)
    await failsAs(t, 'rejected', () => store.read(Locator.parse(hostile)!), hostile)
  t.same(server.asked, [])
})

t.test('the separator cannot be built out of two segments', async (t) => {
  const { segment } = gcpSecretManager
  for (const good of ['a', 'A-b_c', 'a-', '-', '1_2_3']) t.match(good, segment, good)
  for (const bad of ['', '_', 'a_', '_a', 'a__b', 'a.b', 'a/b', 'é', 'a\n']) t.notOk(segment!.test(bad), bad)
})

t.test('the longest prefix leaves room for the rest of the name', async (t) => {
  const server = await startGcpServer()
  const prefix = 'a/'.repeat(gcpSecretManager.prefixLengthMax! / 2 - 1) + 'aa'
  t.equal(prefix.length, gcpSecretManager.prefixLengthMax)
  const settings = server.settings as unknown as GcpSettings
  const store = await gcpSecretManager.open(settings, { prefix, timeoutMs: TIMEOUT_MS })
  t.teardown(() => server.close())
  t.teardown(() => store.close())
  const ref = `${prefix}/${'w'.repeat(63)}/${randomUUID()}`
  await store.put(ref, '"kept"')
  t.equal(await store.get(ref), '"kept"')
  t.same(server.kept(), [ref])
})

t.test('a ref is read by its number, never by the alias that lags', async (t) => {
  const { server, store, ref, id } = await gcpGround(t)
  await store.put(ref, '"first"')
  // As if somebody had added one by hand.
  server.versionsOf(id).push({ data: Buffer.from('"by hand"'), state: 'ENABLED' })
  t.equal(await store.get(ref), '"first"')
  const names = server.asked.map(({ request }) => String(request.name))
  t.notOk(names.some((name) => name.includes('latest')))
})

t.test('a link is read at its newest version, and says which', async (t) => {
  const { server, store } = await gcpGround(t)
  await server.plant('apps/acme/db', 'one')
  await server.plant('apps/acme/db', 'two')
  t.same(await store.read(Locator.parse('apps/acme/db')!), { text: 'two', version: '2' })
  await server.plant('apps/acme/db', '')
  t.same(
    await store.read(Locator.parse('apps/acme/db')!),
    { text: '', version: '3' },
    'an empty one is a value',
  )
})

for (const state of ['DISABLED', 'DESTROYED'] as const) {
  t.test(`a version that is ${state} is rejected, not missing`, async (t) => {
    const { server, store, ref, id } = await gcpGround(t)
    await store.put(ref, MARKED)
    server.versionsOf(id)[0]!.state = state
    await failsAs(t, 'rejected', () => store.get(ref))
    await failsAs(t, 'rejected', () => store.put(ref, MARKED))
    await store.delete(ref)
    await failsAs(t, 'not_found', () => store.get(ref))
  })
}
