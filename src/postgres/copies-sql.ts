import type { Page, PageRequest } from '../core/calls.ts'
import { VaultError } from '../core/errors.ts'
import { SealingKeyChanged } from '../core/ledger.ts'
import type { Copy, NamedCopy, NewVersion, OtherCopy, StoreCopies, Version } from '../core/records.ts'
import type { Client } from './connections.ts'
import { settleHome } from './ledger-home-sql.ts'
import { pageOf } from './pages.ts'

/** Of a copy `k`: where it lies outside, as JSON; null for a local one. {@link copyOf} reads it. */
export const OUTSIDE = `case when k.store <> 'local' then
    json_build_object('ref', k.ref, 'locator', k.locator, 'field', k.field)::text end`

/** A row that tells of a copy. */
export interface CopyRow {
  id: string
  credentialId: string
  version: number
  store: string
  keyId: string | null
  sealed: string | null
  /** As {@link OUTSIDE} makes it. */
  outside: string | null
}

/** Null columns are left out. */
export function copyOf(row: CopyRow): Copy {
  const { id, credentialId, version, store, keyId, sealed } = row
  const copy = { id, credentialId, version, store }
  if (row.outside === null) return { ...copy, keyId: keyId ?? undefined, sealed: sealed ?? undefined }
  const { ref, locator, field } = JSON.parse(row.outside)
  return ref === null ? { ...copy, link: { store, locator, field: field ?? undefined } } : { ...copy, ref }
}

const COPY = `select k.id, k.credential_id as "credentialId", k.version, k.store, k.key_id as "keyId", k.token as sealed,
    ${OUTSIDE} as outside, k.state = 'source' as "isSource"
  from copies k where k.credential_id = $1 and k.version = $2`

/** The copy of a version that is kept. */
export async function selectCopy(
  client: Client,
  credentialId: string,
  version: number,
): Promise<Copy | undefined> {
  const text = `${COPY} and k.state in ('current', 'kept')`
  const { rows } = await client.query({ name: 'copy', text, values: [credentialId, version] })
  return rows[0] && copyOf(rows[0])
}

/** Another copy with the same value: the one that is read now, else the source of an unfinished store migration. */
export async function selectOther(
  client: Client,
  { id, credentialId, version }: Copy,
): Promise<OtherCopy | undefined> {
  const text = `${COPY} and k.state in ('current', 'kept', 'source') and k.id <> $3
    order by k.state = 'source' limit 1`
  const { rows } = await client.query({ name: 'other copy', text, values: [credentialId, version, id] })
  return rows[0] && { ...copyOf(rows[0]), isSource: rows[0].isSource }
}

/** Names an external copy before its store is asked to keep it, and the database that it belongs to. */
export async function insertPending(client: Client, copy: NamedCopy): Promise<void> {
  const { id, credentialId, version, store, ref } = copy
  await settleHome(client)
  await client.query(
    `insert into copies (id, credential_id, version, store, ref, state) values ($1, $2, $3, $4, $5, 'pending')`,
    [id, credentialId, version, store, ref],
  )
}

/**
 * Makes a new version current, and drops what falls out of those that are kept. The sources of an unfinished store migration
 * fall out later where its target keeps fewer: with them their version can come back.
 */
export async function insertVersion(
  client: Client,
  row: NewVersion,
  versionsKept: number,
  sourcesKept: number,
): Promise<void> {
  const { credentialId, version, createdBy } = row
  await client.query(`update copies set state = 'kept' where credential_id = $1 and state = 'current'`, [
    credentialId,
  ])
  await insertCurrent(client, row)
  await client.query('insert into versions (credential_id, version, created_by) values ($1, $2, $3)', [
    credentialId,
    version,
    createdBy,
  ])
  if (version === 1) return
  await client.query('update credentials set version = $2, updated_at = now() where id = $1', [
    credentialId,
    version,
  ])
  const last = version - versionsKept
  await client.query(
    `${DROP} where credential_id = $1 and (version <= $2 and state = 'kept' or version <= $3 and state = 'source')`,
    [credentialId, last, version - Math.max(versionsKept, sourcesKept)],
  )
  await client.query(
    `delete from versions v where v.credential_id = $1 and v.version <= $2 and not exists (
       select from copies s where s.credential_id = $1 and s.version = v.version and s.state = 'source')`,
    [credentialId, last],
  )
}

async function insertCurrent(
  client: Client,
  { copyId, credentialId, version, content }: NewVersion,
): Promise<void> {
  if ('named' in content) return makeCurrent(client, copyId, credentialId, version)
  if ('link' in content) {
    const { store, locator, field } = content.link
    await client.query(
      `insert into copies (id, credential_id, version, store, state, locator, field)
       values ($1, $2, $3, $4, 'current', $5, $6)`,
      [copyId, credentialId, version, store, locator, field ?? null],
    )
    return
  }
  // Only under the sealing key, whose row is read for share: so a count of zero under another key, made after the table
  // of keys was locked, stays zero.
  const inserted = await client.query(
    `insert into copies (id, credential_id, version, store, state, key_id, token)
     select $1, $2, $3, 'local', 'current', k.id, $5 from keys k where k.id = $4 and k.sealing for share`,
    [copyId, credentialId, version, content.keyId, content.sealed],
  )
  if (inserted.rowCount === 1) return
  const { rows } = await client.query('select id from keys where sealing')
  throw new SealingKeyChanged(rows[0].id)
}

// The switch demands `pending`: the sweep has dropped what waited for longer than the grace, and may have deleted it.
async function makeCurrent(client: Client, id: string, credentialId: string, version: number): Promise<void> {
  const { rowCount } = await client.query(
    `update copies set state = 'current', version = $3 where id = $1 and credential_id = $2 and state = 'pending'`,
    [id, credentialId, version],
  )
  if (rowCount === 1) return
  throw new VaultError('unavailable', 'Writing the copy took too long: repeat the request', {
    retryAfterSeconds: 1,
  })
}

/** The versions that are kept, newest first. */
export async function selectVersions(
  client: Client,
  credentialId: string,
  page: PageRequest,
): Promise<Page<Version>> {
  const { rows } = await client.query(
    `select v.version, k.state, k.store, k.key_id as "keyId", v.created_at as "createdAt", v.created_by as "createdBy"
     from versions v join copies k on k.credential_id = v.credential_id and k.version = v.version
       and k.state in ('current', 'kept')
     where v.credential_id = $1 and ($2::integer is null or v.version < $2) order by v.version desc limit $3`,
    [credentialId, page.after?.[0] ?? null, page.limit + 1],
  )
  const versions = rows.map((row) => ({ ...row, keyId: row.keyId ?? undefined }) as Version)
  return pageOf(versions, page.limit, (version) => [String(version.version)])
}

const DROP = `update copies set state = 'dropped', dropped_at = now(), token = null, key_id = null`

/**
 * A kept version is gone for good, with it what a store migration has of it: a source, or a copy that it writes; also
 * what was dropped before and is not destroyed yet.
 *
 * @returns Whether it was kept until now.
 */
export async function dropVersion(client: Client, credentialId: string, version: number): Promise<boolean> {
  const text = `${DROP} where credential_id = $1 and version = $2
    and (state in ('kept', 'source') or state = 'pending' and migration_id is not null)`
  await client.query(text, [credentialId, version])
  const forGood = `update copies set for_good = true where credential_id = $1 and version = $2 and ref is not null`
  await client.query(forGood, [credentialId, version])
  const kept = 'delete from versions where credential_id = $1 and version = $2'
  return (await client.query(kept, [credentialId, version])).rowCount! > 0
}

/** Every copy of a credential is gone for good, also what was dropped before and is not destroyed yet. */
export async function dropCopies(client: Client, credentialId: string): Promise<void> {
  await client.query(`${DROP} where credential_id = $1 and state <> 'dropped'`, [credentialId])
  await client.query('update copies set for_good = true where credential_id = $1 and ref is not null', [
    credentialId,
  ])
}

/** How many copies each store keeps, by state; links are none. */
export async function selectStoreCopies(client: Client): Promise<StoreCopies[]> {
  const { rows } = await client.query(
    `select store, state, count(*) as copies from copies where locator is null group by store, state`,
  )
  return rows
}
