import { once } from 'node:events'
import { createServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { connect, createServer as createTcpServer } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import t from 'tap'
import { crc32c } from '../../providers/crc32c.ts'
import { gcpSecretManager } from '../../providers/gcp-secret-manager.ts'
import type { StoreFault } from '../../src/core/secret-store.ts'
import { failsAs, MARKED } from '../conformance/secret-store.ts'
import { gcpGround, PATIENT_MS, TIMEOUT_MS } from './gcp-ground.ts'

// They mostly wait, each at a server of its own.
t.jobs = 4

// The SDK takes long to load: here, not while the first tests wait for their answers.
await import('@google-cloud/secret-manager')

const OWNER = { workspace: 'acme', credential: 'Orders.DB_1' }
// The first pause before another connection, with its jitter, is over by then.
const RECONNECT_MS = 300
const SLACK_MS = 10_000
const LOST = { code: status.UNAVAILABLE, details: `lost ${MARKED}` }

t.test('a put sends its checksum, and shows whose the secret is', async (t) => {
  const { server, store, ref, id } = await gcpGround(t)
  await store.put(ref, MARKED, OWNER)
  const { payload } = server.asked[1]!.request as { payload: { dataCrc32c: string } }
  t.equal(payload.dataCrc32c, String(crc32c(Buffer.from(MARKED))))
  t.match(server.secretOf(id), {
    labels: { 'managed-by': 'strongroom' },
    annotations: { 'strongroom-workspace': 'acme', 'strongroom-credential': 'Orders.DB_1' },
  })
})

const GLOBAL_KEY = 'projects/p/locations/global/keyRings/r/cryptoKeys/k'
const REGIONAL_KEY = 'projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k'
const location = 'europe-west1'

t.test('a key of Cloud KMS stands where the API wants it', async (t) => {
  const keyed = (kmsKeyName: string) => ({ customerManagedEncryption: { kmsKeyName } })
  const cases: [{ location?: string }, { kms_key?: string }, object][] = [
    [{}, {}, { replication: { automatic: {} } }],
    [{}, { kms_key: GLOBAL_KEY }, { replication: { automatic: keyed(GLOBAL_KEY) } }],
    [
      {},
      { kms_key: REGIONAL_KEY },
      { replication: { userManaged: { replicas: [{ location, ...keyed(REGIONAL_KEY) }] } } },
    ],
    [{ location }, { kms_key: REGIONAL_KEY }, keyed(REGIONAL_KEY)],
  ]
  for (const [options, more, secret] of cases) {
    const { server, store, ref, id } = await gcpGround(t, options, more)
    await store.put(ref, MARKED, OWNER)
    t.match(server.secretOf(id), secret)
    t.equal(await store.get(ref), MARKED)
  }
  const { store, ref } = await gcpGround(t, { location }, { kms_key: GLOBAL_KEY })
  await failsAs(t, 'rejected', () => store.put(ref, MARKED), 'a put under a key of another location')
})

t.test('regional secrets lie under their location', async (t) => {
  const { server, store, ref, id } = await gcpGround(t, { location })
  await store.put(ref, MARKED)
  await store.get(ref)
  t.equal(
    server.asked.at(-1)?.request.name,
    `projects/data-platform/locations/${location}/secrets/${id}/versions/1`,
  )
})

t.test('a put that ended before its version is not found, and carried on by the next', async (t) => {
  const { server, store, ref, id } = await gcpGround(t)
  server.onCall = (call, moment) => {
    if (call === 'put' && moment === 'after') server.failWith = LOST
  }
  await failsAs(t, 'unavailable', () => store.put(ref, MARKED))
  Object.assign(server, { onCall: undefined, failWith: undefined })
  t.same(server.kept(), [ref])
  await failsAs(t, 'not_found', () => store.get(ref))
  await store.put(ref, MARKED)
  t.equal(await store.get(ref), MARKED)
  t.equal(server.versionsOf(id).length, 1)
})

t.test('a put whose answer was lost makes no second version', async (t) => {
  const { server, store, ref, id } = await gcpGround(t)
  server.onCall = (_, moment) => {
    if (moment === 'after' && server.versionsOf(id).length === 1) throw LOST
  }
  await failsAs(t, 'unavailable', () => store.put(ref, MARKED))
  server.onCall = undefined
  await store.put(ref, MARKED)
  t.equal(server.versionsOf(id).length, 1)
  t.equal(await store.get(ref), MARKED)
})

t.test('another value under the same ref is rejected, and the first one stays', async (t) => {
  const { store, ref } = await gcpGround(t)
  await store.put(ref, '"first"')
  await failsAs(t, 'rejected', () => store.put(ref, MARKED))
  t.equal(await store.get(ref), '"first"')
})

for (const [what, theirs, kept] of [
  ['the same value is kept', MARKED, true],
  ['another value is rejected', '"theirs"', false],
] as const) {
  t.test(`of a put that another one overtakes, ${what}`, async (t) => {
    const { server, store, ref, id } = await gcpGround(t)
    server.onCall = (call, moment) => {
      const overtaken = call === 'put' && moment === 'before' && server.secretOf(id)
      if (overtaken) server.versionsOf(id).push({ data: Buffer.from(theirs), state: 'ENABLED' })
    }
    if (kept) await t.resolves(store.put(ref, MARKED))
    else await failsAs(t, 'rejected', () => store.put(ref, MARKED))
    t.equal(await store.get(ref), theirs)
  })
}

t.test('a put whose checksum did not arrive is read back', async (t) => {
  const { server, store, ref, id } = await gcpGround(t)
  const unconfirmed = (method: string, answer: Record<string, unknown>) =>
    method === 'AddSecretVersion' ? { ...answer, clientSpecifiedPayloadChecksum: false } : answer
  server.tamper = unconfirmed
  await t.resolves(store.put(ref, MARKED))
  await store.delete(ref)
  server.tamper = (method, answer) => {
    if (method === 'AddSecretVersion') server.versionsOf(id)[0]!.data = Buffer.from('"cut')
    return unconfirmed(method, answer)
  }
  await failsAs(t, 'rejected', () => store.put(ref, MARKED))
})

t.test('a secret that is deleted under a put makes it unavailable, never missing', async (t) => {
  const { server, store, ref, id } = await gcpGround(t)
  server.onCall = async (call, moment) => {
    if (call !== 'put' || moment !== 'before' || !server.secretOf(id)) return
    server.onCall = undefined
    await store.delete(ref)
  }
  await failsAs(t, 'unavailable', () => store.put(ref, MARKED))
  await store.put(ref, MARKED)
  t.equal(await store.get(ref), MARKED)
})

t.test('the calls of one put share one deadline', async (t) => {
  const { server, store, ref } = await gcpGround(t, {}, {}, TIMEOUT_MS)
  server.onCall = async (_, moment) => {
    if (moment === 'before') await setTimeout(TIMEOUT_MS * 0.6)
  }
  const beganAt = performance.now()
  await failsAs(t, 'unavailable', () => store.put(ref, MARKED))
  const took = performance.now() - beganAt
  t.ok(took < TIMEOUT_MS + SLACK_MS, `${Math.round(took)} ms`)
})

t.test('a server that was silent from the first connection on is unavailable in time', async (t) => {
  const { server, store, ref } = await gcpGround(t, {}, {}, TIMEOUT_MS)
  await server.suffer('hang')
  const beganAt = performance.now()
  await failsAs(t, 'unavailable', () => store.get(ref))
  t.ok(performance.now() - beganAt < TIMEOUT_MS + SLACK_MS)
  await server.recover()
  await failsAs(t, 'not_found', () => store.get(ref))
})

t.test('a call in flight ends when the store is closed, and none begins afterwards', async (t) => {
  const { server, store, ref } = await gcpGround(t, {}, {}, 30_000)
  await store.put(ref, MARKED)
  await server.suffer('hang')
  const beganAt = performance.now()
  const inFlight = failsAs(t, 'unavailable', () => store.get(ref))
  await setTimeout(50)
  await store.close()
  await inFlight
  t.ok(performance.now() - beganAt < 10_000, 'at once, not when its time is over')
  await failsAs(t, 'unavailable', () => store.get(ref))
})

for (const [when, passing] of [
  ['in its first moment', 0],
  ['after an answer', 1],
] as const) {
  t.test(`a connection that falls silent ${when} is given up, and the next one serves`, async (t) => {
    const { server, store: direct, ref } = await gcpGround(t)
    await direct.put(ref, MARKED)
    let answered = 0
    let made = 0
    const front = createTcpServer((near) => {
      const mute = ++made === 1
      const far = connect(server.port, '127.0.0.1')
      near.on('data', (bytes) => (mute && answered >= passing) || far.write(bytes))
      far.on('data', (bytes) => (mute && answered >= passing) || near.write(bytes))
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const)
        one.on('error', () => {}).on('close', () => other.destroy())
    }).listen(0, '127.0.0.1')
    await once(front, 'listening')
    t.teardown(() => front.close())
    const endpoint = `http://127.0.0.1:${(front.address() as AddressInfo).port}`
    const settings = { project: 'data-platform', endpoint }
    const store = await gcpSecretManager.open(settings, { prefix: 'strongroom', timeoutMs: TIMEOUT_MS })
    t.teardown(() => store.close())
    if (passing > 0) t.equal(await store.get(ref), MARKED)
    answered++
    await failsAs(t, 'unavailable', () => store.get(ref))
    await setTimeout(RECONNECT_MS)
    t.equal(await store.get(ref), MARKED)
    t.equal(made, 2)
  })
}

t.test(
  'what answers without speaking gRPC is unavailable or rejected, and a redirect is not followed',
  async (t) => {
    let followed = 0
    const elsewhere = createTcpServer(() => followed++).listen(0, '127.0.0.1')
    await once(elsewhere, 'listening')
    t.teardown(() => elsewhere.close())
    const location = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/`
    const html = { 'content-type': 'text/html' }
    const answers: [StoreFault, Record<string, string>][] = [
      ['unavailable', { ':status': '302', location }],
      ['unavailable', { ':status': '307', location }],
      ['unavailable', { ':status': '502', ...html }],
      // gRPC reads the length of a message out of the text: one that is too long.
      ['rejected', { ':status': '200', ...html }],
    ]
    for (const [fault, answer] of answers) {
      const web = createServer().listen(0, '127.0.0.1')
      await once(web, 'listening')
      web.on('stream', (stream) => {
        stream.respond(answer)
        stream.end(`<html>${MARKED}</html>`)
      })
      const endpoint = `http://127.0.0.1:${(web.address() as AddressInfo).port}`
      const store = await gcpSecretManager.open(
        { project: 'data-platform', endpoint },
        { prefix: 'strongroom', timeoutMs: PATIENT_MS },
      )
      t.teardown(() => web.close())
      t.teardown(() => store.close())
      const ref = 'strongroom/acme/0190a5b0-0000-7000-8000-000000000000'
      await failsAs(t, fault, () => store.get(ref), `get, of ${JSON.stringify(answer)},`)
      await failsAs(t, fault, () => store.put(ref, MARKED), `put, of ${JSON.stringify(answer)},`)
    }
    t.equal(followed, 0)
  },
)
