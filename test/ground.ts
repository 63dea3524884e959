import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import pg from 'pg'
import type { Test } from 'tap'
import { FernetKey } from '../src/core/fernet.ts'
import { Secret } from '../src/core/secret.ts'
import type { EmbeddedServer } from '../src/postgres/embedded-server.ts'
import { startEmbeddedServer } from '../src/postgres/embedded-server.ts'
import { knownMigrations, MIGRATIONS_DIRECTORY } from '../src/postgres/start-checks.ts'
import { upgradeDatabase } from '../src/postgres/upgrade.ts'
import { testDataDirectory } from './leftovers.ts'

/** A database of a test's own, on the one PostgreSQL that all test files share. */
export interface TestGround {
  name: string
  /** The service's role. */
  databaseUrl: Secret
  ownerUrl: Secret
  keys: Secret[]
  /** As superuser, in this database. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- a test knows what it selects
  sql(text: string, values?: unknown[]): Promise<Record<string, any>[]>
}

const OWNER = 'strongroom_owner'
const SERVICE = 'strongroom'
/** Last week's, this week's, and two to come. */
const PARTITIONS_KEPT = 4

let started: Promise<EmbeddedServer> | undefined
let template: Promise<string> | undefined

async function server(): Promise<EmbeddedServer> {
  started ??= (async () => {
    await mkdir(testDataDirectory(), { recursive: true, mode: 0o700 })
    return startEmbeddedServer({ dataDirectory: testDataDirectory() })
  })()
  return started
}

/**
 * Makes a database from the template that has the schema. It goes with the server, at the end: to drop one, PostgreSQL
 * first writes out all the others, for minutes where the disk is slow.
 */
export async function freshGround(t: Test): Promise<TestGround> {
  const embedded = await server()
  return groundFrom(t, embedded, await (template ??= makeTemplate(embedded)), [FernetKey.generate().text])
}

/** Makes a copy of a test's database on the same server, under the same keys. Whoever is connected to it loses his connection. */
export async function copiedGround(t: Test, { name, keys }: TestGround): Promise<TestGround> {
  const embedded = await server()
  await asSuperuser(embedded, (client) =>
    client.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name]),
  )
  return groundFrom(t, embedded, name, keys)
}

async function groundFrom(
  t: Test,
  embedded: EmbeddedServer,
  template: string,
  keys: Secret[],
): Promise<TestGround> {
  const name = `test_${createHash('sha256').update(`${t.fullname}${process.pid}${Math.random()}`).digest('hex').slice(0, 16)}`
  await asSuperuser(embedded, (client) =>
    client.query(`create database ${name} template ${template} owner ${OWNER}`),
  )
  const clients = new pg.Pool({ connectionString: superuserUrlFor(embedded, name), max: 2 })
  clients.on('error', () => {})
  t.teardown(() => clients.end())
  return {
    name,
    databaseUrl: new Secret(embedded.url(SERVICE, await embedded.passwordFor(SERVICE), name)),
    ownerUrl: new Secret(embedded.url(OWNER, await embedded.passwordFor(OWNER), name)),
    keys,
    sql: async (text, values) => (await clients.query(text, values)).rows,
  }
}

function superuserUrlFor(embedded: EmbeddedServer, database: string): string {
  const url = new URL(embedded.superuserUrl)
  url.pathname = `/${database}`
  return url.href
}

async function asSuperuser<T>(embedded: EmbeddedServer, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: embedded.superuserUrl })
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

/** A template for each state of what makes the schema, made by the first test that needs it. */
async function makeTemplate(embedded: EmbeddedServer): Promise<string> {
  // Whatever makes a schema counts: a test must not go by what an older text has made.
  const makers = ['upgrade.ts', 'partitions.ts'].map(
    (name) => new URL(`../src/postgres/${name}`, import.meta.url),
  )
  const migrations = knownMigrations().map((name) => new URL(`${name}.sql`, MIGRATIONS_DIRECTORY))
  const texts = [...migrations, ...makers, new URL(import.meta.url)].map((file) => readFileSync(file))
  const name = `template_${createHash('sha256').update(Buffer.concat(texts)).digest('hex').slice(0, 16)}`
  await asSuperuser(embedded, async (client) => {
    await client.query('select pg_advisory_lock(1)')
    const known = await client.query('select datistemplate from pg_database where datname = $1', [name])
    if (known.rows[0]?.datistemplate) return
    if (known.rowCount) await client.query(`drop database ${name} with (force)`)
    for (const role of [OWNER, SERVICE]) {
      const { rowCount } = await client.query('select from pg_roles where rolname = $1', [role])
      const password = pg.escapeLiteral(await embedded.passwordFor(role))
      if (!rowCount) await client.query(`create role ${role} login password ${password}`)
    }
    await client.query(`create database ${name} owner ${OWNER}`)
    const url = async (role: string) => new Secret(embedded.url(role, await embedded.passwordFor(role), name))
    await upgradeDatabase(await url(OWNER), await url(SERVICE))
    await dropFarPartitions(superuserUrlFor(embedded, name))
    await client.query(`alter database ${name} is_template true`)
  })
  return name
}

// Every test copies the template, and a year of partitions is nine tenths of it. A year is what the tests of upgrades have.
async function dropFarPartitions(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const { rows } = await client.query(
      `select relname from (
         select c.relname, row_number() over (partition by p.relname order by c.relname) as place
         from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
         where p.relname in ('leases', 'audit_events') and p.relkind = 'p' and c.relkind = 'r' and c.relname not like '%default'
       ) partitions where place > ${PARTITIONS_KEPT}`,
    )
    for (const { relname } of rows) await client.query(`drop table ${relname}`)
  } finally {
    await client.end()
  }
}

process.once('beforeExit', () => {
  // Between two files of tap's nobody may use it for a moment, and to stop it takes long, with all the databases that are
  // left in it; cut off in that, it starts for half a minute. There `test/after.ts` stops it.
  if (process.env['TAP'] === '1') return
  const running = started
  started = undefined
  if (running) void running.then((embedded) => embedded.stop())
})
