import type { Page, PageRequest } from '../core/calls.ts'
import type {
  Heading,
  NotedStay,
  PlannedGroup,
  Relocation,
  RelocationPlan,
  RelocationState,
  Route,
  StayCount,
} from '../core/relocation.ts'
import { isUuid, NIL_UUID } from '../core/names.ts'
import type { Client } from './connections.ts'
import { pageOf } from './pages.ts'
import { withoutNulls } from './rows.ts'

const stays = (failed: boolean): string => `array(
    select jsonb_build_object('workspace', s.workspace, 'credential', s.credential, 'version', s.version, 'code', s.code)
    from store_migration_stays s where s.migration_id = m.id and s.failed = ${failed}
    order by s.noted_at, s.credential_id, s.version limit 100
  )`

// A transaction that waited for the row may have begun before what it ends.
const RAN_SECONDS = 'greatest(extract(epoch from now() - running_since), 0)::double precision'

const secondsOf = (heading: 'over' | 'back'): string =>
  `m.${heading}_seconds + case when m.state = 'running' and m.heading = '${heading}' then ${RAN_SECONDS} else 0 end`

const COLUMNS = `m.id, m.state, m.heading, m.from_store as "from", m.to_store as "to", m.workspaces, m.total, m.moved,
  m.moved_over as "movedOver", m.moved_back as "movedBack", m.skipped, m.failed, m.throttled,
  ${secondsOf('over')} as "overSeconds", ${secondsOf('back')} as "backSeconds", m.started_at as "startedAt",
  m.started_by as "startedBy", m.finished_at as "finishedAt", ${stays(true)} as failures, ${stays(false)} as stays`

const UNIQUE_RUNNING = 'store_migrations_running'

// A Fernet token holds version, time, IV and HMAC beside whole blocks of 16 bytes; base64 adds two bytes at most. In the
// blocks are the line with the value's place (two ids, three slashes and the line break beside the workspace's name and the
// version's number), the value, and 1 to 16 bytes of padding. So how long a value is at least is known, and no more.
const BLOCKS = `(octet_length(k.token) * 3 / 4 - ${1 + 8 + 16 + 32}) / 16 * 16`
const LINE = `(${2 * 36 + 4} + octet_length(w.name) + length(k.version::text))`
const VALUE_BYTES = `${BLOCKS} - 8 - ${LINE}`
const VALUE_BYTES_MIN = `${BLOCKS} - 16 - ${LINE}`

/** Readable copies `k` of credentials `c` in workspaces `w` that lie where the route begins; `$1` and `$2` are its own. */
export const ON_ROUTE = `k.store = $1 and k.state in ('current', 'kept') and ($2::text[] is null or w.name = any ($2))`

/** Counts what the route would move, and what would stay. What an unfinished one of the same route has begun, that one moves. */
export async function planRelocation(
  client: Client,
  route: Route,
  bytesMax: number,
): Promise<RelocationPlan> {
  const { rows } = await client.query(
    `with own as (
       select id from store_migrations where from_store = $1 and to_store = $4
         and state in ('running', 'failed', 'cancelled') and (workspaces is null) = ($2::text[] is null)
         and coalesce(workspaces @> $2 and workspaces <@ $2, true) order by id desc limit 1
     )
     select workspace, connector, reason, count(*) as copies, sum(bytes)::bigint as bytes from (
       select w.name as workspace, c.connector,
         case when k.token is not null then greatest(${VALUE_BYTES}, 2) end as bytes,
         case when k.locator is not null then 'link'
           when m.migration_id <> coalesce((select id from own), '${NIL_UUID}') then 'other_migration'
           when ${VALUE_BYTES_MIN} > $3 then 'too_large' end as reason
       from copies k join credentials c on c.id = k.credential_id join workspaces w on w.id = c.workspace_id
         left join store_migration_members m on m.credential_id = c.id
       where ${ON_ROUTE}
     ) k group by workspace, connector, reason order by workspace, connector`,
    [route.from, route.workspaces ?? null, bytesMax, route.to],
  )
  const moving = rows.filter((row) => row.reason === null)
  const groups: PlannedGroup[] = moving.map(({ workspace, connector, copies, bytes }) => ({
    workspace,
    connector,
    copies,
    bytes: bytes ?? undefined,
  }))
  const reasons = Map.groupBy(
    rows.filter((row) => row.reason !== null),
    (row) => row.reason,
  )
  const known = groups.every(({ bytes }) => bytes !== undefined)
  return {
    ...route,
    copies: sumOf(groups.map(({ copies }) => copies)),
    bytes: known ? sumOf(groups.map(({ bytes }) => bytes!)) : undefined,
    groups,
    stays: [...reasons].map(([reason, of]) => ({ reason, copies: sumOf(of.map(({ copies }) => copies)) })),
  }
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0)
}

/** Names a store migration, unless one runs. */
export async function beginRelocation(
  client: Client,
  id: string,
  route: Route,
  startedBy: string,
): Promise<Relocation | 'already_running'> {
  const workspaces = route.workspaces ?? null
  const counted = await client.query(
    `select count(*) as total from copies k join credentials c on c.id = k.credential_id
       join workspaces w on w.id = c.workspace_id left join store_migration_members m on m.credential_id = c.id
     where ${ON_ROUTE} and k.locator is null and m.migration_id is null`,
    [route.from, workspaces],
  )
  const { rowCount } = await client.query(
    `insert into store_migrations (id, from_store, to_store, workspaces, state, total, started_by)
     values ($1, $2, $3, $4, 'running', $5, $6) on conflict ((true)) where state = 'running' do nothing`,
    [id, route.from, route.to, workspaces, counted.rows[0].total, startedBy],
  )
  return rowCount === 1 ? (await selectRelocation(client, id))! : 'already_running'
}

/** A store migration with the first 100 of what failed and of what stays. */
export async function selectRelocation(
  client: Client,
  id: string,
  lock = false,
): Promise<Relocation | undefined> {
  if (!isUuid(id)) return undefined
  if (lock) await client.query('select from store_migrations where id = $1 for update', [id])
  const { rows } = await client.query(`select ${COLUMNS} from store_migrations m where m.id = $1`, [id])
  return rows[0] && relocationOf(rows[0])
}

/** Store migrations, newest first. */
export async function selectRelocations(client: Client, page: PageRequest): Promise<Page<Relocation>> {
  const { rows } = await client.query(
    `select ${COLUMNS} from store_migrations m where $1::uuid is null or m.id < $1 order by m.id desc limit $2`,
    [page.after?.[0] ?? null, page.limit + 1],
  )
  return pageOf(rows.map(relocationOf), page.limit, (relocation) => [relocation.id])
}

/** The one that runs, if one does. */
export async function selectRunningRelocation(client: Client): Promise<Relocation | undefined> {
  const { rows } = await client.query(`select ${COLUMNS} from store_migrations m where m.state = 'running'`)
  return rows[0] && relocationOf(rows[0])
}

/** The one that runs, which may be an older one that is rolled back; else the newest. */
export async function selectLatestRelocation(client: Client): Promise<Relocation | undefined> {
  const { rows } = await client.query(
    `select ${COLUMNS} from store_migrations m order by m.state = 'running' desc, m.id desc limit 1`,
  )
  return rows[0] && relocationOf(rows[0])
}

/** Sets it running again; what had failed is tried anew, unless it only closes. @returns false where another runs */
export async function runRelocation(client: Client, id: string, heading: Heading): Promise<boolean> {
  await client.query('savepoint run')
  try {
    await client.query(
      `update store_migrations set state = 'running', heading = $2, finished_at = null,
         running_since = now(), progressed_at = now(),
         failed = case when $2 = 'closing' then failed else 0 end,
         skipped = case when $2 = 'closing' then skipped else 0 end
       where id = $1`,
      [id, heading],
    )
  } catch (error) {
    if ((error as { constraint?: string }).constraint !== UNIQUE_RUNNING) throw error
    await client.query('rollback to savepoint run')
    return false
  }
  if (heading !== 'closing')
    await client.query('delete from store_migration_stays where migration_id = $1', [id])
  return true
}

/** Ends what a running one does; rolled back or finalized, its credentials are free for another. */
export async function endRelocation(client: Client, id: string, state: RelocationState): Promise<void> {
  await client.query(
    `update store_migrations set state = $2, finished_at = now(),
       over_seconds = over_seconds + case when heading = 'over' then ${RAN_SECONDS} else 0 end,
       back_seconds = back_seconds + case when heading = 'back' then ${RAN_SECONDS} else 0 end,
       moved = case when $2 = 'rolled_back' then 0 else moved end
     where id = $1 and state = 'running'`,
    [id, state],
  )
  if (state === 'rolled_back' || state === 'finalized')
    await client.query('delete from store_migration_members where migration_id = $1', [id])
}

/** Keeps why copies stay, and counts them. @returns those that were not known yet */
export async function insertStays(
  client: Client,
  id: string,
  stays: readonly NotedStay[],
): Promise<NotedStay[]> {
  const { rows } = await client.query<NotedStay>(
    `insert into store_migration_stays (migration_id, credential_id, workspace, credential, version, code, failed)
     select $1, * from unnest($2::uuid[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::boolean[])
     on conflict do nothing returning credential_id as "credentialId", workspace, credential, version, code, failed`,
    [
      id,
      stays.map((stay) => stay.credentialId),
      stays.map((stay) => stay.workspace),
      stays.map((stay) => stay.credential),
      stays.map((stay) => stay.version),
      stays.map((stay) => stay.code),
      stays.map((stay) => stay.failed),
    ],
  )
  const failed = rows.filter((row) => row.failed).length
  await client.query(
    'update store_migrations set failed = failed + $2, skipped = skipped + $3 where id = $1',
    [id, failed, rows.length - failed],
  )
  return rows
}

/** Counts copies that it has moved as it heads now: for the report, which a way back does not lessen. */
export async function countMoved(
  client: Client,
  { id, heading }: Relocation,
  moved: number | undefined,
): Promise<void> {
  if (!moved) return
  await client.query(
    `update store_migrations set moved_over = moved_over + case when $2 = 'over' then $3::bigint else 0 end,
       moved_back = moved_back + case when $2 = 'back' then $3::bigint else 0 end
     where id = $1`,
    [id, heading, moved],
  )
}

/** How many copies were not moved for each code. */
export async function countCodes(client: Client, id: string): Promise<StayCount[]> {
  const { rows } = await client.query(
    `select code, failed, count(*) as copies from store_migration_stays where migration_id = $1
     group by code, failed order by code, failed`,
    [id],
  )
  return rows
}

/** Counts how often a store asked for patience, while it runs. */
export async function countThrottled(client: Client, id: string, times: number): Promise<void> {
  await client.query(
    `update store_migrations set throttled = throttled + $2, progressed_at = now() where id = $1 and state = 'running'`,
    [id, times],
  )
}

/** Whether some process has got on with it within so long, or was asked for patience. */
export async function hasProgressed(client: Client, id: string, withinMs: number): Promise<boolean> {
  const { rowCount } = await client.query(
    'select from store_migrations where id = $1 and progressed_at > now() - make_interval(secs => $2)',
    [id, withinMs / 1000],
  )
  return rowCount! > 0
}

const relocationOf = withoutNulls<Relocation>
