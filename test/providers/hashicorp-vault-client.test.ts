import { spawn } from 'node:child_process'
import { appendFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { COMPILED } from '../cli/run-strongroom.ts'
import { failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { certificates, NO_OPENSSL } from './hashicorp-vault-certificates.ts'
import { startVaultServer } from './hashicorp-vault-server.ts'
import { beginTrial, openStore } from './hashicorp-vault-trial.ts'

const PREFIX = { prefix: 'strongroom' }

/** A port that takes every connection, and notes what comes; `answer` is said to each at once. */
async function openPort(
  t: Test,
  answer?: (socket: Socket) => void,
): Promise<{ port: number; heard: string[] }> {
  const heard: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    heard.push('')
    socket.on('error', () => {}).on('data', (bytes) => heard.push(bytes.toString()))
    answer?.(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    sockets.forEach((socket) => socket.destroy())
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, heard }
}

/** Runs the store in a process with this environment. */
async function runElsewhere(
  settings: object,
  env: Record<string, string>,
): Promise<{ code: number | null; output: string }> {
  const script = join(import.meta.dirname, 'hashicorp-vault-process.ts')
  const child = spawn(process.execPath, [script, JSON.stringify(settings), MARKED], {
    env: { ...COMPILED, ...env },
    timeout: 20_000,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (output += String(bytes)))
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  return { code, output }
}

t.test('proxies, DEBUG and VAULT_… in the environment change nothing and learn nothing', async (t) => {
  const proxy = await openPort(t)
  const url = `http://127.0.0.1:${proxy.port}`
  const env = {
    ...{
      HTTP_PROXY: url,
      HTTPS_PROXY: url,
      ALL_PROXY: url,
      http_proxy: url,
      https_proxy: url,
      all_proxy: url,
    },
    ...{ NODE_USE_ENV_PROXY: '1', NO_PROXY: '', DEBUG: '*', NODE_DEBUG: '' },
    ...{ VAULT_ADDR: url, VAULT_TOKEN: 'hvs.other', VAULT_NAMESPACE: 'other', VAULT_PREFIX: '/other' },
  }
  for (const method of ['token', 'approle'] as const) {
    const { server } = await beginTrial(t, { method, times: { ttl: 3600 } })
    const { code, output } = await runElsewhere(server.settings, env)
    t.equal(output, 'outcomes well well well', 'and nothing else is printed')
    t.equal(code, 0, 'it ends by itself')
    t.ok(server.requests.length >= 5)
  }
  t.same(proxy.heard, [])
})

t.test('a redirect is followed nowhere', async (t) => {
  const elsewhere = await openPort(t)
  const { store, server } = await beginTrial(t)
  await store.check()
  for (const status of [301, 302, 303, 307, 308]) {
    const location = `http://127.0.0.1:${elsewhere.port}/v1/secret/data/x`
    server.forge = () => ({ status, headers: { location } })
    await failsAs(t, 'unavailable', () => store.get(mint(PREFIX)), `get at ${status}`)
    await failsAs(t, 'unavailable', () => store.put(mint(PREFIX), MARKED), `put at ${status}`)
  }
  t.same(elsewhere.heard, [])
})

t.test('no error shows the token, whatever the transport met', async (t) => {
  const { store, server } = await beginTrial(t, { method: 'approle' })
  await store.check()
  for (const forged of [{ status: 200, body: '{', cut: true }, { status: 403 }, { status: 200, body: '{' }]) {
    server.forge = () => forged
    await failsAs(t, forged.status === 403 ? 'denied' : 'unavailable', () => store.put(mint(PREFIX), MARKED))
  }
  await server.suffer('refuse-connections')
  await failsAs(t, 'unavailable', () => store.put(mint(PREFIX), MARKED))
  await store.close()
  await failsAs(t, 'unavailable', () => store.get(mint(PREFIX)), 'a get after close')
  await server.recover()
})

t.test('connections are kept, also with a CA of its own', { skip: NO_OPENSSL }, async (t) => {
  const { store, server } = await beginTrial(t, { tls: certificates(t) })
  const ref = mint(PREFIX)
  await store.put(ref, MARKED)
  for (let i = 0; i < 10; i++) await store.get(ref)
  t.ok(server.connections() <= 2, `${server.connections()} handshakes, one of them for the token's own time`)
})

t.test(
  'a server whose certificate nobody vouches for is unavailable, whatever the environment says',
  { skip: NO_OPENSSL },
  async (t) => {
    const { server } = await beginTrial(t, { tls: certificates(t) })
    const stranger = { ...server.settings, ca_file: certificates(t).ca_file }
    const { ca_file: _, ...bySystem } = server.settings
    const before = server.requests.length
    for (const settings of [stranger, bySystem]) {
      for (const env of [
        { VAULT_SKIP_VERIFY: 'true', NODE_TLS_REJECT_UNAUTHORIZED: '0' },
        { VAULT_SKIP_VERIFY: 'false' },
      ]) {
        const { output } = await runElsewhere(settings, env)
        t.match(output, /outcomes unavailable unavailable unavailable$/)
      }
    }
    t.equal(server.requests.length, before, 'and no request was sent')
    const { output } = await runElsewhere(server.settings, { VAULT_SKIP_VERIFY: 'false' })
    t.equal(output, 'outcomes well well well', 'by its own authority it is known')
  },
)

t.test('a CA file that holds no certificate opens no store', { skip: NO_OPENSSL }, async (t) => {
  const { home, ...tls } = certificates(t)
  const server = await startVaultServer({ tls })
  t.teardown(() => server.close())
  const empty = join(home, 'empty.pem')
  writeFileSync(empty, '')
  await failsAs(t, 'rejected', () => openStore({ ...server.settings, ca_file: empty }))
  appendFileSync(empty, 'MARKED')
  await failsAs(t, 'rejected', () => openStore({ ...server.settings, ca_file: empty }))
  await failsAs(t, 'rejected', () => openStore({ ...server.settings, ca_file: join(home, 'none') }))
})

t.test(
  'who is silent in the handshake, or drips the head of an answer, is unavailable in time',
  async (t) => {
    const silent = await openPort(t)
    const dripping = await openPort(t, (socket) => {
      const timer = setInterval(() => socket.write(' '), 20)
      socket.write('HTTP/1.1 200 OK\r\nx-long: ')
      socket.on('close', () => clearInterval(timer))
    })
    const { server } = await beginTrial(t)
    for (const address of [
      `https://127.0.0.1:${silent.port}`,
      `http://127.0.0.1:${silent.port}`,
      `http://127.0.0.1:${dripping.port}`,
    ]) {
      const store = await openStore({ ...server.settings, address }, 300)
      const acts = [() => store.get(mint(PREFIX)), () => store.put(mint(PREFIX), MARKED), () => store.check()]
      for (const act of acts) {
        const beganAt = performance.now()
        await failsAs(t, 'unavailable', act)
        t.ok(performance.now() - beganAt < 10_000, 'it ends in time')
      }
      await store.close()
    }
  },
)

t.test('nothing is asked with a verb that proxies do not know, and nothing is asked twice', async (t) => {
  const { store, server } = await beginTrial(t)
  const ref = mint(PREFIX)
  await store.put(ref, MARKED, { workspace: 'acme', credential: 'orders-db' })
  await store.get(ref)
  await store.delete(ref)
  t.same(
    server.requests.filter((request) => !request.includes('lookup-self')),
    [
      'GET /v1/sys/internal/ui/mounts/secret',
      `POST /v1/secret/data/${ref}`,
      `POST /v1/secret/metadata/${ref}`,
      `GET /v1/secret/data/${ref}`,
      `DELETE /v1/secret/metadata/${ref}`,
    ],
  )
  server.forge = () => ({ status: 503 })
  server.requests.length = 0
  await failsAs(t, 'unavailable', () => store.get(ref))
  t.equal(server.requests.length, 1, 'repeating is for the guard outside')
})
