import type { Page, PageRequest } from '../core/calls.ts'
import type { ResealCopies, RotationStep } from '../core/ledger.ts'
import { isUuid, NIL_UUID } from '../core/names.ts'
import type { Rotation, RotationFailure } from '../core/records.ts'
import type { Client } from './connections.ts'
import { PROCESS_ALIVE_SECONDS } from './keys-sql.ts'
import { pageOf } from './pages.ts'

const COLUMNS = `r.id, r.state, r.to_key as "toKey", r.total, r.moved, r.skipped, r.failed, r.started_at as "startedAt",
  r.started_by as "startedBy", r.finished_at as "finishedAt", array(
    select jsonb_build_object('workspace', f.workspace, 'credential', f.credential, 'version', f.version, 'code', f.code)
    from rotation_failures f where f.rotation_id = r.id order by f.failed_at, f.copy_id limit 100
  ) as failures`

/** Inserts under a key read its row for share: they wait here, or have been counted. */
async function lockKeys(client: Client): Promise<void> {
  await client.query('lock table keys in exclusive mode')
}

async function countUnderOthers(client: Client, keyId: string): Promise<number> {
  const { rows } = await client.query(
    'select count(*) as copies from copies where token is not null and key_id <> $1',
    [keyId],
  )
  return rows[0].copies
}

/** Locked first, then counted in a following statement: what was being inserted is seen. */
export async function countUnmoved(
  client: Client,
  rotation: { id: string; toKey: string },
): Promise<{ left: number; failed: number }> {
  // Writers wait while the keys are locked: only a ledger that looks done is locked and counted.
  const some = await client.query(
    `select from copies k where k.token is not null and k.key_id <> $1
       and not exists (select from rotation_failures f where f.rotation_id = $2 and f.copy_id = k.id) limit 1`,
    [rotation.toKey, rotation.id],
  )
  if (some.rowCount) return { left: 1, failed: 0 }
  await lockKeys(client)
  const { rows } = await client.query(
    `select count(*) filter (where f.copy_id is null) as left, count(f.copy_id) as failed
     from copies k left join rotation_failures f on f.rotation_id = $2 and f.copy_id = k.id
     where k.token is not null and k.key_id <> $1`,
    [rotation.toKey, rotation.id],
  )
  return rows[0]
}

/** Begins a rotation, unless one runs or a living process does not know the key. */
export async function beginRotation(
  client: Client,
  id: string,
  keyId: string,
  startedBy: string,
): Promise<Rotation | 'already_running' | { ignorant: string[] }> {
  await lockKeys(client)
  const running = await client.query(`select from rotations where state = 'running'`)
  if (running.rowCount) return 'already_running'
  const ignorant = await client.query(
    `select name || ' ' || id as process from processes
     where seen_at > now() - make_interval(secs => $1) and not $2 = any (key_ids) order by id`,
    [PROCESS_ALIVE_SECONDS, keyId],
  )
  if (ignorant.rowCount) return { ignorant: ignorant.rows.map((row) => row.process) }
  const total = await countUnderOthers(client, keyId)
  await client.query('update keys set sealing = false where sealing and id <> $1', [keyId])
  await client.query('update keys set sealing = true where id = $1', [keyId])
  await client.query(
    `insert into rotations (id, to_key, state, total, started_by) values ($1, $2, 'running', $3, $4)`,
    [id, keyId, total, startedBy],
  )
  return (await selectRotation(client, id))!
}

/** A rotation with its first 100 failures, locked where that is asked for. */
export async function selectRotation(
  client: Client,
  id: string,
  lock = false,
): Promise<Rotation | undefined> {
  if (!isUuid(id)) return undefined
  const text = `select ${COLUMNS} from rotations r where r.id = $1 ${lock ? 'for update' : ''}`
  const { rows } = await client.query(text, [id])
  return rows[0] && rotationOf(rows[0])
}

/** Rotations, newest first. */
export async function selectRotations(client: Client, page: PageRequest): Promise<Page<Rotation>> {
  const { rows } = await client.query(
    `select ${COLUMNS} from rotations r where $1::uuid is null or r.id < $1 order by r.id desc limit $2`,
    [page.after?.[0] ?? null, page.limit + 1],
  )
  return pageOf(rows.map(rotationOf), page.limit, (rotation) => [rotation.id])
}

/** Ends a rotation that runs. */
export async function endRotation(client: Client, id: string, state: string): Promise<void> {
  const text = `update rotations set state = $2, finished_at = now() where id = $1 and state = 'running'`
  await client.query(text, [id, state])
}

/** The rotation that runs, if one does. */
export async function selectRunningRotation(
  client: Client,
): Promise<{ id: string; toKey: string } | undefined> {
  const { rows } = await client.query(`select id, to_key as "toKey" from rotations where state = 'running'`)
  return rows[0]
}

/** What stands for the names of a credential that is no more: its copy cannot be opened, and is reported. */
const GONE = '-'

const TAKE = `
select k.id, k.key_id as "keyId", k.token as sealed, k.credential_id as "credentialId", k.version, k.state,
  coalesce(w.name, '${GONE}') as workspace, coalesce(c.name, '${GONE}') as credential
from copies k left join credentials c on c.id = k.credential_id left join workspaces w on w.id = c.workspace_id
where k.token is not null and k.key_id = $1 and k.id > $2
  and not exists (select from rotation_failures f where f.rotation_id = $3 and f.copy_id = k.id)
order by k.id limit $4 for update of k skip locked`

// The old copy loses its token in the statement that makes the new one, and only if it still has one: a token is never
// edited, so it is the one that was taken.
const REPLACE = `
with moved as (
  select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as m (old_id, new_id, token, state)
),
replaced as (
  update copies k set state = 'replaced', dropped_at = now(), token = null, key_id = null
  from moved m where k.id = m.old_id and k.token is not null
  returning k.id, k.credential_id, k.version, k.store, k.migration_id
)
insert into copies (id, credential_id, version, store, state, key_id, token, migration_id)
select m.new_id, r.credential_id, r.version, r.store, m.state, $5, m.token, r.migration_id from replaced r join moved m on m.old_id = r.id`

interface Taken {
  id: string
  keyId: string
  sealed: string
  credentialId: string
  version: number
  state: string
  workspace: string
  credential: string
}

/** One batch, in the transaction that the caller began. */
export async function moveCopies(
  client: Client,
  rotation: { id: string; toKey: string },
  after: { keyId: string; id: string } | undefined,
  limit: number,
  reseal: ResealCopies,
): Promise<RotationStep | undefined> {
  const sealing = await client.query('select from keys where id = $1 and sealing for share', [rotation.toKey])
  if (!sealing.rowCount) throw new RotationEnded()
  const found = await take(client, rotation, after, limit)
  if (found.length === 0) return undefined
  const taken = await holdCredentials(client, found)
  const resealed = await reseal(
    taken.map(({ id, keyId, sealed, credentialId, version, workspace }) => ({
      keyId,
      sealed,
      place: { workspace, credentialId, version, copyId: id },
    })),
  )
  const good = taken.flatMap((copy, index) => {
    const one = resealed[index]!
    return 'sealed' in one ? [{ copy, newId: one.newCopyId, token: one.sealed }] : []
  })
  const failures = taken.flatMap(({ id: copyId, workspace, credential, version }, index) => {
    const one = resealed[index]!
    return 'code' in one ? [{ copyId, workspace, credential, version, code: one.code }] : []
  })
  const { rowCount } = await client.query({
    name: 'replace copies',
    text: REPLACE,
    values: [
      good.map(({ copy }) => copy.id),
      good.map(({ newId }) => newId),
      good.map(({ token }) => token),
      good.map(({ copy }) => copy.state),
      rotation.toKey,
    ],
  })
  const moved = rowCount ?? 0
  const skipped = good.length - moved
  const counted = await client.query(
    `update rotations set moved = moved + $2, skipped = skipped + $3
     where id = $1 and state = 'running'`,
    [rotation.id, moved, skipped],
  )
  if (!counted.rowCount) throw new RotationEnded()
  const last = found.at(-1)!
  return { moved, skipped, failures, last: { keyId: last.keyId, id: last.id } }
}

// Whoever writes, drops or purges copies holds their credential first. Without this, a purge that waited for a copy would
// not see the one that has replaced it meanwhile. Those that somebody holds are left for the next pass.
async function holdCredentials(client: Client, taken: Taken[]): Promise<Taken[]> {
  const { rows } = await client.query({
    name: 'hold credentials',
    text: `select c.id from credentials c where c.id = any ($1) for key share skip locked`,
    values: [taken.map((copy) => copy.credentialId)],
  })
  const held = new Set(rows.map((row) => row.id))
  return taken.filter((copy) => copy.workspace === GONE || held.has(copy.credentialId))
}

/** Keeps what a rotation could not move, and counts it. @returns those that were not known yet */
export async function insertFailures(
  client: Client,
  rotationId: string,
  failures: readonly (RotationFailure & { copyId: string })[],
): Promise<RotationFailure[]> {
  const { rows } = await client.query(
    `insert into rotation_failures (rotation_id, copy_id, workspace, credential, version, code)
     select $1, * from unnest($2::uuid[], $3::text[], $4::text[], $5::integer[], $6::text[])
     on conflict do nothing returning workspace, credential, version, code`,
    [
      rotationId,
      failures.map((failure) => failure.copyId),
      failures.map((failure) => failure.workspace),
      failures.map((failure) => failure.credential),
      failures.map((failure) => failure.version),
      failures.map((failure) => failure.code),
    ],
  )
  await client.query('update rotations set failed = failed + $2 where id = $1', [rotationId, rows.length])
  return rows
}

/** The rotation was cancelled while a batch was under way: the batch is taken back. */
export class RotationEnded extends Error {
  override name = 'RotationEnded'
}

/** The next copies that nobody holds: of the key that `after` names, then of those behind it. */
async function take(
  client: Client,
  rotation: { id: string; toKey: string },
  after: { keyId: string; id: string } | undefined,
  limit: number,
): Promise<Taken[]> {
  const keys = await client.query('select id from keys where id <> $1 and id >= $2 order by id', [
    rotation.toKey,
    after?.keyId ?? '',
  ])
  for (const { id: keyId } of keys.rows) {
    const from = keyId === after?.keyId ? after?.id : NIL_UUID
    const { rows } = await client.query<Taken>({
      name: 'take copies',
      text: TAKE,
      values: [keyId, from, rotation.id, limit],
    })
    if (rows.length > 0) return rows
  }
  return []
}

function rotationOf(row: Rotation & { finishedAt: Date | null }): Rotation {
  return { ...row, finishedAt: row.finishedAt ?? undefined }
}
