import type { Page, PageRequest } from '../core/calls.ts'
import { notFound } from '../core/errors.ts'
import type {
  Copy,
  Credential,
  CredentialChange,
  CredentialFilter,
  NewCredential,
  NewVersion,
  Version,
} from '../core/records.ts'
import { SealingKeyChanged } from '../core/ledger.ts'
import { likePattern } from '../core/grants.ts'
import type { Client } from './connections.ts'
import { sqlState } from './connections.ts'
import { pageOf } from './pages.ts'

/** A credential's columns, from `credentials c` and `workspaces w`; {@link credentialOf} reads them. */
export const CREDENTIAL_COLUMNS = `c.id, c.workspace_id as "workspaceId", w.name as workspace, c.name, c.connector, c.kind, c.store,
  c.version, c.state, c.labels, c.created_at as "createdAt", c.created_by as "createdBy", c.updated_at as "updatedAt",
  c.expires_at as "expiresAt", c.purge_at as "purgeAt", c.deleted_at as "deletedAt",
  c.last_leased_at as "lastLeasedAt"`

const UNIQUE_VIOLATION = '23505'
const FOREIGN_KEY_VIOLATION = '23503'

/** The active credential of that name; with `lock`, nobody else changes it until this transaction ends. */
export async function selectCredential(
  client: Client,
  workspaceId: string,
  name: string,
  lock: boolean,
): Promise<Credential | undefined> {
  const text = `select ${CREDENTIAL_COLUMNS} from credentials c join workspaces w on w.id = c.workspace_id
    where c.workspace_id = $1 and c.name = $2 and c.state = 'active' ${lock ? 'for update of c' : ''}`
  const statement = lock ? 'credential for update' : 'credential'
  const { rows } = await client.query({ name: statement, text, values: [workspaceId, name] })
  return rows[0] && credentialOf(rows[0])
}

async function selectCredentialById(client: Client, id: string): Promise<Credential> {
  const text = `select ${CREDENTIAL_COLUMNS} from credentials c join workspaces w on w.id = c.workspace_id where c.id = $1`
  const { rows } = await client.query(text, [id])
  return credentialOf(rows[0])
}

/** Those that were deleted under this name, the last one first, locked. */
export async function selectDeletedCredentials(
  client: Client,
  workspaceId: string,
  name: string,
): Promise<Credential[]> {
  const text = `select ${CREDENTIAL_COLUMNS} from credentials c join workspaces w on w.id = c.workspace_id
    where c.workspace_id = $1 and c.name = $2 and c.state = 'deleted' order by c.deleted_at desc, c.id desc
    for update of c`
  const { rows } = await client.query(text, [workspaceId, name])
  return rows.map(credentialOf)
}

/** @returns undefined where the name is taken. */
export async function insertCredential(client: Client, row: NewCredential): Promise<Credential | undefined> {
  const inserted = await client
    .query(
      `insert into credentials (id, workspace_id, name, connector, store, version, labels, created_by, expires_at, purge_at)
     values ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9)
     on conflict (workspace_id, name) where state = 'active' do nothing`,
      [
        row.id,
        row.workspaceId,
        row.name,
        row.connector,
        row.store,
        JSON.stringify(row.labels),
        row.createdBy,
        row.expiresAt ?? null,
        row.purgeAt ?? null,
      ],
    )
    .catch(workspaceGone)
  return inserted.rowCount === 1 ? selectCredentialById(client, row.id) : undefined
}

// The workspace was deleted after it was looked up.
function workspaceGone(error: unknown): never {
  throw sqlState(error) === FOREIGN_KEY_VIOLATION ? notFound() : error
}

/** Changes labels and expiry, as far as they are given. */
export async function updateCredential(
  client: Client,
  id: string,
  change: CredentialChange,
): Promise<Credential> {
  await client.query(
    `update credentials set updated_at = now(), labels = coalesce($2, labels),
       expires_at = case when $3 then $4::timestamptz else expires_at end
     where id = $1`,
    [
      id,
      change.labels ? JSON.stringify(change.labels) : null,
      'expiresAt' in change,
      change.expiresAt ?? null,
    ],
  )
  return selectCredentialById(client, id)
}

/** What the identity may `credential:read`, by name. */
export async function selectCredentials(
  client: Client,
  identityId: string,
  workspaceId: string,
  filter: CredentialFilter,
  page: PageRequest,
): Promise<Page<Credential>> {
  const labels = Object.groupBy(filter.labels, (label) => label.key)
  // Two values for one label can never both hold.
  const contradictory = Object.values(labels).some(
    (same) => new Set(same!.map((label) => label.value)).size > 1,
  )
  if (contradictory) return { items: [] }
  const wanted = Object.fromEntries(filter.labels.map((label) => [label.key, label.value]))
  const text = `select ${CREDENTIAL_COLUMNS} from credentials c join workspaces w on w.id = c.workspace_id
    where c.workspace_id = $2 and c.state = $3
      and exists (
        select from identity_roles ir join role_grants r on r.role_id = ir.role_id
        where ir.identity_id = $1 and 'credential:read' = any (r.actions)
          and grant_covers(r.workspaces, r.connectors, r.credentials, r.labels, w.name, c.connector, c.name, c.labels))
      and ($4::text is null or c.connector = $4) and ($5::text is null or c.store = $5) and c.labels @> $6::jsonb
      and ($7::text is null or c.name like $7) and ($8::timestamptz is null or c.expires_at < $8)
      and (c.name, c.id) > ($9, $10)
    order by c.name, c.id limit $11`
  const [name = '', id = '00000000-0000-0000-0000-000000000000'] = page.after ?? []
  const prefix = filter.namePrefix === undefined ? null : `${likePattern(filter.namePrefix)}%`
  const { rows } = await client.query(text, [
    identityId,
    workspaceId,
    filter.state,
    filter.connector ?? null,
    filter.store ?? null,
    JSON.stringify(wanted),
    prefix,
    filter.expiresBefore ?? null,
    name,
    id,
    page.limit + 1,
  ])
  return pageOf(rows.map(credentialOf), page.limit, (credential) => [credential.name, credential.id])
}

/** Deletes a credential so that it can be restored. */
export async function deleteCredential(client: Client, id: string): Promise<void> {
  await client.query(`update credentials set state = 'deleted', deleted_at = now() where id = $1`, [id])
}

/** Erases every sealed value at once; what lies in other stores is dropped, for the sweep to delete. */
export async function purgeCredential(client: Client, id: string): Promise<void> {
  await client.query(`${DROP} where credential_id = $1 and state <> 'dropped'`, [id])
  await client.query('delete from credentials where id = $1', [id])
}

const DROP = `update copies set state = 'dropped', dropped_at = now(), token = null, key_id = null`

/** @returns undefined where the name is in use again. */
export async function restoreCredential(client: Client, id: string): Promise<Credential | undefined> {
  await client.query('savepoint restore')
  try {
    await client.query(`update credentials set state = 'active', deleted_at = null where id = $1`, [id])
  } catch (error) {
    if (sqlState(error) !== UNIQUE_VIOLATION) throw error
    await client.query('rollback to savepoint restore')
    return undefined
  }
  return selectCredentialById(client, id)
}

/** The copy of a version that is kept. */
export async function selectCopy(
  client: Client,
  credentialId: string,
  version: number,
): Promise<Copy | undefined> {
  const text = `select id, credential_id as "credentialId", version, store, key_id as "keyId", token as sealed
    from copies where credential_id = $1 and version = $2 and state in ('current', 'kept')`
  const { rows } = await client.query({ name: 'copy', text, values: [credentialId, version] })
  return rows[0]
}

/**
 * Makes a new version current. The copy is inserted only under the sealing key, whose row is read for share: so a count
 * of zero under another key, made after the table of keys was locked, stays zero.
 */
export async function insertVersion(client: Client, row: NewVersion, versionsKept: number): Promise<void> {
  const { copyId, credentialId, version, createdBy, keyId, sealed } = row
  await client.query(`update copies set state = 'kept' where credential_id = $1 and state = 'current'`, [
    credentialId,
  ])
  const inserted = await client.query(
    `insert into copies (id, credential_id, version, store, state, key_id, token)
     select $1, $2, $3, 'local', 'current', k.id, $5 from keys k where k.id = $4 and k.sealing for share`,
    [copyId, credentialId, version, keyId, sealed],
  )
  if (inserted.rowCount !== 1) {
    const { rows } = await client.query('select id from keys where sealing')
    throw new SealingKeyChanged(rows[0].id)
  }
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
  await client.query('delete from versions where credential_id = $1 and version <= $2', [credentialId, last])
  await client.query(`${DROP} where credential_id = $1 and version <= $2 and state = 'kept'`, [
    credentialId,
    last,
  ])
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

/** @returns Whether it was kept until now. */
export async function dropVersion(client: Client, credentialId: string, version: number): Promise<boolean> {
  const text = `${DROP} where credential_id = $1 and version = $2 and state = 'kept'`
  const { rowCount } = await client.query(text, [credentialId, version])
  await client.query('delete from versions where credential_id = $1 and version = $2', [
    credentialId,
    version,
  ])
  return rowCount! > 0
}

/** Null columns are left out. */
export function credentialOf(row: Record<string, unknown>): Credential {
  const entries = Object.entries(row).map(([name, value]) => [name, value ?? undefined])
  return Object.fromEntries(entries) as Credential
}
