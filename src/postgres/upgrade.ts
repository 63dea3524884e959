import { runner } from 'node-pg-migrate'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { VaultError } from '../core/errors.ts'
import type { Secret } from '../core/secret.ts'
import { StartRefused } from '../core/start-refused.ts'
import { closeClient, isCutOff, sqlState } from './connections.ts'
import { makePartitions } from './partitions.ts'
import { knownMigrations, loginRefusal, MIGRATIONS_DIRECTORY, upgradeFaults } from './start-checks.ts'

/**
 * Brings the schema up to date as its owner: roles, migrations, partitions a year ahead, and the service's rights.
 *
 * Safe when several start at once: whoever comes second waits for the advisory lock.
 *
 * @param serviceUrl Names the service's role, which is made where it is missing.
 * @param connectMsMax How long the database may take to let the owner in.
 * @returns The migrations that were applied.
 */
export async function upgradeDatabase(
  ownerUrl: Secret,
  serviceUrl: Secret,
  connectMsMax = CONNECT_MS_MAX,
): Promise<string[]> {
  const client = new pg.Client({
    connectionString: ownerUrl.reveal(),
    application_name: 'strongroom db-upgrade',
    connectionTimeoutMillis: connectMsMax,
  })
  // Whoever waits for an answer hears it too, but from the library with a stack in its text; without a listener the same error
  // would end the process.
  let broken: unknown
  client.on('error', (error) => (broken = error))
  try {
    await client.connect()
    // Held for the whole upgrade, partitions and rights included, longer than the library's own lock.
    await client.query('select pg_advisory_lock($1)', [UPGRADE_LOCK])
    const faults = await upgradeFaults(client)
    if (faults.length > 0) throw new StartRefused(faults.map((fault) => `${OWNER_URL}: ${fault}`))
    const applied = await runner({
      dbClient: client,
      dir: fileURLToPath(MIGRATIONS_DIRECTORY),
      direction: 'up',
      migrationsTable: 'strongroom_migrations',
      checkOrder: true,
      advisoryLockMode: 'wait',
      log: () => {},
    })
    await makePartitions(client)
    await grantToService(client, serviceUrl)
    const names = applied.map((migration) => migration.name)
    // A new ledger has nothing to be counted in.
    if (names.length > 0 && names[0] !== knownMigrations()[0]) await client.query('analyze')
    return names
  } catch (error) {
    throw upgradeFault(broken ?? error)
  } finally {
    await closeClient(client)
  }
}

/** What keeps the owner's role from it is a fault of its URL; all else stays what it is. */
function upgradeFault(error: unknown): unknown {
  const { message } = error as Error
  // The library puts the database's own error into a text, with its stack.
  const denied = sqlState(error) === DENIED || /permission denied|must be owner/.test(message)
  const refusal =
    loginRefusal(error) ?? (denied ? 'the role may not do this: it must own the schema' : undefined)
  if (refusal !== undefined) return new StartRefused([`${OWNER_URL}: ${refusal}`])
  return isCutOff(error) ? new VaultError('unavailable', message, { cause: error }) : error
}

const OWNER_URL = 'STRONGROOM_DATABASE_OWNER_URL'

const CONNECT_MS_MAX = 10_000
/** The SQLSTATE `insufficient_privilege`. */
const DENIED = '42501'

const UPGRADE_LOCK = 7_400_740_174

/** The service reads and writes rows; audit events it inserts and reads; it runs no DDL. */
async function grantToService(client: pg.Client, serviceUrl: Secret): Promise<void> {
  const service = new pg.Client({ connectionString: serviceUrl.reveal() })
  const user = service.user
  if (!user) throw new Error('STRONGROOM_DATABASE_URL names no user')
  const role = pg.escapeIdentifier(user)
  const { rows } = await client.query('select current_user as owner, current_schema() as schema')
  if (rows[0].owner === user) return
  const known = await client.query('select from pg_roles where rolname = $1', [user])
  if (!known.rowCount) {
    const password =
      typeof service.password === 'string' ? ` password ${pg.escapeLiteral(service.password)}` : ''
    await client.query(`create role ${role} login${password}`)
  }
  const schema = pg.escapeIdentifier(rows[0].schema)
  await client.query('begin')
  await client.query(`revoke create on schema ${schema} from public`)
  await client.query(`grant usage on schema ${schema} to ${role}`)
  await client.query(`revoke all on all tables in schema ${schema} from ${role}`)
  await client.query(`grant select, insert, update, delete on all tables in schema ${schema} to ${role}`)
  const events = await client.query(
    `select c.oid::regclass::text as name from pg_class c
     where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
       and (c.relname = 'audit_events' or c.relname like 'audit\\_events\\_%')`,
  )
  for (const { name } of events.rows)
    await client.query(`revoke update, delete, truncate on ${name} from ${role}`)
  await client.query(`revoke insert, update, delete, truncate on strongroom_migrations from ${role}`)
  await client.query(`revoke delete, truncate on audit_streams, policy from ${role}`)
  await client.query('commit')
}
