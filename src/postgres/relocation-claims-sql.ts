import { NIL_UUID } from '../core/names.ts'
import type { Claim, Claiming, Relocation } from '../core/relocation.ts'
import { routeOf } from '../core/relocation.ts'
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
