import { mkdtempSync, rmSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { startEmbeddedServer } from '../src/postgres/embedded-server.ts'
import { setUpEmbedded } from '../src/postgres/embedded-setup.ts'
import { upgradeDatabase } from '../src/postgres/upgrade.ts'
import type { TestGround } from './ground.ts'
import { temporaryDirectory } from './leftovers.ts'

/**
 * Starts another cluster with the schema, under the keys of the first; it is stopped after the test. Its database has the
 * same number as the first one's, as it is with two clusters that were set up in the same way.
 */
export async function secondCluster(t: Test, first: TestGround): Promise<TestGround> {
  const server = await startEmbeddedServer({ dataDirectory: temporaryDirectory(t) })
  const { ownerUrl, serviceUrl } = await setUpEmbedded(server)
  const name = new URL(serviceUrl.reveal()).pathname.slice(1)
  const [{ oid }] = (await first.sql('select oid from pg_database where datname = current_database()')) as [
    { oid: number },
  ]
  const client = new pg.Client({ connectionString: server.superuserUrl })
  await client.connect()
  const owner = new URL(ownerUrl.reveal()).username
  await client.query(`drop database ${name}`)
  await client.query(`create database ${name} owner ${owner} oid ${oid}`)
  await client.end()
  await upgradeDatabase(ownerUrl, serviceUrl)
  const url = new URL(server.superuserUrl)
  url.pathname = `/${name}`
  const clients = new pg.Pool({ connectionString: url.href, max: 2 })
  clients.on('error', () => {})
  t.teardown(() => clients.end())
  return {
    name,
    databaseUrl: serviceUrl,
    ownerUrl,
    keys: first.keys,
    sql: async (text, values) => (await clients.query(text, values)).rows,
  }
}

const TABLES = `select relname as name from pg_class
  where relkind = 'r' and relnamespace = 'public'::regnamespace order by relname`

/** Takes all rows of all tables over by COPY, table by table, as somebody might who moves house. */
export async function copyTables(t: Test, from: TestGround, to: TestGround): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'strongroom-tables-'))
  // Both servers run as the same user, who may be another than ours.
  await chmod(directory, 0o777)
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const tables = (await from.sql(TABLES)).map(({ name }) => name as string)
  await to.sql(`truncate ${tables.join(', ')} cascade`)
  for (const table of tables) {
    const file = join(directory, table)
    await from.sql(`copy ${table} to '${file}'`)
    // One query string is one session: the order in which tables depend on each other is nobody's business here.
    await to.sql(
      `set session_replication_role = replica; copy ${table} from '${file}'; reset session_replication_role`,
    )
  }
}
