import type { Page, PageRequest } from '../core/calls.ts'
import { notFound } from '../core/errors.ts'
import type { Credential, CredentialChange, CredentialFilter, NewCredential } from '../core/records.ts'
import { likePattern } from '../core/grants.ts'
import { NIL_UUID } from '../core/names.ts'
import type { Client } from './connections.ts'
import { sqlState } from './connections.ts'
import { dropCopies } from './copies-sql.ts'
import { pageOf } from './pages.ts'
import { withoutNulls } from './rows.ts'

// Of the current version, whose copy is where it points to.
const LINK = `case when c.kind = 'link' then (
    select jsonb_strip_nulls(jsonb_build_object('store', k.store, 'locator', k.locator, 'field', k.field))
    from copies k where k.credential_id = c.id and k.version = c.version and k.state = 'current') end`

/** A credential's columns, from `credentials c` and `workspaces w`; {@link credentialOf} reads them. */
export const CREDENTIAL_COLUMNS = `c.id, c.workspace_id as "workspaceId", w.name as workspace, c.name, c.connector, c.kind, c.store,
  ${LINK} as link, c.version, c.state, c.labels, c.created_at as "createdAt", c.created_by as "createdBy", c.updated_at as "updatedAt",
  c.expires_at as "expiresAt", c.purge_at as "purgeAt", c.deleted_at as "deletedAt",
  c.last_leased_at as "lastLeasedAt"`

const UNIQUE_VIOLATION = '23505'
const FOREIGN_KEY_VIOLATION = '23503'

const SELECT = `select ${CREDENTIAL_COLUMNS} from credentials c join workspaces w on w.id = c.workspace_id`

/** The active credential of that name. */
export async function selectCredential(
  client: Client,
  workspaceId: string,
  name: string,
): Promise<Credential | undefined> {
  const text = `${SELECT} where c.workspace_id = $1 and c.name = $2 and c.state = 'active'`
  const { rows } = await client.query({ name: 'credential', text, values: [workspaceId, name] })
  return rows[0] && credentialOf(rows[0])
}

/** In the order of their ids, so that of two who lock the same ones neither waits for the other in turn. */
export async function lockCredentials(client: Client, ids: readonly string[]): Promise<Credential[]> {
  const text = `${SELECT} where c.id = any ($1::uuid[]) order by c.id for update of c`
  const { rows } = await client.query({ name: 'credentials for update', text, values: [ids] })
  return rows.map(credentialOf)
}

async function selectCredentialById(client: Client, id: string): Promise<Credential> {
  const { rows } = await client.query(`${SELECT} where c.id = $1`, [id])
  return credentialOf(rows[0])
}

/** In one look, so that one that is being deleted or restored is seen before it or after, and never at neither place. */
export async function selectCredentialsNamed(
  client: Client,
  workspaceId: string,
  name: string,
): Promise<Credential[]> {
  const text = `${SELECT} where c.workspace_id = $1 and c.name = $2
    order by c.deleted_at desc nulls first, c.id desc`
  const { rows } = await client.query(text, [workspaceId, name])
  return rows.map(credentialOf)
}

/** @returns undefined where the name is taken. */
export async function insertCredential(client: Client, row: NewCredential): Promise<Credential | undefined> {
  const inserted = await client
    .query(
      `insert into credentials (id, workspace_id, name, connector, kind, store, version, labels, created_by, expires_at,
       purge_at) values ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9, $10)
     on conflict (workspace_id, name) where state = 'active' do nothing`,
      [
        row.id,
        row.workspaceId,
        row.name,
        row.connector,
        row.kind,
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
  const [name = '', id = NIL_UUID] = page.after ?? []
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

/** Erases every sealed value at once; what lies in other stores is dropped, for the sweep to destroy. */
export async function purgeCredential(client: Client, id: string): Promise<void> {
  await dropCopies(client, id)
  await client.query('delete from credentials where id = $1', [id])
}

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

/** Reads a row of {@link CREDENTIAL_COLUMNS}. */
export const credentialOf = withoutNulls<Credential>
