import type { Credential, DroppedCopy } from '../core/records.ts'
import type { Client } from './connections.ts'
import { CREDENTIAL_COLUMNS, credentialOf } from './credentials-sql.ts'
import { uuidAt } from './partitions.ts'

/** The next credentials whose time has come, locked; those that another sweep holds are passed over. */
export async function selectDuePurges(
  client: Client,
  recoverySeconds: number,
  limit: number,
): Promise<Credential[]> {
  const { rows } = await client.query(
    `select ${CREDENTIAL_COLUMNS} from credentials c join workspaces w on w.id = c.workspace_id
     where c.purge_at <= now() or (c.state = 'deleted' and c.deleted_at <= now() - make_interval(secs => $1))
     order by c.id limit $2 for update of c skip locked`,
    [recoverySeconds, limit],
  )
  return rows.map(credentialOf)
}

/** Forgets what nothing outside keeps, longer ago than the grace: copies without their token, links, abandoned claims. */
export async function deleteCopies(client: Client, graceSeconds: number, limit: number): Promise<number> {
  const { rowCount } = await client.query(
    `delete from copies where id in (
       select id from copies where state in ('pending', 'replaced', 'dropped') and ref is null
         and coalesce(dropped_at, named_at) <= now() - make_interval(secs => $1)
       order by id limit $2 for update skip locked)`,
    [graceSeconds, limit],
  )
  return rowCount ?? 0
}

/** Of a copy: it is time to have its store delete it; `$1` is the grace in seconds. */
const DUE = `ref is not null and coalesce(attempted_at <= now() - make_interval(secs => $1), true) and (
    state = 'pending' and named_at <= now() - make_interval(secs => $1)
    or state = 'replaced' and dropped_at <= now() - make_interval(secs => $1)
    or state = 'dropped' and coalesce(deleted_at, dropped_at) <= now() - make_interval(secs => $1))`

/** What was never current is nothing that anybody would want back. */
const DROPPED = `id, store, ref, for_good or state = 'pending' as "forGood"`

/** Where something is due, and how much. */
export async function countDue(
  client: Client,
  graceSeconds: number,
): Promise<{ store: string; copies: number }[]> {
  const text = `select store, count(*) as copies from copies where ${DUE} group by store order by store`
  return (await client.query(text, [graceSeconds])).rows
}

/** Drops what is due and takes it for a delete: committed as dropped, it can no longer be made current. */
export async function takeDropped(
  client: Client,
  store: string,
  graceSeconds: number,
  limit: number,
): Promise<DroppedCopy[]> {
  const { rows } = await client.query(
    `update copies set state = 'dropped', dropped_at = coalesce(dropped_at, named_at), attempted_at = now(),
       for_good = for_good or state = 'pending'
     where id in (
       select id from copies where store = $2 and ${DUE} order by id limit $3 for update skip locked)
     returning ${DROPPED}`,
    [graceSeconds, store, limit],
  )
  return rows
}

/** What would be taken now, as far as it is to be shown, and how much that is. */
export async function selectDue(
  client: Client,
  graceSeconds: number,
  limit: number,
): Promise<{ copies: DroppedCopy[]; total: number }> {
  const counted = await client.query(`select count(*) as total from copies where ${DUE}`, [graceSeconds])
  const text = `select ${DROPPED} from copies where ${DUE} order by id limit $2`
  const { rows } = await client.query(text, [graceSeconds, limit])
  return { copies: rows, total: counted.rows[0].total }
}

/**
 * After the second delete a copy is forgotten: a put that was still on its way after the first is gone with it. But one
 * that was purged while its delete was on its way is to be destroyed for good, and that delete was not.
 */
export async function noteDeleted(
  client: Client,
  { id, forGood }: DroppedCopy,
  graceSeconds: number,
): Promise<void> {
  await client.query(
    `delete from copies where id = $1 and for_good = $2 and state = 'dropped'
       and deleted_at <= now() - make_interval(secs => $3)`,
    [id, forGood, graceSeconds],
  )
  await client.query(`update copies set deleted_at = now() where id = $1 and deleted_at is null`, [id])
}

/** A lease's id tells when it was issued: younger ones, which are nearly all, are not looked at. */
export async function deleteLeases(client: Client, retentionSeconds: number, limit: number): Promise<number> {
  const { rowCount } = await client.query(
    `delete from leases where id in (
       select id from leases where id < $1 and expires_at <= now() - make_interval(secs => $2)
       order by id limit $3 for update skip locked)`,
    [uuidAt(Date.now() - retentionSeconds * 1000), retentionSeconds, limit],
  )
  return rowCount ?? 0
}

/** Forgets revocations that no remembered lease can be older than, and tokens that ended a week ago. */
export async function deleteRevocations(client: Client, retentionSeconds: number): Promise<number> {
  // A lease lives an hour after its last renewal at most, and a revoked one is not renewed.
  const revocations = await client.query(
    'delete from revocations where revoked_at < now() - make_interval(secs => $1)',
    [retentionSeconds + 2 * 3600],
  )
  const tokens = await client.query(`delete from tokens where expires_at < now() - interval '7 days'`)
  return (revocations.rowCount ?? 0) + (tokens.rowCount ?? 0)
}

/** Writes down what was used lately, to the hour. Rows that somebody holds are left for the next time. */
export async function touch(
  client: Client,
  credentialIds: readonly string[],
  tokenIds: readonly string[],
): Promise<void> {
  await client.query(
    `update credentials set last_leased_at = now() where id in (
       select id from credentials where id = any ($1)
         and (last_leased_at is null or last_leased_at < now() - interval '1 hour')
       order by id for update skip locked)`,
    [credentialIds],
  )
  await client.query(
    `update tokens set last_used_at = now() where id in (
       select id from tokens where id = any ($1) and (last_used_at is null or last_used_at < now() - interval '1 hour')
       order by id for update skip locked)`,
    [tokenIds],
  )
}
