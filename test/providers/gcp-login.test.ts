import { execFile } from 'node:child_process'
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import t from 'tap'
import { COMPILED } from '../cli/run-strongroom.ts'
import { MARKED } from '../conformance/secret-store.ts'
import type { Round, Told } from './gcp-login-child.ts'
import { startGcpServer } from './gcp-secret-manager-server.ts'
import { loopbackCertificate } from './loopback-certificate.ts'

// They mostly wait, each for a process of its own.
t.jobs = 3

const MARK = 'd41d8cd98f00b204'
const TOKEN = 'ya29.MARKED-token-of-the-metadata-server'
const SHORT_MS = 500
const SLACK_MS = 500
const LINGERS_MS = 1500
const ACCOUNT = 'vault@data-platform.iam.gserviceaccount.com'

interface Ended extends Told {
  /** 0 where the process ended well, and at once when it had nothing left to do. */
  code: number
  printed: string
}

/** Runs rounds in a process that has this environment and no other, and waits until it ends by itself. */
async function run(env: Record<string, string>, rounds: Round[], more: object = {}): Promise<Ended> {
  const child = join(import.meta.dirname, 'gcp-login-child.ts')
  const asked = JSON.stringify({ rounds, ...more })
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [child, asked],
      { env: { ...COMPILED, ...env }, timeout: 30_000 },
      (error, stdout, stderr) => {
        const said = error ? '{"rounds":[]}' : stdout.slice(stdout.lastIndexOf('{"rounds"'))
        const told = JSON.parse(said) as Told
        const lingered = Date.now() - told.doneAt > LINGERS_MS
        const code = error ? Number(error.code ?? -1) : lingered ? -2 : 0
        resolve({ ...told, code, printed: stdout + stderr })
      },
    )
  })
}

/** A home without a login, and a certificate for loopback. */
function ground(t: Test) {
  const home = mkdtempSync(join(tmpdir(), 'strongroom-gcp-'))
  t.teardown(() => rmSync(home, { recursive: true }))
  const { cert, key } = loopbackCertificate()
  const trusted = join(home, 'tls.crt')
  writeFileSync(trusted, cert)
  const env = { HOME: home, NODE_EXTRA_CA_CERTS: trusted, METADATA_SERVER_DETECTION: 'none' }
  return { home, cert, key, env }
}

/** A service account's key file, and who knows its signatures. */
function account(home: string) {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const file = join(home, 'account.json')
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
  const told = { type: 'service_account', client_email: ACCOUNT, private_key: pem, private_key_id: 'k1' }
  writeFileSync(file, JSON.stringify(told))
  const knows = (authorization: string) => {
    const [head, claims, signature] = authorization.replace(/^Bearer /, '').split('.')
    const signed = Buffer.from(`${head}.${claims}`)
    const key = createPublicKey(publicKey.export({ type: 'spki', format: 'pem' }))
    const { iss, exp, scope } = JSON.parse(Buffer.from(claims!, 'base64url').toString())
    const good = verify('RSA-SHA256', signed, key, Buffer.from(signature!, 'base64url'))
    return good && iss === ACCOUNT && exp * 1000 > Date.now() && /cloud-platform$/.test(scope)
  }
  return { file, knows }
}

async function listen(t: Test, serve: RequestListener): Promise<string> {
  const server = createServer(serve).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Counts who comes, and says nothing. */
async function silentPort(t: Test): Promise<{ address: string; met: () => number }> {
  let met = 0
  const server = createTcpServer(() => met++).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, met: () => met }
}

const cameOf = ({ rounds }: Told) => rounds.map(({ outcomes }) => outcomes.map(({ came }) => came))

t.test('without a login every call is denied, and the process lives on and ends by itself', async (t) => {
  const { home, env } = ground(t)
  const settings = { project: 'data-platform', endpoint: 'https://127.0.0.1:1' }
  const [garbled, ofNoKind, missing] = ['garbled', 'of-no-kind', 'missing'].map((name) => join(home, name))
  writeFileSync(garbled!, `{"private_key": ${MARKED}`)
  writeFileSync(ofNoKind!, JSON.stringify({ private_key: MARKED }))
  const acts = ['get', 'put', 'check', 'delete', 'get']
  const rounds = [undefined, missing, garbled, ofNoKind].map((file) => ({
    settings,
    acts,
    ...(file && { env: { GOOGLE_APPLICATION_CREDENTIALS: file } }),
  }))
  let asked = 0
  const away = await listen(t, (request, answer) => {
    if (asked++ === 0) request.socket.destroy()
    else answer.writeHead(200, { 'metadata-flavor': 'Google' }).end()
  })
  const pinged = { METADATA_SERVER_DETECTION: 'ping-only', GCE_METADATA_HOST: away }
  const ended = await run(env, [...rounds, { settings, acts: ['get', 'get'], env: pinged }])
  t.equal(ended.code, 0)
  t.same(cameOf(ended).slice(0, 4), Array(4).fill(Array(5).fill('denied NO_LOGIN')))
  t.notMatch(cameOf(ended)[4]![1], 'denied', 'a metadata server that was away is asked again')
  t.notOk(ended.printed.includes(MARK))
})

t.test('a key that signs nothing makes no call and ends no process', async (t) => {
  const { home, env, ...pair } = ground(t)
  const file = join(home, 'account.json')
  const told = { type: 'service_account', client_email: ACCOUNT, private_key: `MARKED ${MARK}` }
  writeFileSync(file, JSON.stringify(told))
  const server = await startGcpServer({ tls: { ...pair, knows: () => true } })
  t.teardown(() => server.close())
  const login = { GOOGLE_APPLICATION_CREDENTIALS: file }
  const acts = ['get', 'put', 'check']
  const ended = await run({ ...env, ...login }, [{ settings: server.settings, acts }])
  t.equal(ended.code, 0)
  t.same(cameOf(ended), [Array(3).fill('unavailable LOGIN_FAILED')])
  t.notOk(ended.printed.includes(MARK))
  t.same(server.asked, [])
})

t.test(
  'a service account signs each call, and nothing that the SDK can print shows value or login',
  async (t) => {
    const { home, env, ...pair } = ground(t)
    const { file, knows } = account(home)
    const server = await startGcpServer({ tls: { ...pair, knows } })
    t.teardown(() => server.close())
    const loud = { GOOGLE_SDK_NODE_LOGGING: 'all', GRPC_TRACE: 'all', GRPC_VERBOSITY: 'DEBUG', DEBUG: '*' }
    const login = { GOOGLE_APPLICATION_CREDENTIALS: file }
    const acts = ['put', 'get', 'put', 'check', 'delete']
    const ended = await run({ ...env, ...loud, ...login }, [{ settings: server.settings, acts }])
    t.equal(ended.code, 0)
    t.same(cameOf(ended), [Array(5).fill('ok')])
    const [authorization] = server.asked[0]!.metadata.get('authorization').map(String)
    t.match(authorization, /^Bearer ./)
    t.match(ended.printed, /resolving_call/, 'it did print')
    const base64 = Buffer.from(MARKED).toString('base64')
    for (const secret of [MARK, base64, authorization!.split('.')[2]!, 'Bearer'])
      t.notOk(ended.printed.includes(secret))
    t.notMatch(ended.printed, [...Buffer.from(MARKED)].join(','), 'nor as the numbers of its bytes')
  },
)

t.test('a login that the server does not know is denied', async (t) => {
  const { home, env, ...pair } = ground(t)
  const server = await startGcpServer({ tls: { ...pair, knows: () => false } })
  t.teardown(() => server.close())
  const login = { GOOGLE_APPLICATION_CREDENTIALS: account(home).file }
  const ended = await run({ ...env, ...login }, [{ settings: server.settings, acts: ['get', 'put'] }])
  t.same(cameOf(ended), [['denied UNAUTHENTICATED', 'denied UNAUTHENTICATED']])
})

t.test('a server whose certificate nobody signed is unavailable, and gets no login', async (t) => {
  const { home, env, ...pair } = ground(t)
  const server = await startGcpServer({ tls: { ...pair, knows: () => true } })
  t.teardown(() => server.close())
  const login = { GOOGLE_APPLICATION_CREDENTIALS: account(home).file, NODE_EXTRA_CA_CERTS: '' }
  const ended = await run({ ...env, ...login }, [{ settings: server.settings, acts: ['get', 'put'] }])
  t.same(cameOf(ended), [['unavailable UNAVAILABLE', 'unavailable UNAVAILABLE']])
  t.same(server.asked, [])
})

t.test('a server that is silent in the TLS handshake is unavailable in time', async (t) => {
  const { home, env } = ground(t)
  const { address, met } = await silentPort(t)
  const settings = { project: 'data-platform', endpoint: `https://${address}` }
  const login = { GOOGLE_APPLICATION_CREDENTIALS: account(home).file }
  const round = { settings, acts: ['get', 'put'], timeoutMs: SHORT_MS }
  const ended = await run({ ...env, ...login }, [round])
  t.equal(ended.code, 0)
  t.same(cameOf(ended), [['unavailable DEADLINE_EXCEEDED', 'unavailable DEADLINE_EXCEEDED']])
  for (const { act, ms } of ended.rounds[0]!.outcomes)
    t.ok(ms < SHORT_MS + SLACK_MS, `${act} took ${Math.round(ms)} ms`)
  t.ok(met() > 0)
})

t.test('the metadata server is asked itself: no proxy and no redirect gets anything', async (t) => {
  const { env, ...pair } = ground(t)
  const server = await startGcpServer({ tls: { ...pair, knows: (shown) => shown === `Bearer ${TOKEN}` } })
  t.teardown(() => server.close())
  const proxy = await silentPort(t)
  const proxies = Object.fromEntries(
    ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'all_proxy', 'grpc_proxy'].map(
      (name) => [name, `http://${proxy.address}`],
    ),
  )
  const present = { METADATA_SERVER_DETECTION: 'assume-present', ...proxies }
  const token = { access_token: TOKEN, expires_in: 3600, token_type: 'Bearer' }
  const answers: Record<string, [expected: RegExp, RequestListener]> = {
    'a token': [
      /^ok$/,
      (request, answer) => {
        const known = request.url?.includes('/token')
        const headers = { 'metadata-flavor': 'Google', 'content-type': 'application/json' }
        answer.writeHead(known ? 200 : 404, headers).end(known ? JSON.stringify(token) : '')
      },
    ],
    'a redirect': [
      /^unavailable LOGIN_FAILED$/,
      (_, answer) => answer.writeHead(302, { location: `http://${proxy.address}/` }).end(),
    ],
    'an error': [/^unavailable LOGIN_FAILED$/, (_, answer) => answer.writeHead(403).end(MARKED)],
    silence: [/^unavailable DEADLINE_EXCEEDED$/, () => {}],
  }
  const asked = Object.values(answers).map(() => 0)
  const hosts = await Promise.all(
    Object.values(answers).map(([, serve], at) =>
      listen(t, (request, answer) => {
        asked[at]!++
        serve(request, answer)
      }),
    ),
  )
  const rounds = hosts.map((host, at) => ({
    settings: server.settings,
    acts: ['put', 'get'],
    env: { GCE_METADATA_HOST: host },
    ...(at === hosts.length - 1 && { timeoutMs: SHORT_MS }),
  }))
  const ended = await run({ ...env, ...present }, rounds)
  t.equal(ended.code, 0)
  for (const [at, [what, [expected]]] of Object.entries(answers).entries())
    for (const came of cameOf(ended)[at] ?? ['nothing']) t.match(came, expected, what)
  for (const { act, ms } of ended.rounds.at(-1)?.outcomes ?? [])
    t.ok(ms < SHORT_MS + SLACK_MS, `${act} took ${Math.round(ms)} ms`)
  t.same(asked, [1, 2, 2, 1], 'once for each call that has no token, and one that is under way is shared')
  t.notOk(ended.printed.includes(MARK) || ended.printed.includes(TOKEN))
  t.equal(proxy.met(), 0)
})

t.test('Google is asked at the host of the location, or at the one of all', async (t) => {
  const { home, env } = ground(t)
  const login = { GOOGLE_APPLICATION_CREDENTIALS: account(home).file }
  const rounds = [{}, { location: 'europe-west1' }].map((place) => ({
    settings: { project: 'data-platform', ...place },
    acts: ['get'],
  }))
  const ended = await run({ ...env, ...login }, rounds, { lookupsFail: true })
  t.same(
    ended.rounds.map(({ hosts }) => [...new Set(hosts)]),
    [['secretmanager.googleapis.com'], ['secretmanager.europe-west1.rep.googleapis.com']],
  )
})
