import type { LedgerHome } from '../core/records.ts'
import type { Client } from './connections.ts'

// A restored dump is another database of another cluster, a template's copy another database of the same; only a physical
// copy keeps both names.
const HERE = `select s.system_identifier::text as system_identifier, d.oid::text as database_oid
  from pg_control_system() s, pg_database d where d.datname = current_database()`

/** The first external copy that is named says which database the ledger's external copies belong to. */
export async function settleHome(client: Client): Promise<void> {
  const text = `insert into ledger_home (system_identifier, database_oid)
    select * from (${HERE}) h where not exists (select from ledger_home) on conflict do nothing`
  await client.query({ name: 'settle home', text })
}

/** Whether this database is the one that the ledger's external copies belong to. */
export async function selectHome(client: Client): Promise<LedgerHome> {
  const { rows } = await client.query(
    `select case when l.held then 'held'
       when l.system_identifier = h.system_identifier and l.database_oid = h.database_oid then 'here'
       else 'elsewhere' end as home
     from ledger_home l, (${HERE}) h`,
  )
  return rows[0]?.home ?? 'here'
}

/** Nothing external is deleted from now on: said of a physical copy, which keeps the original's names. */
export async function holdHome(client: Client): Promise<void> {
  await settleHome(client)
  await client.query('update ledger_home set held = true')
}

/** The ledger's external copies belong to this database from now on. */
export async function adoptHome(client: Client): Promise<void> {
  await settleHome(client)
  await client.query(
    `update ledger_home l set held = false, system_identifier = h.system_identifier, database_oid = h.database_oid,
       settled_at = now() from (${HERE}) h`,
  )
}
