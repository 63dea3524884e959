import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import { kubernetes } from '../../providers/kubernetes.ts'
import type { StoreFault } from '../../src/core/secret-store.ts'
import { failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { eventually } from '../eventually.ts'
import { HASTY, openKubernetes, OPTIONS, setEnvironment } from './kubernetes-ground.ts'

const MARK = 'd41d8cd98f00b204'

/** A server on loopback that counts who comes, and is silent. */
async function listener(
  t: Test,
  server: Server = createTcpServer(),
): Promise<{ url: string; came: () => number }> {
  let came = 0
  server.on('connection', (socket) => {
    came++
    socket.on('error', () => {})
    t.teardown(() => socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return { url: `127.0.0.1:${(server.address() as AddressInfo).port}`, came: () => came }
}

/** A login plugin: says the token in its file, and appends a line to `runs`. */
function plugin(directory: string, script: string): { exec: object } {
  writeFileSync(join(directory, 'plugin.sh'), `echo run >> ${directory}/runs\n${script}`)
  return {
    exec: {
      apiVersion: 'client.authentication.k8s.io/v1',
      command: 'sh',
      args: [join(directory, 'plugin.sh')],
    },
  }
}

const runs = (directory: string): number =>
  readFileSync(join(directory, 'runs'), 'utf8').trim().split('\n').length

function lives(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

t.test(
  'a token file that was written anew is read when the old token is refused, within the call',
  async (t) => {
    const { server, store } = await openKubernetes(t)
    const tokenFile = join(t.testdir(), 'token')
    writeFileSync(tokenFile, `${server.token}\n`)
    server.configure({ user: { 'auth-provider': { name: 'tokenFile', config: { tokenFile } } } })
    await store.check()
    server.token = 'new'
    writeFileSync(tokenFile, 'new')
    const ref = mint(OPTIONS)
    await store.put(ref, MARKED)
    t.equal(await store.get(ref), MARKED)
  },
)

t.test('a token file is read again after a minute, before the old token is refused', async (t) => {
  const { server, store } = await openKubernetes(t)
  const tokenFile = join(t.testdir(), 'token')
  writeFileSync(tokenFile, server.token)
  server.configure({ user: { 'auth-provider': { name: 'tokenFile', config: { tokenFile } } } })
  await store.check()
  server.token = 'new'
  writeFileSync(tokenFile, 'new')
  const Now = Date
  class Later extends Now {
    constructor() {
      super(Now.now() + 61_000)
    }
  }
  t.intercept(globalThis, 'Date', { value: Later })
  await store.check()
  t.equal(server.asked.length, 2, 'nothing was refused')
})

t.test(
  'a token that the server does not know is denied, after one more look at the kubeconfig',
  async (t) => {
    const { server, store } = await openKubernetes(t)
    await store.check()
    server.token = `${MARK}.other`
    await failsAs(t, 'denied', () => store.put(mint(OPTIONS), MARKED))
    t.equal(server.asked.length, 3)
    await failsAs(t, 'denied', () => store.check())
    t.equal(server.asked.length, 4)
    server.configure()
    await store.check()
  },
)

t.test('the context of the settings says who asks', async (t) => {
  const { server, store } = await openKubernetes(t, { context: 'vault' })
  server.configure({ currentContext: 'stranger' })
  await store.check()
  const { store: stranger } = await openKubernetes(t, { context: 'stranger' })
  await failsAs(t, 'denied', () => stranger.check())
})

t.test('a kubeconfig that gives no safe way to the server is refused, and nothing is sent', async (t) => {
  const { server, store } = await openKubernetes(t)
  const { url, came } = await listener(t)
  const refusals: [string, Parameters<typeof server.configure>[0], StoreFault][] = [
    ['in the clear', { cluster: { server: `http://${url}` } }, 'rejected'],
    ['unverified', { cluster: { 'insecure-skip-tls-verify': true } }, 'rejected'],
    ['by a proxy', { cluster: { 'proxy-url': `http://${url}` } }, 'rejected'],
    ['by a command of old', { user: { 'auth-provider': { name: 'gcp', config: {} } } }, 'rejected'],
    ['no such context', { currentContext: `${MARK}` }, 'denied'],
    [
      'no such token file',
      { user: { 'auth-provider': { name: 'tokenFile', config: { tokenFile: `/${MARK}` } } } },
      'denied',
    ],
    [
      'no such certificate',
      { user: { 'client-certificate': `/${MARK}`, 'client-key': `/${MARK}` } },
      'denied',
    ],
  ]
  for (const [what, changes, fault] of refusals) {
    server.configure(changes)
    await failsAs(t, fault, () => store.put(mint(OPTIONS), MARKED), what)
  }
  for (const text of [`{ token: ${MARK}`, '', `clusters: [{ name: ${MARK} }]`, `\t${MARK}: [`]) {
    writeFileSync(server.env['KUBECONFIG']!, text)
    await failsAs(t, 'denied', () => store.put(mint(OPTIONS), MARKED), 'garbled')
  }
  t.equal(server.connections + came(), 0)
  server.configure()
  await store.check()
})

t.test('without a kubeconfig every call is denied, and nobody on port 8080 is asked', async (t) => {
  const { server, store } = await openKubernetes(t)
  setEnvironment(t, { KUBECONFIG: `/${MARK}` })
  await failsAs(t, 'denied', () => store.check())
  setEnvironment(t, { KUBECONFIG: undefined, HOME: t.testdir() })
  await failsAs(t, 'denied', () => store.put(mint(OPTIONS), MARKED))
  setEnvironment(t, server.env)
  await store.check()
})

t.test('a login plugin is run once for all who wait, and again when its token has ended', async (t) => {
  const { server, store } = await openKubernetes(t)
  const directory = t.testdir()
  const say = (token: string, end: string) =>
    writeFileSync(join(directory, 'answer'), JSON.stringify({ status: { token, expirationTimestamp: end } }))
  say(server.token, '2999-01-01T00:00:00Z')
  server.configure({ user: plugin(directory, `cat ${directory}/answer`) })
  await Promise.all(Array.from({ length: 8 }, () => store.check()))
  t.equal(runs(directory), 1)
  say('new', '2000-01-01T00:00:00Z')
  server.token = 'new'
  await store.check()
  t.equal(runs(directory), 2, 'the token was refused before its time')
  await store.check()
  t.equal(runs(directory), 3, 'its time was over')
})

t.test('a login plugin that hangs is killed in time and holds nobody up', async (t) => {
  const { server, store } = await openKubernetes(t, {}, { ...OPTIONS, timeoutMs: 1_000 })
  const directory = t.testdir()
  const pids = join(directory, 'pids')
  // What it starts lives on and holds its output open.
  const hung = plugin(directory, `sleep 25 & echo $$ $! >> ${pids}; wait`)
  const started = () => (existsSync(pids) ? readFileSync(pids, 'utf8').trim().split(/\s+/).map(Number) : [])
  t.teardown(() => started().forEach((pid) => lives(pid) && process.kill(pid)))
  const killedIn = async (act: () => Promise<void>, end = async () => {}) => {
    const before = started().length
    const beganAt = performance.now()
    const call = failsAs(t, 'unavailable', act)
    t.ok(await eventually(() => started().length > before))
    await end()
    await call
    t.ok(performance.now() - beganAt < 10_000)
    t.ok(await eventually(() => !lives(started()[before]!)), 'it is killed')
  }
  server.configure({ user: hung })
  await killedIn(() => store.put(mint(OPTIONS), MARKED))
  server.configure()
  await store.check()
  server.configure({ user: hung })
  const patient = await kubernetes.open({ namespace: server.namespace }, { ...OPTIONS, timeoutMs: 30_000 })
  await killedIn(
    () => patient.check(),
    () => patient.close(),
  )
  t.equal(runs(directory), 2)
})

t.test('a login plugin that fails, lies or is missing says nothing in the error', async (t) => {
  const { server, store } = await openKubernetes(t)
  const directory = t.testdir()
  const scripts = [`echo ${MARK} >&2; exit 1`, `echo '{"token":"${MARK}'`, `echo '{"kind":"${MARK}"}'`]
  for (const script of scripts) {
    server.configure({ user: plugin(directory, script) })
    await failsAs(t, 'unavailable', () => store.check(), 'a plugin')
  }
  server.configure({ user: { exec: { command: `/${MARK}` } } })
  // Node's timer for what could not be started is left to run out.
  const { store: other } = await openKubernetes(t, {}, HASTY)
  setEnvironment(t, server.env)
  await failsAs(t, 'unavailable', () => other.check(), 'no plugin')
  t.equal(server.connections, 0)
})

t.test('a server that is silent in the handshake is unavailable in time', async (t) => {
  const { server, store } = await openKubernetes(t, {}, HASTY)
  const { url, came } = await listener(t)
  server.configure({ cluster: { server: `https://${url}` } })
  const beganAt = performance.now()
  await failsAs(t, 'unavailable', () => store.put(mint(OPTIONS), MARKED))
  t.ok(performance.now() - beganAt < 10_000)
  t.equal(came(), 1)
})

t.test('a server that another authority vouches for gets nothing', async (t) => {
  const { server, store } = await openKubernetes(t)
  const { server: other } = await openKubernetes(t)
  setEnvironment(t, { ...server.env, NODE_TLS_REJECT_UNAUTHORIZED: '0' })
  server.configure({ cluster: { server: other.url } })
  await failsAs(t, 'unavailable', () => store.put(mint(OPTIONS), MARKED))
  t.same([...server.asked, ...other.asked], [])
})

t.test('a server that goes by another name than the kubeconfig says gets nothing', async (t) => {
  const { server, store } = await openKubernetes(t)
  server.configure({ cluster: { 'tls-server-name': 'elsewhere' } })
  await failsAs(t, 'unavailable', () => store.put(mint(OPTIONS), MARKED))
  t.same(server.asked, [])
})

t.test('a redirect is not followed', async (t) => {
  const { server, store } = await openKubernetes(t)
  const { server: other } = await openKubernetes(t)
  setEnvironment(t, server.env)
  for (const status of [301, 302, 307, 308]) {
    server.canned = {
      status,
      headers: { location: `${other.url}/api/v1/namespaces/connectors/secrets` },
      body: '',
    }
    await failsAs(t, 'rejected', () => store.put(mint(OPTIONS), MARKED))
    await failsAs(t, 'rejected', () => store.get(mint(OPTIONS)))
  }
  t.equal(other.connections, 0)
})

t.test('no proxy of the environment is asked, and the process ends when the store is closed', async (t) => {
  const { server } = await openKubernetes(t)
  const { url, came } = await listener(t, createServer())
  const provider = join(import.meta.dirname, '../../providers/kubernetes.ts')
  const script = `
    const { kubernetes } = await import(${JSON.stringify(provider)})
    const options = { prefix: 'strongroom', timeoutMs: 5000 }
    const store = await kubernetes.open({ namespace: 'connectors' }, options)
    await store.put(process.argv[1], process.argv[2])
    if ((await store.get(process.argv[1])) !== process.argv[2]) throw new Error('another value')
    await store.close()`
  const proxies = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'all_proxy']
  const env = {
    ...server.env,
    ...Object.fromEntries(proxies.map((name) => [name, `http://${url}`])),
    NODE_USE_ENV_PROXY: '1',
    NODE_DEBUG: 'undici,fetch,child_process,k8s,kubernetes',
    DEBUG: '*',
  }
  const ref = mint(OPTIONS)
  const run = promisify(execFile)
  const args = ['--input-type=module', '-e', script, ref, MARKED]
  const { stdout, stderr } = await run(process.execPath, args, { env, timeout: 20_000 })
  t.same(server.kept(), [ref])
  t.equal(came(), 0)
  t.notOk(`${stdout}${stderr}`.includes(MARK))
})
