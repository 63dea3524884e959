import { readdirSync } from 'node:fs'
import { StartRefused } from '../core/start-refused.ts'
import { sqlState, type Connections } from './connections.ts'

/** Where the SQL files lie, beside `src/`. */
export const MIGRATIONS_DIRECTORY = new URL('../../migrations/', import.meta.url)

/** The migrations that this version knows, in order. */
export function knownMigrations(): string[] {
  const files = readdirSync(MIGRATIONS_DIRECTORY).filter((name) => name.endsWith('.sql'))
  return files.map((name) => name.slice(0, -'.sql'.length)).sort()
}

/**
 * Holds the database against what the service relies on: durable commits, a schema that it knows, and in production a
 * role that owns no table and cannot change audit events.
 *
 * @param variable Where the database's URL comes from.
 * @throws StartRefused with every fault
 */
export async function checkDatabase(
  connections: Connections,
  production: boolean,
  variable = 'STRONGROOM_DATABASE_URL',
): Promise<void> {
  const checked = connections.run(performance.now() + CHECK_DEADLINE_MS, async (client) => {
    const { migrated, commit, faults } = await serverFaults(client)
    if (commit === 'off') faults.push('the database has synchronous_commit off: leases would be lost with it')
    const schema = migrated ? await schemaFaults(client) : [SCHEMA_MISSING]
    if (production && schema.length === 0) schema.push(...(await roleFaults(client)))
    return [...faults, ...schema]
  })
  const faults = await checked.catch((error) => [refusalOf(error)])
  if (faults.length > 0) throw new StartRefused(faults.map((fault) => `${variable}: ${fault}`))
}

/** What makes an upgrade useless, because no version, or not this one, would serve afterwards. */
export async function upgradeFaults(client: Asking): Promise<string[]> {
  const { migrated, faults } = await serverFaults(client)
  if (migrated) faults.push(...newerFaults(await appliedMigrations(client)))
  return faults
}

function refusalOf(error: unknown): string {
  const refusal = loginRefusal((error as Error).cause)
  if (refusal === undefined) throw error
  return refusal
}

/** Why the database lets nobody in by a URL; undefined where it does not say so. */
export function loginRefusal(error: unknown): string | undefined {
  const state = sqlState(error)
  if (state?.startsWith('28')) return 'the database refuses the role or its password'
  if (state === '3D000') return 'there is no database of this name'
  return undefined
}

const CHECK_DEADLINE_MS = 10_000
const SCHEMA_MISSING = 'the database has no schema of Strongroom: run strongroom db-upgrade'
const SETTINGS = `
select current_setting('server_version_num')::integer as version, current_setting('fsync') as fsync,
  current_setting('synchronous_commit') as commit, current_setting('server_encoding') as encoding,
  to_regclass('strongroom_migrations') is not null as migrated`

type Asking = { query(text: string): Promise<{ rows: Record<string, unknown>[] }> }

async function serverFaults(client: Asking) {
  const { rows } = await client.query(SETTINGS)
  const { version, fsync, encoding, commit, migrated } = rows[0]!
  const faults: string[] = []
  if (Number(version) < 15_00_00) faults.push('the database must be PostgreSQL 15 or newer')
  if (fsync !== 'on') faults.push('the database has fsync off: leases would be lost with it')
  if (encoding !== 'UTF8') faults.push(`the database's encoding is ${String(encoding)}, not UTF8`)
  return { migrated: migrated === true, commit, faults }
}

/** Whether the schema is the one that this version was written for. */
async function schemaFaults(client: Asking): Promise<string[]> {
  const applied = await appliedMigrations(client)
  const lacking = knownMigrations().filter((name) => !applied.includes(name))
  const faults = newerFaults(applied)
  if (lacking.length > 0)
    faults.unshift(
      `the schema is older than this version (lacks ${lacking.join(', ')}): run strongroom db-upgrade`,
    )
  return faults
}

function newerFaults(applied: readonly string[]): string[] {
  const known = knownMigrations()
  const newer = applied.filter((name) => !known.includes(name))
  if (newer.length === 0) return []
  return [`the schema is newer than this version (has ${newer.join(', ')}): run a newer Strongroom`]
}

async function appliedMigrations(client: Asking): Promise<string[]> {
  const { rows } = await client.query('select name from strongroom_migrations order by name')
  return rows.map((row) => String(row.name))
}

/**
 * Holds the ledger against the stores that are configured: it would not know what to do with copies elsewhere.
 *
 * @throws StartRefused naming each store that is missing
 */
export async function checkStoresKnown(connections: Connections, names: readonly string[]): Promise<void> {
  const { rows } = await connections.run(performance.now() + CHECK_DEADLINE_MS, (client) =>
    client.query<{ store: string }>(STORES_IN_USE),
  )
  const missing = rows.filter(({ store }) => !names.includes(store))
  if (missing.length === 0) return
  throw new StartRefused(
    missing.map(
      ({ store }) => `STRONGROOM_STORES_FILE: lacks the store ${store}, where the ledger has copies`,
    ),
  )
}

// From each store to the next by the index: there may be millions of copies in each.
const STORES_IN_USE = `
with recursive used as (
  select min(store) as store from copies where store <> 'local'
  union all
  select (select min(c.store) from copies c where c.store <> 'local' and c.store > u.store) from used u
  where u.store is not null
)
select store from used where store is not null`

async function roleFaults(client: Asking): Promise<string[]> {
  const { rows } = await client.query(`
select
  coalesce((select rolsuper from pg_roles where rolname = current_user), false) as superuser,
  exists (select from pg_tables t where t.schemaname = current_schema()
    and pg_has_role(current_user, t.tableowner, 'member')) as owner,
  has_table_privilege('audit_events', 'update') or has_table_privilege('audit_events', 'delete')
    or has_table_privilege('audit_events', 'truncate') as auditor,
  has_schema_privilege(current_schema(), 'create') as creator`)
  const { superuser, owner, auditor, creator } = rows[0]!
  const faults: string[] = []
  if (superuser) faults.push("the service's role is a superuser")
  if (owner)
    faults.push(
      "the service's role owns tables: it must be another role than STRONGROOM_DATABASE_OWNER_URL's",
    )
  if (auditor) faults.push("the service's role may change audit events")
  if (creator) faults.push("the service's role may create tables")
  return faults
}
