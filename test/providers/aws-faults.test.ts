import t from 'tap'
import { Locator } from '../../src/core/locator.ts'
import type { StoreFault } from '../../src/core/secret-store.ts'
import { failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { NO_LOGIN, openAt, PREFIX, startedStore, withEnvironment } from './aws-stores.ts'

const under = { prefix: PREFIX }

/** Every name that AWS and the SDK give to what went wrong, as their documents list them. */
const FAULTS: Record<StoreFault, string[]> = {
  not_found: ['ResourceNotFoundException'],
  denied: [
    'AccessDeniedException',
    'AccessDenied',
    'NotAuthorized',
    'OptInRequired',
    'MissingAuthenticationTokenException',
    'MissingAuthenticationToken',
    'IncompleteSignatureException',
    'IncompleteSignature',
    'InvalidSignatureException',
    'SignatureDoesNotMatch',
    'UnrecognizedClientException',
    'InvalidClientTokenId',
    'ExpiredTokenException',
    'ExpiredToken',
    'RequestExpired',
    'InvalidIdentityTokenException',
    'InvalidIdentityToken',
    'CredentialsProviderError',
    'TokenProviderError',
    'DecryptionFailure',
    'EncryptionFailure',
    'KMSAccessDeniedException',
    'KMSDisabledException',
    'KMSInvalidStateException',
  ],
  throttled: [
    'ThrottlingException',
    'Throttling',
    'ThrottledException',
    'TooManyRequestsException',
    'RequestLimitExceeded',
    'RequestThrottled',
    'RequestThrottledException',
    'SlowDown',
    'LimitExceededException',
  ],
  unavailable: [
    'InternalServiceError',
    'InternalServiceErrorException',
    'InternalServerError',
    'InternalFailure',
    'ServiceUnavailable',
    'ServiceUnavailableException',
    'RequestTimeout',
    'RequestTimeoutException',
    'IDPCommunicationErrorException',
    'IDPCommunicationError',
  ],
  rejected: [
    'InvalidParameterException',
    'InvalidRequestException',
    'ValidationException',
    'ValidationError',
    'PreconditionNotMetException',
    'MalformedPolicyDocumentException',
    'PublicPolicyException',
    'SerializationException',
    'UnknownOperationException',
    'KMSNotFoundException',
  ],
}

t.test('a fault goes by the name that AWS gives it, whatever the status', async (t) => {
  const { server, store } = await startedStore(t)
  for (const [fault, names] of Object.entries(FAULTS) as [StoreFault, string[]][]) {
    for (const [index, name] of names.entries()) {
      // Either way of writing it, and with a status that says something else.
      const __type = index % 2 === 0 ? name : `com.amazonaws.secretsmanager#${name}`
      const body = { __type, message: MARKED }
      server.answer = () => ({ status: fault === 'unavailable' ? 400 : 500, body })
      await failsAs(t, fault, () => store.put(mint(under), MARKED), name)
    }
  }
})

t.test('what bears no known name goes by its status', async (t) => {
  const { server, store } = await startedStore(t)
  const rows: [number, StoreFault][] = [
    [400, 'rejected'],
    [403, 'rejected'],
    [429, 'rejected'],
    [500, 'unavailable'],
    [503, 'unavailable'],
  ]
  for (const [status, fault] of rows) {
    for (const __type of ['NeverHeardOf', 'constructor', `${MARKED}#${MARKED}`]) {
      server.answer = () => ({ status, body: { __type, message: MARKED } })
      await failsAs(t, fault, () => store.get(mint(under)), `${status} ${__type.slice(0, 12)}`)
    }
  }
})

t.test('each call is one request: nothing is tried again here', async (t) => {
  const { server, store } = await startedStore(t)
  for (const __type of ['ThrottlingException', 'InternalServiceError', 'RequestTimeout']) {
    server.answer = () => ({ status: 500, body: { __type } })
    const before = server.seen.length
    await t.rejects(store.get(mint(under)))
    t.equal(server.seen.length - before, 1, __type)
  }
})

t.test('an answer that is no secret is an error, never a value', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, MARKED)
  const right = { ARN: 'arn', Name: ref, VersionId: ref.slice(-36), SecretString: MARKED }
  const cut = { 'content-length': '9999', connection: 'close' }
  const answers: [string, StoreFault, unknown, Record<string, string>?][] = [
    ['nothing', 'rejected', ''],
    ['null', 'rejected', 'null'],
    ['a list', 'rejected', []],
    ['a page', 'unavailable', `<html>${MARKED}</html>`, { 'content-type': 'text/html' }],
    ['half of it', 'unavailable', JSON.stringify(right).slice(0, -20)],
    ['less than was announced', 'unavailable', JSON.stringify(right), cut],
    ['no text', 'rejected', { ...right, SecretString: undefined }],
    ['null for a text', 'rejected', { ...right, SecretString: null }],
    ['another secret', 'rejected', { ...right, Name: `${ref}-AbCdEf` }],
    ['no name', 'rejected', { ...right, Name: undefined }],
    ['too much', 'rejected', { ...right, SecretString: MARKED + 'x'.repeat(2 ** 21) }],
  ]
  for (const [what, fault, body, headers] of answers) {
    server.answer = () => ({ status: 200, body, ...(headers && { headers }) })
    await failsAs(t, fault, () => store.get(ref), what)
    await failsAs(t, fault, () => store.read(Locator.parse('apps/db')!), `${what}, for a link`)
  }
  for (const wrong of [5, true, [MARKED], { a: MARKED }]) {
    server.answer = () => ({ status: 200, body: { ...right, SecretString: wrong } })
    await t.rejects(store.get(ref), { name: 'StoreError' }, `${typeof wrong} for a text`)
  }
  server.answer = undefined
  t.equal(await store.get(ref), MARKED)
})

t.test('an error holds nothing of what the server echoes', async (t) => {
  const { server, store } = await startedStore(t)
  server.answer = ({ input, headers }) => ({
    status: 400,
    headers: { 'x-amzn-requestid': 'echo', 'x-echo': String(headers.authorization) },
    body: {
      __type: 'InvalidParameterException',
      message: `${JSON.stringify(input)} ${String(headers.authorization)}`,
      code: 'MARKED_d41d8cd98f00b204',
      ...input,
    },
  })
  await failsAs(t, 'rejected', () => store.put(mint(under), MARKED))
})

t.test('no login is denied, and so is one that is wrong or has run out', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, MARKED)
  const env = { ...NO_LOGIN, ...server.env }
  const logins: [string, Record<string, string | undefined>][] = [
    [
      'none',
      { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined, AWS_SESSION_TOKEN: undefined },
    ],
    ['an unknown key', { AWS_ACCESS_KEY_ID: 'AKIDOFNOBODY' }],
    ['a wrong key', { AWS_SECRET_ACCESS_KEY: 'not the secret of this key' }],
    ['a session that has ended', { AWS_SESSION_TOKEN: 'another-session' }],
  ]
  for (const [what, login] of logins) {
    await t.test(what, async (t) => {
      withEnvironment(t, { ...env, ...login })
      const barred = await openAt(t, server)
      await failsAs(t, 'denied', () => barred.put(mint(under), MARKED), 'put')
      await failsAs(t, 'denied', () => barred.get(ref), 'get')
      await failsAs(t, 'denied', () => barred.delete(ref, true), 'delete')
      await failsAs(t, 'denied', () => barred.check(), 'check')
    })
  }
  t.same(server.kept(), [ref], 'and nothing was done for them')
})

t.test('a clock that is wrong is set by what AWS answers, and the next call signs by it', async (t) => {
  const { server, store } = await startedStore(t)
  const ahead = Date.now() + 3_600_000
  server.answer = () => ({
    status: 400,
    headers: { date: new Date(ahead).toUTCString() },
    body: { __type: 'InvalidSignatureException', message: 'Signature not yet current' },
  })
  await failsAs(t, 'unavailable', () => store.get(mint(under)), 'the first call')
  await t.rejects(store.get(mint(under)))
  const [, y, mo, d, h, mi] = /^(....)(..)(..)T(..)(..)/.exec(String(server.seen[1]!.headers['x-amz-date']))!
  const signedAt = Date.parse(`${y}-${mo}-${d}T${h}:${mi}:00Z`)
  t.ok(Math.abs(signedAt - ahead) < 120_000, 'the second is signed an hour ahead')
})

t.test('a signature is good for its own body, region and login only', async (t) => {
  const { server, store } = await startedStore(t)
  const ref = mint(under)
  await store.put(ref, MARKED)
  await store.get(ref)
  const { input, headers } = server.seen.at(-1)!
  const again = async (body: object, changed: Record<string, string> = {}) => {
    const { connection: _, 'content-length': __, ...signed } = headers as Record<string, string>
    const sent = { method: 'POST', headers: { ...signed, ...changed }, body: JSON.stringify(body) }
    const answer = (await (await fetch(server.url, sent)).json()) as { __type?: string }
    return answer.__type
  }
  t.equal(await again(input), undefined, 'as it was sent it is taken')
  t.equal(await again({ ...input, SecretId: 'apps/db' }), 'InvalidSignatureException')
  t.equal(await again(input, { 'x-amz-target': 'secretsmanager.DeleteSecret' }), 'InvalidSignatureException')
  t.equal(await again(input, { 'x-amz-date': '20200101T000000Z' }), 'InvalidSignatureException')
  t.equal(await again(input, { authorization: 'none' }), 'IncompleteSignatureException')
  const elsewhere = await openAt(t, server, { region: 'us-east-1' })
  await failsAs(t, 'denied', () => elsewhere.get(ref), 'another region')
})
