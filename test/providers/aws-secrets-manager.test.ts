import { randomUUID } from 'node:crypto'
import { Ajv } from 'ajv'
import t from 'tap'
import { awsSecretsManager } from '../../providers/aws-secrets-manager.ts'
import { Locator } from '../../src/core/locator.ts'
import { conforms, endsByTime, failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { HASTY_MS, PATIENT_MS, PREFIX, startedStore } from './aws-stores.ts'

const under = { prefix: PREFIX }
const OWNER = { workspace: 'acme', credential: 'orders-db' }

conforms(t, {
  name: 'aws-secrets-manager',
  troubles: ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections'],
  async make(t, trouble) {
    const timeoutMs = endsByTime(trouble) ? HASTY_MS : PATIENT_MS
    const { server, store } = await startedStore(t, {}, timeoutMs)
    return {
      store,
      prefix: PREFIX,
      timeoutMs,
      valueBytesMax: awsSecretsManager.valueBytesMax,
      suffer: (trouble) => server.suffer(trouble),
      recover: () => server.recover(),
      plant: (locator, text) => server.plant(locator, text),
      close: () => server.close(),
    }
  },
})

t.test('an operator sees the ref, whose it is, and the key', async (t) => {
  const { server, store } = await startedStore(t, { kms_key_id: 'alias/strongroom' })
  const ref = mint(under)
  await store.put(ref, '"kept"', OWNER)
  const secret = server.secrets.get(ref)!
  t.equal(secret.kmsKeyId, 'alias/strongroom')
  t.same(secret.tags, [
    { Key: 'workspace', Value: 'acme' },
    { Key: 'credential', Value: 'orders-db' },
  ])
  t.same([...secret.versions.keys()], [ref.slice(-36)], 'and the version is the UUID of the ref')
})

t.test('a tag that AWS would refuse is changed and fails no put', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, '"kept"', { workspace: 'aws:acme', credential: `${'{}<>|\n'}${'x'.repeat(300)}` })
  t.same(
    server.secrets.get(ref)!.tags.map(({ Value }) => Value),
    ['aws_acme', `______${'x'.repeat(250)}`],
  )
})

t.test('a put whose answer was lost is put again, and another value is not', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  server.onCall = (call, moment) => {
    if (moment === 'after') throw new Error(`the answer to ${call} is lost`)
  }
  await failsAs(t, 'unavailable', () => store.put(ref, MARKED, OWNER))
  server.onCall = undefined
  await store.put(ref, MARKED, OWNER)
  await failsAs(t, 'rejected', () => store.put(ref, '"another"', OWNER))
  t.equal(await store.get(ref), MARKED)
})

t.test('where AWS says only that a secret exists, its value decides', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, MARKED)
  server.answer = ({ action }) =>
    action === 'CreateSecret' ? { status: 400, body: { __type: 'ResourceExistsException' } } : undefined
  await t.resolves(store.put(ref, MARKED), 'the same value is kept already')
  await failsAs(t, 'rejected', () => store.put(ref, '"another"'), 'another value')
  await failsAs(t, 'unavailable', () => store.put(mint(under), MARKED), 'one that a get does not know of yet')
})

t.test('a delete for good also destroys what the recovery window holds', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, '"kept"')
  await store.delete(ref)
  t.same([server.kept(), server.recoverable()], [[], [ref]])
  await store.delete(ref, true)
  t.same([server.kept(), server.recoverable()], [[], []])
})

t.test('the recovery window is as long as the settings say, and seven days without', async (t) => {
  for (const [days, settings] of [[7, {}] as const, [30, { recovery_days: 30 }] as const]) {
    const { server, store } = await startedStore(t, settings)
    const ref = mint(under)
    await store.put(ref, '"kept"')
    await store.delete(ref)
    t.equal(server.seen.at(-1)!.input['RecoveryWindowInDays'], days)
  }
})

t.test('a put onto a ref in the recovery window is rejected and brings nothing back', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, MARKED)
  await store.delete(ref)
  await failsAs(t, 'rejected', () => store.put(ref, MARKED))
  server.answer = ({ action }) =>
    action === 'CreateSecret' ? { status: 400, body: { __type: 'ResourceExistsException' } } : undefined
  await failsAs(t, 'rejected', () => store.put(ref, MARKED), 'also where AWS says that it exists')
  t.same([server.kept(), server.recoverable()], [[], [ref]])
})

t.test('what AWS refuses of a secret that is not deleted is neither missing nor deleted', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, MARKED)
  server.answer = ({ action }) =>
    action === 'DescribeSecret' ? undefined : { status: 400, body: { __type: 'InvalidRequestException' } }
  await failsAs(t, 'rejected', () => store.get(ref), 'get')
  await failsAs(t, 'rejected', () => store.delete(ref), 'delete')
  await failsAs(t, 'rejected', () => store.delete(ref, true), 'delete for good')
  server.answer = ({ action }) => ({
    status: 400,
    body: { __type: action === 'DescribeSecret' ? 'AccessDeniedException' : 'InvalidRequestException' },
  })
  await failsAs(t, 'denied', () => store.get(ref), 'get, where it may not be asked why')
})

t.test('no other ref than those of the store is ever sent', async (t) => {
  const { server, store } = await startedStore(t)
  const uuid = randomUUID()
  const refs = [
    `${PREFIX}-evil/acme/${uuid}`,
    `strongroom/acme/${uuid}`,
    `${PREFIX}/../acme/${uuid}`,
    `${PREFIX}/%2e%2e/${uuid}`,
    `${PREFIX}//${uuid}`,
    `${PREFIX}/acme/../${uuid}`,
    `${PREFIX}/acme/${uuid}/`,
    `${PREFIX}/acme/${uuid}\n`,
    `${PREFIX}/acme/${uuid.toUpperCase()}`,
    `${PREFIX}/acme/none`,
    `${PREFIX}/acme/`,
    `arn:aws:secretsmanager:eu-west-1:123456789012:secret:${PREFIX}/acme/${uuid}`,
    '',
  ]
  for (const ref of refs) {
    await failsAs(t, 'rejected', () => store.put(ref, MARKED), `put ${JSON.stringify(ref)}`)
    await failsAs(t, 'rejected', () => store.get(ref), `get ${JSON.stringify(ref)}`)
    await failsAs(t, 'rejected', () => store.delete(ref, true), `delete ${JSON.stringify(ref)}`)
  }
  t.same(server.seen, [])
})

t.test('no ARN and nothing of the store itself is read as a link', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, MARKED)
  const asked = server.seen.length
  for (const text of ['arn:aws:secretsmanager:eu-west-1:1:secret:apps/db', 'apps/../x', 'a//b', '', 'a b']) {
    const forged = { segments: text.split('/'), toString: () => text } as unknown as Locator
    await failsAs(t, 'rejected', () => store.read(forged), JSON.stringify(text))
  }
  for (const text of [ref, PREFIX, `${PREFIX}/apps`]) {
    await failsAs(t, 'rejected', () => store.read(Locator.parse(text)!), text)
  }
  t.equal(server.seen.length, asked)
})

t.test('a link is the text that is current, with the version that AWS gave it', async (t) => {
  const { server, store } = await startedStore(t)
  await server.plant('apps/acme/key', 'not JSON: ="\n')
  const secret = server.secrets.get('apps/acme/key')!
  t.same(await store.read(Locator.parse('apps/acme/key')!), {
    text: 'not JSON: ="\n',
    version: secret.current,
  })
  secret.versions.set(secret.current, { binary: 'AAEC' })
  await failsAs(t, 'rejected', () => store.read(Locator.parse('apps/acme/key')!), 'a secret of bytes')
})

t.test('a link in the recovery window is not found', async (t) => {
  const { server, store } = await startedStore(t)
  await server.plant('apps/acme/key', MARKED)
  server.secrets.get('apps/acme/key')!.deletedAt = Date.now() / 1000
  await failsAs(t, 'not_found', () => store.read(Locator.parse('apps/acme/key')!))
})

t.test('the stores file may say a window of 7 to 30 days, and a region', async (t) => {
  const ajv = new Ajv({ formats: { 'https-url': true } })
  const valid = ajv.compile({ type: 'object', additionalProperties: false, ...awsSecretsManager.settings })
  const settings = { region: 'us-gov-west-1', kms_key_id: 'alias/strongroom', recovery_days: 7 }
  t.ok(valid(settings))
  for (const wrong of [{ recovery_days: 6 }, { recovery_days: 31 }, { region: 'x.evil/' }, { region: '' }]) {
    t.notOk(valid({ ...settings, ...wrong }), JSON.stringify(wrong))
  }
  t.notOk(valid({}), 'without a region')
})
