import { execFile, execFileSync, spawnSync } from 'node:child_process'
import dns from 'node:dns'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import { createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import { failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { startAwsServer } from './aws-secrets-manager-server.ts'
import { HASTY_MS, NO_LOGIN, openAt, PREFIX, startedStore, withEnvironment } from './aws-stores.ts'

const under = { prefix: PREFIX }
const NO_OPENSSL = spawnSync('openssl', ['version']).status !== 0 && 'there is no openssl'
const HOUSE = join(import.meta.dirname, '..', '..')

async function listening(t: Test, server: Server): Promise<number> {
  const sockets = new Set<{ destroy(): void }>()
  server.on('connection', (socket) => sockets.add(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    for (const socket of sockets) socket.destroy()
    await closed
  })
  return (server.address() as AddressInfo).port
}

/** A server to which nothing may come; it notes what does. */
async function decoy(t: Test): Promise<{ url: string; came: string[] }> {
  const came: string[] = []
  const note = (request: IncomingMessage, response?: ServerResponse) => {
    came.push(`${request.method} ${request.url}`)
    response?.writeHead(500).end()
  }
  const server = createServer(note)
  server.on('connect', (request, socket) => {
    note(request)
    socket.destroy()
  })
  return { url: `http://127.0.0.1:${await listening(t, server)}`, came }
}

function directory(t: Test): string {
  const made = mkdtempSync(join(tmpdir(), 'strongroom-aws-'))
  t.teardown(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** One that signs itself, kept in the directory as `crt`. */
function certificate(at: string): { key: Buffer; cert: Buffer } {
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
  const who = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  const args = ['req', '-x509', ...kind, ...who, '-keyout', 'key', '-out', 'crt']
  execFileSync('openssl', args, { cwd: at, stdio: 'ignore' })
  return { key: readFileSync(join(at, 'key')), cert: readFileSync(join(at, 'crt')) }
}

async function endsInTime(t: Test, act: () => Promise<unknown>): Promise<void> {
  const beganAt = performance.now()
  await failsAs(t, 'unavailable', act)
  const took = performance.now() - beganAt
  t.ok(took < HASTY_MS + 10_000, `it ends in time: ${Math.round(took)} ms`)
}

t.test('no redirect is followed', async (t) => {
  const { server, store } = await startedStore(t)
  const { url, came } = await decoy(t)
  for (const status of [301, 302, 303, 307, 308]) {
    server.answer = () => ({ status, headers: { location: `${url}/` }, body: '' })
    await failsAs(t, 'rejected', () => store.put(mint(under), MARKED), `${status}`)
    await failsAs(t, 'rejected', () => store.get(mint(under)), `${status}`)
  }
  t.same(came, [])
})

t.test('only the stores file says where values go', async (t) => {
  const { url, came } = await decoy(t)
  const config = join(directory(t), 'config')
  writeFileSync(config, `[default]\nendpoint_url = ${url}\n`)
  const server = await startAwsServer()
  t.teardown(() => server.close())
  const urls = { AWS_ENDPOINT_URL_SECRETS_MANAGER: url, AWS_ENDPOINT_URL: url, AWS_CONFIG_FILE: config }
  withEnvironment(t, { ...NO_LOGIN, ...server.env, ...urls })

  const ref = mint(under)
  const store = await openAt(t, server)
  await store.put(ref, '"kept"')
  t.same(server.kept(), [ref], 'an endpoint in the stores file is used')

  const asked: string[] = []
  const { lookup } = dns
  t.teardown(() => (dns.lookup = lookup))
  const unknown = (host: string, _: unknown, answer: (error: Error) => void) => {
    asked.push(host)
    process.nextTick(answer, Object.assign(new Error('unknown'), { code: 'ENOTFOUND' }))
  }
  dns.lookup = unknown as unknown as typeof lookup
  const { endpoint: _, ...settings } = server.settings
  const without = await openAt(t, { ...server, settings })
  await failsAs(t, 'unavailable', () => without.put(mint(under), MARKED))
  t.same(asked, ['secretsmanager.eu-west-1.amazonaws.com'], 'without one, AWS itself')
  t.same(came, [])
})

t.test('no proxy is used, nothing is printed, and the process ends', { skip: NO_OPENSSL }, async (t) => {
  const at = directory(t)
  const { url, came } = await decoy(t)
  const proxies = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY'].flatMap((name) => [name, name.toLowerCase()])
  for (const server of [await startAwsServer(), await startAwsServer(certificate(at))]) {
    t.teardown(() => server.close())
    const ref = mint(under)
    const script = `
      import { awsSecretsManager } from './providers/aws-secrets-manager.ts'
      const settings = ${JSON.stringify(server.settings)}
      const store = await awsSecretsManager.open(settings, { prefix: '${PREFIX}', timeoutMs: 5000 })
      await store.put('${ref}', process.env.VALUE)
      await store.put('${ref}', 'another').catch(() => {})
      if ((await store.get('${ref}')) !== process.env.VALUE) process.exit(1)
      await store.close()`
    const env = {
      ...NO_LOGIN,
      ...server.env,
      ...Object.fromEntries(proxies.map((name) => [name, url])),
      NODE_EXTRA_CA_CERTS: join(at, 'crt'),
      NODE_USE_ENV_PROXY: '1',
      DEBUG: '*',
      VALUE: MARKED,
    }
    const args = ['--input-type=module', '-e', script]
    const ran = await promisify(execFile)(process.execPath, args, { cwd: HOUSE, env, timeout: 20_000 })
    t.same([ran.stdout, ran.stderr], ['', ''])
    t.same(server.kept(), [ref], server.url)
  }
  t.same(came, [])
})

t.test('a server that accepts and says nothing, not even to TLS, is unavailable in time', async (t) => {
  const { server } = await startedStore(t)
  const port = await listening(t, createTcpServer())
  for (const scheme of ['http', 'https']) {
    const store = await openAt(t, server, { endpoint: `${scheme}://127.0.0.1:${port}` }, HASTY_MS)
    await endsInTime(t, () => store.put(mint(under), MARKED))
    await endsInTime(t, () => store.get(mint(under)))
  }
})

t.test('a certificate that nobody trusts: the server hears nothing', { skip: NO_OPENSSL }, async (t) => {
  const server = await startAwsServer(certificate(directory(t)))
  t.teardown(() => server.close())
  withEnvironment(t, { ...NO_LOGIN, ...server.env })
  const store = await openAt(t, server)
  await failsAs(t, 'unavailable', () => store.put(mint(under), MARKED))
  withEnvironment(t, { NODE_TLS_REJECT_UNAUTHORIZED: '0' })
  await failsAs(
    t,
    'unavailable',
    () => store.put(mint(under), MARKED),
    'also where Node is told to trust all',
  )
  t.same(server.seen, [])
})

t.test('a login that takes too long is unavailable in time', async (t) => {
  const { server } = await startedStore(t)
  const at = directory(t)
  writeFileSync(join(at, 'login'), '#!/bin/sh\nexec sleep 2\n', { mode: 0o700 })
  writeFileSync(join(at, 'config'), `[default]\ncredential_process = ${join(at, 'login')}\n`)
  withEnvironment(t, {
    AWS_ACCESS_KEY_ID: undefined,
    AWS_SECRET_ACCESS_KEY: undefined,
    AWS_CONFIG_FILE: join(at, 'config'),
  })
  const store = await openAt(t, server, {}, HASTY_MS)
  await endsInTime(t, () => store.get(mint(under)))
  t.same(server.seen, [])
})

t.test('a call that is under way when the store is closed ends, and as unavailable', async (t) => {
  const { server, store } = await startedStore(t)
  await server.suffer('hang')
  const calling = failsAs(t, 'unavailable', () => store.get(mint(under)))
  while (server.seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  await store.close()
  await calling
})
