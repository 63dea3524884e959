import type { ClientBase } from 'pg'

const WEEK_MS = 7 * 24 * 3600_000
const WEEKS_AHEAD = 53

/** The smallest UUID v7 of a moment, given in milliseconds since 1970. */
export function uuidAt(ms: number): string {
  const hex = Math.max(0, Math.floor(ms)).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`
}

/**
 * Makes the partitions of leases and audit events, one a week, from last week to a year ahead.
 *
 * Rows that went to the default partition meanwhile move into their own.
 */
export async function makePartitions(client: ClientBase, now = Date.now()): Promise<void> {
  const first = Math.floor(now / WEEK_MS) - 1
  const { rows } = await client.query(
    `select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
     where p.relname in ('leases', 'audit_events') and p.relnamespace = current_schema()::regnamespace`,
  )
  const made = new Set(rows.map((row) => row.relname))
  for (const table of ['leases', 'audit_events']) {
    for (let week = first; week < first + WEEKS_AHEAD; week++) {
      const from = week * WEEK_MS
      const name = `${table}_${new Date(from).toISOString().slice(0, 10).replaceAll('-', '')}`
      if (!made.has(name)) await makePartition(client, table, name, uuidAt(from), uuidAt(from + WEEK_MS))
    }
  }
}

/**
 * Makes one partition. It is made in its place at once where no row of it went to the default partition, as on a new
 * ledger: that takes two thirds of the time.
 *
 * Table names cannot be parameters: these are made of our own constants and a date.
 */
async function makePartition(
  client: ClientBase,
  table: string,
  name: string,
  from: string,
  to: string,
): Promise<void> {
  const range = `for values from ('${from}') to ('${to}')`
  try {
    // Everyone names the table before its partitions: whoever holds the table alone meets nobody halfway, and no row
    // goes to the default partition while its own is being made. Who waits behind a long reader gives up instead.
    await client.query(
      `begin; set local lock_timeout = '1s'; lock table only ${table}, only ${table}_default in access exclusive mode`,
    )
    const { rowCount: strays } = await client.query(
      `select from ${table}_default where id >= $1 and id < $2 limit 1`,
      [from, to],
    )
    if (strays === 0) {
      await client.query(`create table ${name} partition of ${table} ${range}`)
    } else {
      await client.query(`create table ${name} (like ${table} including defaults including constraints)`)
      await client.query(
        `with moved as (delete from ${table}_default where id >= $1 and id < $2 returning *)
         insert into ${name} select * from moved`,
        [from, to],
      )
      await client.query(`alter table ${table} attach partition ${name} ${range}`)
    }
    await client.query('commit')
  } catch (error) {
    await client.query('rollback')
    throw error
  }
}
