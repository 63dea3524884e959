import { SealingKeyChanged } from '../core/ledger.ts'
import type { Carried, Claim, Claiming, Relocation } from '../core/relocation.ts'
import { RelocationEnded, routeOf } from '../core/relocation.ts'
import { NIL_UUID } from '../core/names.ts'
import type { Client } from './connections.ts'
import { copyOf, OUTSIDE } from './copies-sql.ts'
import { settleHome } from './ledger-home-sql.ts'
import { ON_ROUTE } from './relocations-sql.ts'

const JOINED = `copies k join credentials c on c.id = k.credential_id join workspaces w on w.id = c.workspace_id
  left join store_migration_members m on m.credential_id = c.id`

// With `having`, so that it is looked up for each copy, by the index of the version: of another `not exists` the planner makes
// a join, and where statistics are missing or old that goes, for each copy, through all that the run ever wrote.
const none = (table: string, of: string, condition: string): string =>
  `not exists (select from ${table} t where t.credential_id = ${of}.credential_id and t.version = ${of}.version
    having bool_or(${condition}))`

// Moving over: what lies where the route begins. Moving back the long way: what its credentials have got at the target
// since, for which there is no source to point back at.
const NOT_STAYING = none('(select * from store_migration_stays where migration_id = $3)', 'k', 'true')
const TO_MOVE = {
  over: `k.locator is null and coalesce(m.migration_id = $3, true) and ${NOT_STAYING}`,
  back: `k.locator is null and m.migration_id = $3 and ${NOT_STAYING}
    and ${none('copies', 'k', "t.state = 'source' and t.migration_id = $3")}`,
}

/** No pending copy is the claim of somebody who may still be at work. */
const notClaimed = (of: string, migrationId: string, seconds: string): string => {
  const young = `t.named_at > now() - make_interval(secs => ${seconds})`
  return none('copies', of, `t.state = 'pending' and t.migration_id = ${migrationId} and ${young}`)
}

const routeValues = (relocation: Relocation): unknown[] => [
  routeOf(relocation).from,
  relocation.heading === 'back' ? null : (relocation.workspaces ?? null),
  relocation.id,
]

const readable = (state: string): string =>
  `(select id from copies where store = $1 and state = '${state}' and id > $6 order by id)`

const COPY = `select k.id, k.credential_id as "credentialId", k.version, k.store, k.key_id as "keyId", k.token as sealed,
    ${OUTSIDE} as outside, w.name as workspace, c.name as credential
  from ${JOINED} where ${ON_ROUTE} and ${notClaimed('k', '$3', '$4')}`
const HELD = 'for update of k skip locked for key share of c skip locked'

// The index has each state in this order, so nobody needs to sort all that is left to find the next few, if only sorting is
// forbidden where the statistics make it look cheap: each copy is looked at by itself until they are found.
const NEXT_OF_ALL = `select found.* from (
    select id from (${readable('current')} union all ${readable('kept')}) as each_state order by id
  ) as next
  cross join lateral (${COPY} and k.id = next.id and ${TO_MOVE.over} limit 1 ${HELD}) as found
  order by next.id limit $5`

// Where few of all copies are in question that would go past all others: here the statistics must say where to begin.
const nextOnRoute = (heading: 'over' | 'back'): string =>
  `${COPY} and k.id > $6 and ${TO_MOVE[heading]} order by k.id limit $5 ${HELD}`

/**
 * Takes the next copies that nobody else has taken lately, and names the copies that are to replace them. Their
 * credentials are held meanwhile: a purge that comes next sees what was named.
 */
export async function claimCopies(
  client: Client,
  relocation: Relocation,
  claiming: Claiming,
): Promise<Claim[]> {
  const { claimSeconds, limit, name, after = NIL_UUID } = claiming
  const heading = relocation.heading === 'back' ? 'back' : 'over'
  const { workspaces } = relocation
  const text = heading === 'over' && !workspaces ? NEXT_OF_ALL : nextOnRoute(heading)
  if (text === NEXT_OF_ALL) await client.query('set local enable_sort = off')
  const { rows } = await client.query(text, [...routeValues(relocation), claimSeconds, limit, after])
  if (rows.length === 0) return []
  const claims = rows.map((row): Claim => {
    const { workspace, credential } = row
    return { copy: copyOf(row), workspace, credential, pending: name(workspace) }
  })
  await settleHome(client)
  // Looked at again now that they are held: somebody may have claimed one and let go of it since the look began.
  const named = await client.query(
    `insert into copies (id, credential_id, version, store, ref, state, migration_id)
     select n.id, n.credential_id, n.version, $5, n.ref, 'pending', $6
     from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::text[]) as n (id, credential_id, version, ref)
     where ${notClaimed('n', '$6', '$7')}
     returning id`,
    [
      claims.map(({ pending }) => pending.id),
      claims.map(({ copy }) => copy.credentialId),
      claims.map(({ copy }) => copy.version),
      claims.map(({ pending }) => pending.ref ?? null),
      routeOf(relocation).to,
      relocation.id,
      claimSeconds,
    ],
  )
  const ids = new Set(named.rows.map(({ id }) => id))
  return claims.filter(({ pending }) => ids.has(pending.id))
}

/** The pending copies are no longer needed. Those that a purge or the sweep holds are dropped by it. */
export async function releaseClaims(client: Client, pendingIds: readonly string[]): Promise<void> {
  await client.query(
    `update copies set state = 'dropped', dropped_at = now(), for_good = true where id in (
       select id from copies where id = any ($1) and state = 'pending' order by id for update skip locked)`,
    [pendingIds],
  )
}

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

/** Whether any copy is still to move as it is heading, but for those that stay; claims of others count too. */
export async function anyToMove(client: Client, relocation: Relocation): Promise<boolean> {
  const { heading, id } = relocation
  if (heading !== 'over') {
    const sources = await client.query(
      `select from copies where migration_id = $1 and state = 'source' limit 1`,
      [id],
    )
    if (sources.rowCount || heading === 'closing') return sources.rowCount! > 0
  }
  const { rowCount } = await client.query(
    `select from ${JOINED} where ${ON_ROUTE} and ${TO_MOVE[heading]} limit 1`,
    routeValues(relocation),
  )
  return rowCount! > 0
}

/** Keeps and counts what stays on the route: links, and copies whose credential is in another store migration. */
export async function noteStanding(client: Client, relocation: Relocation): Promise<void> {
  await client.query(
    `with others as (
       insert into store_migration_stays (migration_id, credential_id, workspace, credential, version, code, failed)
       select $3, c.id, w.name, c.name, k.version,
         case when k.locator is null then 'other_migration' else 'link' end, false
       from ${JOINED} where ${ON_ROUTE} and (k.locator is not null or m.migration_id <> $3)
       on conflict do nothing returning credential_id
     )
     update store_migrations set skipped = skipped + (select count(*) from others) where id = $3`,
    routeValues(relocation),
  )
}
