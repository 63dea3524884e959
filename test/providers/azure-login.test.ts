import { execFile } from 'node:child_process'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import t from 'tap'
import { azureKeyVault } from '../../providers/azure-key-vault.ts'
import { AzureTransport } from '../../providers/azure-transport.ts'
import type { LinkReader, SecretStore } from '../../src/core/secret-store.ts'
import { COMPILED } from '../cli/run-strongroom.ts'
import { failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { AzureKeyVaultServer } from './azure-key-vault-server.ts'
import { AzureLoginServer } from './azure-login-server.ts'
import { loopbackCertificate } from './loopback-certificate.ts'

const OPTIONS = { prefix: 'strongroom', timeoutMs: 8_000 }
const HASTY = { ...OPTIONS, timeoutMs: 1_000 }
const login = await AzureLoginServer.get()

const refused = JSON.stringify({ statusCode: 400, message: `no such identity: ${MARKED}` })
for (const [what, trouble, fault] of [
  ['is refused', { status: 400, body: refused }, 'denied'],
  ['is forbidden', { status: 403, body: refused }, 'denied'],
  ['has no token', { status: 200, body: '{}' }, 'denied'],
  ['answers something else', { status: 200, body: `<html>${MARKED}</html>` }, 'denied'],
  ['is throttled', { status: 429, body: refused }, 'unavailable'],
  ['is broken', { status: 500, body: refused }, 'unavailable'],
  ['is silent', 'hang', 'unavailable'],
] as const) {
  t.test(`a login that ${what} is ${fault}, in time, and works again afterwards`, async (t) => {
    const { store } = await begin(t, trouble === 'hang' ? HASTY : OPTIONS)
    login.trouble = trouble
    const beganAt = performance.now()
    await Promise.all([1, 2].map(() => failsAs(t, fault, () => store.get(mint(OPTIONS)))))
    await t.rejects(store.check(), { message: /login/ })
    await failsAs(t, fault, () => store.put(mint(OPTIONS), MARKED), 'put')
    await failsAs(t, fault, () => store.delete(mint(OPTIONS), true), 'delete')
    t.ok(performance.now() - beganAt < 4 * HASTY.timeoutMs + 10_000)
    login.trouble = undefined
    await t.resolves(store.check())
  })
}

t.test('calls at once log in once', async (t) => {
  const { store } = await begin(t)
  const before = login.asked
  await Promise.all(Array.from({ length: 20 }, () => store.check()))
  t.equal(login.asked - before, 1)
})

t.test(
  'a token is renewed before it ends, and a renewal that fails harms no call and no process',
  async (t) => {
    const unhandled: unknown[] = []
    const note = (reason: unknown): void => void unhandled.push(reason)
    process.on('unhandledRejection', note)
    t.teardown(() => process.off('unhandledRejection', note))
    const { store } = await begin(t)
    login.tokenSeconds = 60
    await store.check()
    const before = login.asked
    login.trouble = { status: 500, body: '{}' }
    await store.check()
    await store.check()
    await new Promise((resolve) => setTimeout(resolve, 50))
    t.equal(login.asked - before, 1, 'it is tried, and not at each call')
    t.same(unhandled, [])
  },
)

t.test('a token that has ended is fetched anew, and where that fails the call does', async (t) => {
  const { store } = await begin(t)
  login.tokenSeconds = 20
  await store.check()
  const before = login.asked
  await store.check()
  t.equal(login.asked - before, 1)
  login.trouble = { status: 500, body: '{}' }
  await failsAs(t, 'unavailable', () => store.check())
})

t.test('a redirect is rejected, and where it leads hears nothing', async (t) => {
  const { server, store } = await begin(t)
  const [url, heard] = await listener(t)
  const ref = mint(OPTIONS)
  await store.check()
  for (const status of [300, 301, 302, 303, 307, 308]) {
    server.answer = () => ({ status, body: {}, headers: { location: `${url}/secrets/x` } })
    await failsAs(t, 'rejected', () => store.get(ref), `get, ${status}`)
    await failsAs(t, 'rejected', () => store.put(ref, MARKED), `put, ${status}`)
  }
  server.answer = ({ url: asked }) =>
    asked!.startsWith('/elsewhere')
      ? undefined
      : { status: 307, body: {}, headers: { location: '/elsewhere' } }
  await failsAs(t, 'rejected', () => store.get(ref), 'also within the vault')
  t.notOk(server.seen.some(({ path }) => path === '/elsewhere'))
  t.equal(heard(), 0)
})

t.test(
  'a proxy in the environment hears nothing, nor does one that cannot be parsed stop the store',
  async (t) => {
    const [url, heard] = await listener(t)
    for (const proxy of [url, '10.0.0.1:3128']) {
      const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'all_proxy']
      for (const name of names) process.env[name] = proxy
      const { store } = await begin(t).finally(() =>
        names.forEach((name) => Reflect.deleteProperty(process.env, name)),
      )
      await store.put(mint(OPTIONS), MARKED)
      await store.check()
    }
    t.equal(heard(), 0)
  },
)

t.test('requests go to the vault only, and over http only on loopback', async (t) => {
  const [url, heard] = await listener(t)
  const transport = new AzureTransport(OPTIONS.timeoutMs, 'https://data.vault.azure.net')
  const request = { url, method: 'GET', headers: new Headers() } as never
  await failsAs(t, 'rejected', () => transport.sendRequest(request))
  t.equal(heard(), 0)
  for (const vault_url of [
    'http://data.vault.azure.net',
    'http://127.0.0.1.example.com',
    'http://169.254.169.254',
  ])
    await failsAs(t, 'rejected', () => azureKeyVault.open({ vault_url }, OPTIONS), vault_url)
})

t.test(
  'a vault whose certificate nobody trusts hears nothing, also where Node is told to trust all',
  async (t) => {
    let heard = 0
    const server = createHttpsServer(loopbackCertificate(), (_request, response) => {
      heard++
      response.end('{}')
    })
    const transport = new AzureTransport(OPTIONS.timeoutMs)
    t.teardown(() => transport.close())
    const url = `https://127.0.0.1:${await listen(t, server)}/secrets/marked`
    const request = { url, method: 'GET', headers: { toJSON: () => ({}) } } as never
    const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    t.teardown(() => {
      if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
      else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before
    })
    await failsAs(t, 'unavailable', () => transport.sendRequest(request))
    process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
    await failsAs(t, 'unavailable', () => transport.sendRequest(request))
    t.equal(heard, 0)
  },
)

t.test('a vault that is silent in the TLS handshake is unavailable, in time', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => undefined).resume())
  const store = await azureKeyVault.open({ vault_url: `https://127.0.0.1:${await listen(t, silent)}` }, HASTY)
  t.teardown(() => store.close())
  const beganAt = performance.now()
  for (const act of [() => store.get(mint(OPTIONS)), () => store.delete(mint(OPTIONS)), () => store.check()])
    await failsAs(t, 'unavailable', act)
  t.ok(performance.now() - beganAt < 3 * HASTY.timeoutMs + 10_000)
})

const TRIAL = `
  import { azureKeyVault } from ${JSON.stringify(join(import.meta.dirname, '../../providers/azure-key-vault.ts'))}
  const [vault_url, timeoutMs, value] = process.argv.slice(1)
  const store = await azureKeyVault.open({ vault_url }, { prefix: 'strongroom', timeoutMs: Number(timeoutMs) })
  const ref = 'strongroom/acme/' + crypto.randomUUID()
  const said = []
  for (const act of [() => store.put(ref, value), () => store.get(ref), () => store.delete(ref, true)]) {
    const beganAt = performance.now()
    said.push(await act().then(() => 'done', (error) => error.fault))
    if (performance.now() - beganAt > Number(timeoutMs) + 10_000) said.push('late')
  }
  await store.close()
  console.log(JSON.stringify(said))
`

t.test(
  'in a process without any login calls are unavailable, in time, and no command is tried',
  async (t) => {
    const server = await AzureKeyVaultServer.start()
    t.teardown(() => server.close())
    // No PATH: a command of a developer's login would be looked for there, and its failure be told. The metadata service of
    // a virtual machine, which is asked last, is silent here.
    const silent = createServer((socket) => socket.on('error', () => undefined).resume())
    const metadata = `http://127.0.0.1:${await listen(t, silent)}`
    const env = { AZURE_LOG_LEVEL: 'verbose', PATH: '/nowhere', AZURE_POD_IDENTITY_AUTHORITY_HOST: metadata }
    const { said, log } = await inAnotherProcess(server, 300, env)
    t.same(said, ['unavailable', 'unavailable', 'unavailable'])
    t.same(said, Array(3).fill(said[0]))
    t.match(said[0], /^(denied|unavailable)$/)
    t.notMatch(log, /AzureCli|PowerShell|DeveloperCli|VisualStudio/)
  },
)

t.test(
  'a process ends once the store is closed, and the fullest log of the SDK tells no secret',
  async (t) => {
    const server = await AzureKeyVaultServer.start()
    t.teardown(() => server.close())
    const env = {
      ...server.env,
      AZURE_LOG_LEVEL: 'verbose',
      DEBUG: '*',
      TYPESPEC_RUNTIME_LOG_LEVEL: 'verbose',
    }
    const { said, log } = await inAnotherProcess(server, 15_000, env)
    t.same(said, ['done', 'done', 'done'])
    t.match(log, /azure:keyvault-secrets:info/, 'it does log')
    t.notOk(log.includes('MARKED'), 'no value')
    const token = server.tokens.at(-1)!
    t.ok(token.length > 40 && !log.includes(token), 'no token')
    t.notOk(log.includes(server.env.IDENTITY_HEADER!), 'no login')
  },
)

async function inAnotherProcess(
  server: AzureKeyVaultServer,
  timeoutMs: number,
  env: Record<string, string>,
): Promise<{ said: string[]; log: string }> {
  const args = ['--input-type=module', '-e', TRIAL, server.url, String(timeoutMs), MARKED]
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, {
    env: { ...COMPILED, ...env },
    timeout: 60_000,
  })
  return { said: JSON.parse(stdout.trim().split('\n').at(-1)!) as string[], log: stdout + stderr }
}

async function begin(
  t: Test,
  options = OPTIONS,
): Promise<{ server: AzureKeyVaultServer; store: SecretStore & LinkReader }> {
  const server = await AzureKeyVaultServer.start()
  Object.assign(process.env, server.env)
  t.teardown(async () => {
    login.trouble = undefined
    login.tokenSeconds = 86_400
    await server.close()
  })
  const store = await azureKeyVault.open({ vault_url: server.url }, options)
  t.teardown(() => store.close())
  return { server, store }
}

/** A place that nothing should reach, and how many connections did. */
async function listener(t: Test): Promise<[url: string, heard: () => number]> {
  let heard = 0
  const server = createHttpServer((_request, response) => response.end('{}'))
  server.on('connection', () => (heard += 1))
  return [`http://127.0.0.1:${await listen(t, server)}`, () => heard]
}

async function listen(t: Test, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => new Promise((resolve) => server.close(resolve)))
  return (server.address() as AddressInfo).port
}
