import { SealingKeyChanged } from '../core/ledger.ts'
import type { Carried, Relocation } from '../core/relocation.ts'
import { RelocationEnded, routeOf } from '../core/relocation.ts'
import type { Client } from './connections.ts'

const SWITCH = `
with m as (
  select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as m (old_id, new_id, key_id, token)
),
good as (
  select m.*, o.state, o.version, o.credential_id from m join copies o on o.id = m.old_id
  where o.state in ('current', 'kept') and o.store = $5 and o.credential_id = any ($6) for update of o
),
taken as (
  update copies n set state = good.state, version = good.version, key_id = good.key_id, token = good.token,
    migration_id = null
  from good where n.id = good.new_id and n.state = 'pending'
  returning n.id, good.old_id, good.credential_id, good.state
),
gave_way as (
  update copies o set state = case when $8 then 'source' else 'dropped' end,
    migration_id = case when $8 then $7::uuid end, dropped_at = case when $8 then null else now() end,
    key_id = case when $8 then o.key_id end, token = case when $8 then o.token end
  from taken where o.id = taken.old_id
),
pointed as (
  update credentials c set store = $9 from taken where c.id = taken.credential_id and taken.state = 'current'
),
joined as (
  insert into store_migration_members (credential_id, migration_id)
  select distinct credential_id, $7::uuid from taken on conflict (credential_id) do nothing
)
select id from taken`

/** The switch, in the transaction that the caller began. @returns the pending copies that took a place */
export async function switchCopies(
  client: Client,
  relocation: Relocation,
  carried: readonly Carried[],
): Promise<string[]> {
  const { from, to } = routeOf(relocation)
  // Each of them: while they were carried the sealing key may have become another, and even the same again.
  for (const keyId of new Set(carried.flatMap(({ sealed }) => sealed?.keyId ?? [])))
    await demandSealingKey(client, keyId)
  const oldIds = carried.map(({ copyId }) => copyId)
  const held = await holdCredentials(client, oldIds)
  const { rows } = await client.query({
    name: 'switch copies',
    text: SWITCH,
    values: [
      oldIds,
      carried.map(({ pendingId }) => pendingId),
      carried.map(({ sealed }) => sealed?.keyId ?? null),
      carried.map(({ sealed }) => sealed?.token ?? null),
      from,
      held,
      relocation.id,
      relocation.heading === 'over',
      to,
    ],
  })
  // What has no source to point back at was not counted as moved.
  await demandRunning(client, relocation, relocation.heading === 'over' ? rows.length : 0)
  return rows.map(({ id }) => id)
}

// Whoever writes, drops or purges copies holds their credential first; those that somebody holds are left for later.
async function holdCredentials(client: Client, copyIds: readonly string[]): Promise<string[]> {
  const { rows } = await client.query(
    `select c.id from credentials c where c.id in (select k.credential_id from copies k where k.id = any ($1))
     order by c.id for update skip locked`,
    [copyIds],
  )
  return rows.map(({ id }) => id)
}

async function demandSealingKey(client: Client, keyId: string): Promise<void> {
  const { rowCount } = await client.query('select from keys where id = $1 and sealing for share', [keyId])
  if (rowCount) return
  const { rows } = await client.query('select id from keys where sealing')
  throw new SealingKeyChanged(rows[0].id)
}

async function demandRunning(client: Client, { id, heading }: Relocation, moved: number): Promise<void> {
  const { rowCount } = await client.query(
    `update store_migrations set moved = greatest(moved + $3::bigint, 0), progressed_at = now()
     where id = $1 and state = 'running' and heading = $2`,
    [id, heading, moved],
  )
  if (!rowCount) throw new RelocationEnded()
}

// A version whose copy is no longer kept at the target has nothing standing in its place; it is kept again.
const POINT_BACK = `
with s as (
  select k.id, k.credential_id, k.version from copies k
  where k.id = any ($1) and k.state = 'source' and k.migration_id = $2 and k.credential_id = any ($3) for update
),
standing as (
  select n.id, n.state, n.credential_id, n.version from copies n join s using (credential_id, version)
  where n.state in ('current', 'kept') for update of n
),
dropped as (
  update copies n set state = 'dropped', dropped_at = now(), token = null, key_id = null
  from standing where n.id = standing.id
),
becoming as (
  select s.id, case when b.id is not null then b.state when v.version is not null then 'kept' end as state
  from s left join standing b using (credential_id, version) left join versions v using (credential_id, version)
),
back as (
  update copies k set state = coalesce(b.state, 'dropped'), migration_id = null,
    dropped_at = case when b.state is null then now() end,
    token = case when b.state is not null then k.token end, key_id = case when b.state is not null then k.key_id end
  from becoming b where k.id = b.id
  returning k.id
),
pointed as (
  update credentials c set store = $4 from standing b where c.id = b.credential_id and b.state = 'current'
)
select count(*) as pointed from back`

/**
 * Points the next copies back at their sources, and drops what stood in their place.
 *
 * @returns how many; 0 where others hold all that are left, undefined where none is left
 */
export async function pointBack(
  client: Client,
  relocation: Relocation,
  limit: number,
): Promise<number | undefined> {
  const sources = await client.query(
    `select id from copies where migration_id = $1 and state = 'source' order by id limit $2`,
    [relocation.id, limit],
  )
  if (sources.rows.length === 0) return undefined
  const ids = sources.rows.map(({ id }) => id)
  const held = await holdCredentials(client, ids)
  const { rows } = await client.query(POINT_BACK, [ids, relocation.id, held, relocation.from])
  await demandRunning(client, relocation, -rows[0].pointed)
  return rows[0].pointed
}

/**
 * Drops the next sources: their tokens are gone at once, what lies outside is the sweep's. A version that only its source
 * was left of goes with it.
 *
 * @returns how many
 */
export async function dropSources(client: Client, id: string, limit: number): Promise<number> {
  const { rows } = await client.query(
    `with gone as (
       update copies set state = 'dropped', dropped_at = now(), token = null, key_id = null where id in (
         select id from copies where migration_id = $1 and state = 'source' order by id limit $2
         for update skip locked)
       returning credential_id, version
     ),
     forgotten as (
       delete from versions v using gone where v.credential_id = gone.credential_id and v.version = gone.version
         and not exists (select from copies k where k.credential_id = v.credential_id and k.version = v.version
           and k.state in ('current', 'kept'))
     )
     select count(*) as dropped from gone`,
    [id, limit],
  )
  return rows[0].dropped
}
