import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, readFileSync, readdirSync, realpathSync } from 'node:fs'
import { renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { shutDown } from '../../src/postgres/embedded-cluster.ts'
import { findPostmaster } from '../../src/postgres/embedded-process.ts'
import { homeOf } from '../../src/postgres/embedded-place.ts'
import { removeEmbeddedServer, startEmbeddedServer } from '../../src/postgres/embedded-server.ts'
import { temporaryDirectory } from '../leftovers.ts'

const onlyLinux = process.platform === 'linux' ? false : '/proc is only on Linux'
const tree = realpathSync(join(import.meta.dirname, '..', '..'))
// For all that only needs a cluster that is whole, and leaves it stopped: making one is what takes the time.
const shared = temporaryDirectory(t)

t.test('a server that was started answers queries and lets nobody else in', async (t) => {
  const dataDirectory = shared
  const server = await startEmbeddedServer({ dataDirectory })
  t.equal(server.adopted, false)
  t.same(await query(server.superuserUrl, 'select 40 + 2 as n'), [{ n: 42 }])
  t.equal(statSync(server.socketDirectory).mode & 0o777, 0o700)
  t.equal(statSync(join(dataDirectory, 'database.json')).mode & 0o777, 0o600)
  t.equal(statSync(join(server.directory, 'log')).mode & 0o777, 0o600)
  t.same(await query(server.superuserUrl, 'show listen_addresses'), [{ listen_addresses: '' }])
  await t.rejects(query(server.url('postgres', 'guessed', 'postgres'), 'select 1'), { code: '28P01' })
  t.notMatch(readdirSync(server.directory).join(' '), /password|making/)
  const password = await server.passwordFor('strongroom_service')
  t.equal(await server.passwordFor('strongroom_service'), password)
  t.ok(password.length >= 32)
  await server.stop()
  await server.stop()
  t.equal(postmasterOf(dataDirectory), undefined)
})

t.test('the server has no TCP port and nothing of our environment', { skip: onlyLinux }, async (t) => {
  const dataDirectory = shared
  process.env['STRONGROOM_KEYS'] = 'marked-for-the-test'
  t.teardown(() => delete process.env['STRONGROOM_KEYS'])
  const server = await startEmbeddedServer({ dataDirectory })
  const pid = postmasterOf(dataDirectory)!
  // tap gives every process that a test spawns variables of its own.
  const given = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
  const environment = given.filter((one) => !/^(_TAPJS_|NODE_OPTIONS=)/.test(one)).join('\0')
  t.match(environment, 'LC_ALL=C')
  t.notMatch(environment, /STRONGROOM|marked|HOME=|NODE/)
  t.notMatch(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /password=|pwfile/)
  const inodes = readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`))
  const tcp = ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n'),
  )
  const sockets = inodes.flatMap((name) => /^socket:\[(\d+)\]$/.exec(name)?.[1] ?? [])
  t.ok(sockets.length > 0)
  t.same(
    tcp.filter((line) => sockets.includes(line.trim().split(/\s+/)[9] ?? '')),
    [],
  )
  t.equal(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[2], String(pid))
  await server.stop()
})

t.test('what was written before a stop is there after the next start', async (t) => {
  const dataDirectory = shared
  const first = await startEmbeddedServer({ dataDirectory })
  await query(first.superuserUrl, 'create table kept (n int)')
  await first.stop()
  const second = await startEmbeddedServer({ dataDirectory })
  t.equal(second.adopted, false)
  t.same(await query(second.superuserUrl, 'select count(*)::int as n from kept'), [{ n: 0 }])
  await second.stop()
})

t.test('the server of a killed Node is found again, and stopped by the one that found it', async (t) => {
  const dataDirectory = shared
  const child = startChild(dataDirectory)
  await once(child.stdout!, 'data')
  const pid = postmasterOf(dataDirectory)
  t.ok(pid)
  child.kill('SIGKILL')
  await once(child, 'exit')
  const server = await startEmbeddedServer({ dataDirectory })
  t.equal(server.adopted, true)
  t.equal(postmasterOf(dataDirectory), pid)
  t.same(await query(server.superuserUrl, 'select 1 as n'), [{ n: 1 }])
  await server.stop()
  t.equal(postmasterOf(dataDirectory), undefined)
})

t.test('a server that another living process uses is neither stopped nor removed', async (t) => {
  const dataDirectory = shared
  const child = startChild(dataDirectory)
  await once(child.stdout!, 'data')
  const server = await startEmbeddedServer({ dataDirectory })
  t.equal(server.adopted, true)
  await server.stop()
  t.ok(postmasterOf(dataDirectory))
  await t.rejects(removeEmbeddedServer(dataDirectory), { name: 'EmbeddedServerError', message: /in use/ })
  child.kill('SIGKILL')
  await once(child, 'exit')
  await (await startEmbeddedServer({ dataDirectory })).stop()
})

t.test('a stale postmaster.pid does not block a start, even when its number lives on', async (t) => {
  const dataDirectory = shared
  const first = await startEmbeddedServer({ dataDirectory })
  const home = homeOf(dataDirectory)
  const lines = readFileSync(join(home.cluster, 'postmaster.pid'), 'utf8').split('\n')
  await first.stop()
  // A stranger of the server's own user is what PostgreSQL itself would take for a living postmaster.
  const user = home.user === undefined ? {} : { uid: home.user.uid, gid: home.user.gid }
  const stranger = spawn('/bin/sleep', ['60'], { ...user, stdio: 'ignore' })
  t.teardown(() => stranger.kill('SIGKILL'))
  const stale = [String(stranger.pid), ...lines.slice(1)].join('\n')
  writeFileSync(join(home.cluster, 'postmaster.pid'), stale, { mode: 0o600 })
  if (home.user !== undefined) chownSync(join(home.cluster, 'postmaster.pid'), home.user.uid, home.user.gid)
  const second = await startEmbeddedServer({ dataDirectory })
  t.equal(second.adopted, false)
  await second.stop()
  t.equal(stranger.exitCode ?? stranger.signalCode, null)
})

t.test('a crashed server is started again with its data', async (t) => {
  const dataDirectory = shared
  const first = await startEmbeddedServer({ dataDirectory })
  await query(first.superuserUrl, 'create table crashed (n int)')
  process.kill(postmasterOf(dataDirectory)!, 'SIGKILL')
  const second = await startEmbeddedServer({ dataDirectory })
  t.equal(second.adopted, false)
  t.same(await query(second.superuserUrl, 'select count(*)::int as n from crashed'), [{ n: 0 }])
  await second.stop()
})

t.test(
  'a cluster whose making was killed is made anew, and a whole one that vanished is reported',
  async (t) => {
    const dataDirectory = temporaryDirectory(t)
    const home = homeOf(dataDirectory)
    const names = () => (existsSync(home.directory) ? readdirSync(home.directory) : [])
    const making = () => names().some((name) => name.startsWith('making-'))
    const child = startChild(dataDirectory)
    while (!making()) await sleep(5)
    await sleep(100)
    child.kill('SIGKILL')
    await once(child, 'exit')
    t.ok(making())
    const server = await startEmbeddedServer({ dataDirectory })
    t.equal(server.adopted, false)
    t.notOk(making())
    await server.stop()
    renameSync(home.cluster, `${home.cluster}.elsewhere`)
    await t.rejects(startEmbeddedServer({ dataDirectory }), { name: 'EmbeddedServerError', message: /moved/ })
  },
)

t.test('a cluster whose database.json is gone is set aside, not used and not deleted', async (t) => {
  const dataDirectory = temporaryDirectory(t)
  await startEmbeddedServer({ dataDirectory })
  rmSync(join(dataDirectory, 'database.json'))
  const said: string[] = []
  const server = await startEmbeddedServer({ dataDirectory, log: (line) => said.push(line) })
  t.equal(server.adopted, false)
  t.match(said, [/set aside/])
  t.ok(existsSync(join(server.directory, 'cluster.orphan', 'PG_VERSION')))
})

t.test('a database.json that is none is refused, and the database stays where it is', async (t) => {
  const dataDirectory = shared
  const { cluster, directory } = homeOf(dataDirectory)
  const path = join(dataDirectory, 'database.json')
  const kept = readFileSync(path, 'utf8')
  for (const text of ['{}', 'null', '[]', '7', '{"complete":false}', '{']) {
    writeFileSync(path, text, { mode: 0o600 })
    await t.rejects(startEmbeddedServer({ dataDirectory }), { name: 'EmbeddedServerError', message: path })
    t.ok(existsSync(join(cluster, 'PG_VERSION')))
    t.notOk(existsSync(join(directory, 'cluster.orphan')))
  }
  writeFileSync(path, kept, { mode: 0o600 })
  await (await startEmbeddedServer({ dataDirectory })).stop()
})

t.test('a server that refuses its password is not left behind', async (t) => {
  const dataDirectory = shared
  const path = join(dataDirectory, 'database.json')
  const kept = readFileSync(path, 'utf8')
  t.teardown(() => writeFileSync(path, kept, { mode: 0o600 }))
  const place = JSON.parse(kept)
  await shutDown(homeOf(dataDirectory))
  writeFileSync(path, JSON.stringify({ ...place, passwords: { postgres: 'guessed' } }), { mode: 0o600 })
  await t.rejects(startEmbeddedServer({ dataDirectory }), { message: /refuses its password/ })
  t.equal(postmasterOf(dataDirectory), undefined)
})

t.test('two starts at once make one server, which the last of them stops', async (t) => {
  const dataDirectory = temporaryDirectory(t)
  // A lock whose holder has ended must not keep them waiting.
  writeFileSync(join(dataDirectory, 'database.lock'), JSON.stringify({ pid: 999_999_999, startedAt: '1' }))
  const child = startChild(dataDirectory)
  const said = once(child.stdout!, 'data')
  const [here, there] = await Promise.all([startEmbeddedServer({ dataDirectory }), said])
  t.equal(String(there).trim() === 'adopted', !here.adopted)
  t.same(await query(here.superuserUrl, 'select 1 as n'), [{ n: 1 }])
  child.stdin!.end()
  await once(child, 'exit')
  t.same(await query(here.superuserUrl, 'select 1 as n'), [{ n: 1 }])
  await here.stop()
  t.equal(postmasterOf(dataDirectory), undefined)
  t.same(
    readdirSync(dataDirectory).filter((name) => name.startsWith('database.lock')),
    [],
  )
})

t.test('no value of a failing statement comes into the log', async (t) => {
  const dataDirectory = shared
  const server = await startEmbeddedServer({ dataDirectory })
  await query(server.superuserUrl, 'create table once (value text primary key)')
  await query(server.superuserUrl, 'insert into once values ($1)', ['marked-value'])
  await t.rejects(query(server.superuserUrl, 'insert into once values ($1)', ['marked-value']), {
    code: '23505',
  })
  await t.rejects(query(server.superuserUrl, 'select $1::uuid', ['marked-value']), { code: '22P02' })
  await t.rejects(query(server.superuserUrl, "select 'marked-value'::int"), { code: '22P02' })
  await server.stop()
  const log = readFileSync(join(server.directory, 'log'), 'utf8')
  t.match(log, 'ready to accept connections')
  t.notMatch(log, 'marked-value')
})

t.test('removing leaves nothing but the data directory', async (t) => {
  const dataDirectory = temporaryDirectory(t)
  const server = await startEmbeddedServer({ dataDirectory })
  await removeEmbeddedServer(dataDirectory)
  t.equal(postmasterOf(dataDirectory), undefined)
  t.equal(existsSync(server.directory), false)
  t.equal(existsSync(server.socketDirectory), false)
  t.same(readdirSync(dataDirectory), [])
  await removeEmbeddedServer(dataDirectory)
})

const holdingScript = `
  import { startEmbeddedServer } from './src/postgres/embedded-server.ts'
  const server = await startEmbeddedServer({ dataDirectory: process.argv[1] })
  console.log(server.adopted ? 'adopted' : 'started')
  process.stdin.on('end', () => server.stop()).resume()
`

/** A Node that starts the server, says so in one line, and stops it when its standard input ends. */
function startChild(dataDirectory: string): ChildProcess {
  return spawn(process.execPath, ['--input-type=module', '-e', holdingScript, dataDirectory], {
    cwd: tree,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
}

function postmasterOf(dataDirectory: string): number | undefined {
  const home = homeOf(dataDirectory)
  return findPostmaster(home.cluster, home.user?.uid ?? process.getuid!())
}

async function query(url: string, text: string, values: unknown[] = []): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}

function linkOf(path: string): string {
  return spawnSync('/bin/readlink', [path], { encoding: 'utf8' }).stdout.trim()
}
