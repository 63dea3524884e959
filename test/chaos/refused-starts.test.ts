import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TLSSocket } from 'node:tls'
import type { Test } from 'tap'
import t from 'tap'
import { FernetKey } from '../../src/core/fernet.ts'
import { freshGround } from '../ground.ts'
import { temporaryDirectory } from '../leftovers.ts'
import { loopbackCertificate } from '../providers/loopback-certificate.ts'
import { long } from '../repeat.ts'
import { launchService, onGround, refusedStart, startService } from './service-process.ts'

const ground = await freshGround(t)
const env = onGround(ground)
// The first start writes the key that the ledger then names.
await (await startService(t, env)).end('SIGTERM')
const otherKey = FernetKey.generate().text.reveal()

/** A start that ends with the code, and with one line for people that says why. */
async function refuses(t: Test, more: Record<string, string>, code: number, why: RegExp): Promise<void> {
  const ended = await refusedStart(t, { ...env, ...more })
  t.equal(ended.code, code)
  t.match(ended.err, why)
  t.equal(ended.err.split('\n').length, 2, ended.err)
  t.notMatch(ended.err, otherKey)
  t.notMatch(ended.err, new URL(ground.databaseUrl.reveal()).password)
}

/** Something that takes connections and never says a word. */
async function silentServer(t: Test): Promise<number> {
  const server = createServer(() => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

t.test('another key than the one that the ledger names is refused', async (t) => {
  await refuses(
    t,
    { STRONGROOM_KEYS: otherKey },
    78,
    /^strongroom: STRONGROOM_KEYS: .* lacks the key [0-9a-f]{32}/,
  )
})

t.test('no key is refused, and so is an empty one', async (t) => {
  for (const keys of ['', '# none'])
    await refuses(t, { STRONGROOM_KEYS: keys }, 78, /^strongroom: STRONGROOM_KEYS: /)
  await refuses(t, { STRONGROOM_KEYS: 'not a key' }, 78, /^strongroom: STRONGROOM_KEYS: .*not a Fernet key/)
})

t.test('a stores file that lacks a store in which the ledger has a copy or a link is refused', async (t) => {
  const file = join(temporaryDirectory(t), 'stores.json')
  await writeFile(file, '{"default":"local","stores":{}}')
  const insert = `insert into copies (id, credential_id, version, store, state, ref, locator)
    values (gen_random_uuid(), gen_random_uuid(), 1, $1, $2, $3, $4)`
  await ground.sql(insert, ['team-vault', 'dropped', 'strongroom/acme/gone', null])
  const lacks = /^strongroom: STRONGROOM_STORES_FILE: lacks the store team-vault, where the ledger has copies/
  await refuses(t, { STRONGROOM_STORES_FILE: file }, 78, lacks)
  await refuses(t, {}, 78, lacks)
  await ground.sql('delete from copies')
  await ground.sql(insert, ['team-vault', 'current', null, 'apps/acme/db'])
  await refuses(t, {}, 78, lacks)
  await ground.sql('delete from copies')
})

t.test('an older and a newer schema are refused', async (t) => {
  await ground.sql(`insert into strongroom_migrations (name, run_on) values ('0999_future', now())`)
  await refuses(
    t,
    {},
    78,
    /^strongroom: STRONGROOM_DATABASE_URL: .* newer than this version \(has 0999_future\)/,
  )
  await ground.sql(`delete from strongroom_migrations where name = '0999_future'`)
  const [latest] = await ground.sql('select name from strongroom_migrations order by name desc limit 1')
  await ground.sql('update strongroom_migrations set name = $2 where name = $1', [latest!.name, '0000_other'])
  const { code, err } = await refusedStart(t, env)
  t.equal(code, 78)
  t.match(err, new RegExp(`STRONGROOM_DATABASE_URL: .* older than this version \\(lacks ${latest!.name}\\)`))
  await ground.sql('update strongroom_migrations set name = $1 where name = $2', [latest!.name, '0000_other'])
})

t.test('in production a role that owns the tables is refused, and in development it is not', async (t) => {
  const owner = { STRONGROOM_DATABASE_URL: ground.ownerUrl.reveal() }
  const { code, err } = await refusedStart(t, { ...env, ...owner, STRONGROOM_MODE: 'production' })
  t.equal(code, 78)
  t.match(err, /STRONGROOM_DATABASE_URL: the service's role owns tables/)
  t.match(err, /STRONGROOM_DATABASE_URL: the service's role may change audit events/)
  await (await startService(t, { ...env, ...owner })).end('SIGTERM')
  await (await startService(t, { ...env, STRONGROOM_MODE: 'production' })).end('SIGTERM')
})

t.test('in production what leaves this machine in the clear is refused', async (t) => {
  const production = { STRONGROOM_MODE: 'production' }
  await refuses(
    t,
    { ...production, STRONGROOM_LISTEN: '0.0.0.0:0' },
    78,
    /^strongroom: STRONGROOM_LISTEN: .*TLS/,
  )
  const far = { STRONGROOM_DATABASE_URL: 'postgres://strongroom:x@db.example/strongroom?sslmode=require' }
  await refuses(t, { ...production, ...far }, 78, /^strongroom: STRONGROOM_DATABASE_URL: .*verify-full/)
})

t.test('a port that is taken is refused, by the name of its listener', async (t) => {
  const taken = `127.0.0.1:${await silentServer(t)}`
  await refuses(t, { STRONGROOM_LISTEN: taken }, 78, new RegExp(`^strongroom: STRONGROOM_LISTEN: .*${taken}`))
  const admin = { STRONGROOM_ADMIN_LISTEN: taken }
  await refuses(t, admin, 78, new RegExp(`^strongroom: STRONGROOM_ADMIN_LISTEN: .*${taken}`))
})

t.test('a database that is not there, or never says a word, is 69', async (t) => {
  const unreachable = /^strongroom: the database cannot be reached \(/
  const silent = await silentServer(t)
  // The silence takes its ten seconds.
  const places = ['127.0.0.1:1', '%2Fnowhere', ...(long ? [`127.0.0.1:${silent}`] : [])]
  for (const place of places) {
    const url = `postgres://strongroom:x@${place}/strongroom`
    await refuses(t, { STRONGROOM_DATABASE_URL: url }, 69, unreachable)
  }
})

t.test('a database whose TLS does not hold is told by what is wrong with it', async (t) => {
  const answering = async (letter: string): Promise<string> => {
    const server = createServer((socket) => {
      const speakTls = (): void => {
        socket.write(letter)
        if (letter === 'S')
          new TLSSocket(socket, { isServer: true, ...loopbackCertificate() }).on('error', () => {})
      }
      socket.on('error', () => {}).once('data', speakTls)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo
    return `postgres://strongroom:x@127.0.0.1:${port}/strongroom?sslmode=verify-full`
  }
  for (const [letter, why] of [
    ['N', 'it speaks no TLS'],
    ['S', 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  ] as const) {
    const refusal = new RegExp(`^strongroom: the database cannot be reached \\(${why}\\)`)
    await refuses(t, { STRONGROOM_DATABASE_URL: await answering(letter) }, 69, refusal)
  }
})

t.test('a database that has no room is out of reach, and its own words say why', async (t) => {
  const full = await freshGround(t)
  await full.sql(`alter database ${full.name} connection limit 0`)
  await refuses(
    t,
    { STRONGROOM_DATABASE_URL: full.databaseUrl.reveal() },
    69,
    new RegExp(
      `^strongroom: the database cannot be reached \\(too many connections for database "${full.name}"\\)`,
    ),
  )
})

t.test('a database that lets nobody in by this URL is a fault of the URL', async (t) => {
  const url = new URL(ground.databaseUrl.reveal())
  url.pathname = '/nothing-here'
  await refuses(
    t,
    { STRONGROOM_DATABASE_URL: url.href },
    78,
    /^strongroom: STRONGROOM_DATABASE_URL: there is no database/,
  )
  url.password = 'wrong'
  await refuses(
    t,
    { STRONGROOM_DATABASE_URL: url.href },
    78,
    /^strongroom: STRONGROOM_DATABASE_URL: .*its password/,
  )
})

t.test('a data directory that has a database and no key is refused, and named', async (t) => {
  const dataDirectory = join(temporaryDirectory(t), 'data')
  await mkdir(dataDirectory)
  await writeFile(join(dataDirectory, 'complete'), '')
  const { code, err } = await refusedStart(t, { STRONGROOM_DATA_DIR: dataDirectory })
  t.equal(code, 78)
  t.match(err, new RegExp(`^strongroom: STRONGROOM_DATA_DIR: ${dataDirectory} has a database but no key`))
})

t.test('a data directory whose keys are none is refused, and its file named but not repeated', async (t) => {
  const dataDirectory = join(temporaryDirectory(t), 'data')
  await mkdir(dataDirectory)
  await writeFile(join(dataDirectory, 'complete'), '')
  await writeFile(join(dataDirectory, 'database.json'), '{"socketDirectory":"/nowhere/socket"}')
  const why = new RegExp(`^strongroom: STRONGROOM_DATA_DIR: ${dataDirectory}/keys [^\\n]*\\n$`)
  for (const text of ['', '# none', 'hunter2', `${otherKey},hunter2`]) {
    await writeFile(join(dataDirectory, 'keys'), text)
    const { code, err } = await refusedStart(t, { STRONGROOM_DATA_DIR: dataDirectory })
    t.match({ code, err }, { code: 78, err: why })
    t.notOk(err.includes('hunter2') || err.includes(otherKey))
  }
  await rm(join(dataDirectory, 'keys'))
  await mkdir(join(dataDirectory, 'keys'))
  t.match(await refusedStart(t, { STRONGROOM_DATA_DIR: dataDirectory }), { code: 78, err: why })
})

t.test(
  'a data directory that cannot be one is refused by its setting, and nothing is waited for',
  async (t) => {
    const parent = temporaryDirectory(t)
    await writeFile(join(parent, 'file'), '')
    await symlink(join(parent, 'nowhere'), join(parent, 'dangling'))
    const places = ['file', 'file/data', 'dangling', 'dangling/data'].map((name) => join(parent, name))
    for (const place of [...places, '/proc/nope', '/proc/nope/data', `/tmp/${'x'.repeat(300)}`]) {
      const launched = launchService(t, { STRONGROOM_DATA_DIR: place })
      const patience = setTimeout(() => void launched.end('SIGKILL'), 10_000)
      t.equal((await launched.ended).code, 78, place)
      clearTimeout(patience)
      t.match(launched.err(), /^strongroom: STRONGROOM_DATA_DIR: [^\n]*\n$/)
    }
    t.strictSame((await readdir(parent)).toSorted(), ['dangling', 'file'])
  },
)

t.test('a data directory that cannot be one is told with the other faults', async (t) => {
  const { code, err } = await refusedStart(t, { STRONGROOM_DATA_DIR: '/dev/null', STRONGROOM_LISTEN: 'x' })
  t.equal(code, 78)
  t.match(err, /^strongroom: STRONGROOM_LISTEN: [^\n]*\nstrongroom: STRONGROOM_DATA_DIR: [^\n]*\n$/)
})

t.test('a directory that is not new is not taken over, and stays as it was', async (t) => {
  const dataDirectory = join(temporaryDirectory(t), 'data')
  await mkdir(dataDirectory)
  await chmod(dataDirectory, 0o755)
  await writeFile(join(dataDirectory, 'keys'), otherKey)
  const why = new RegExp(`^strongroom: STRONGROOM_DATA_DIR: ${dataDirectory} holds keys, [^\\n]*\\n$`)
  t.match(await refusedStart(t, { STRONGROOM_DATA_DIR: dataDirectory }), { code: 78, err: why })
  t.strictSame(await readdir(dataDirectory), ['keys'])
  t.equal(await readFile(join(dataDirectory, 'keys'), 'utf8'), otherKey)
  t.equal((await stat(dataDirectory)).mode & 0o777, 0o755)
})
