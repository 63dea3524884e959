import type { Page, PageRequest } from '../core/calls.ts'
import type { Grant } from '../core/grants.ts'
import { expandActions, likePattern } from '../core/grants.ts'
import type { Identity, Role, TokenRecord, Workspace } from '../core/records.ts'
import type { Client } from './connections.ts'
import { pageOf } from './pages.ts'

const WORKSPACE = 'id, name, default_store as "defaultStore", created_at as "createdAt"'

/** A workspace by its name. */
export async function selectWorkspace(client: Client, name: string): Promise<Workspace | undefined> {
  const text = `select ${WORKSPACE} from workspaces where name = $1`
  const { rows } = await client.query({ name: 'workspace', text, values: [name] })
  return rows[0] && workspaceOf(rows[0])
}

/** Workspaces, by name. */
export async function selectWorkspaces(client: Client, page: PageRequest): Promise<Page<Workspace>> {
  const text = `select ${WORKSPACE} from workspaces where name > $1 order by name limit $2`
  const { rows } = await client.query(text, [page.after?.[0] ?? '', page.limit + 1])
  return pageOf(rows.map(workspaceOf), page.limit, (workspace) => [workspace.name])
}

/** Makes a workspace, or makes it so. */
export async function upsertWorkspace(
  client: Client,
  id: string,
  name: string,
  defaultStore: string | undefined,
): Promise<{ workspace: Workspace; created: boolean }> {
  const text = `insert into workspaces (id, name, default_store) values ($1, $2, $3)
    on conflict (name) do update set default_store = excluded.default_store
    returning ${WORKSPACE}, id = $1 as created`
  const { rows } = await client.query(text, [id, name, defaultStore ?? null])
  return { workspace: workspaceOf(rows[0]), created: rows[0].created }
}

/** Deletes a workspace that has no credential, deleted ones included. */
export async function deleteWorkspace(client: Client, id: string): Promise<'deleted' | 'in_use'> {
  // Locked first: a credential that is being made meanwhile is seen or refused by its foreign key.
  await client.query('select from workspaces where id = $1 for update', [id])
  const used = await client.query('select from credentials where workspace_id = $1 limit 1', [id])
  if (used.rowCount) return 'in_use'
  await client.query('delete from workspaces where id = $1', [id])
  return 'deleted'
}

function workspaceOf(row: Workspace & { defaultStore: string | null }): Workspace {
  const { id, name, createdAt } = row
  return { id, name, defaultStore: row.defaultStore ?? undefined, createdAt }
}

/** Locks the policy's row and raises its version: grants that were read before are worth nothing. */
export async function raisePolicy(client: Client): Promise<void> {
  await client.query('update policy set version = version + 1')
}

const ROLE = 'name, grants, created_at as "createdAt"'

/** A role by its name. */
export async function selectRole(client: Client, name: string): Promise<Role | undefined> {
  const { rows } = await client.query(`select ${ROLE} from roles where name = $1`, [name])
  return rows[0]
}

/** Roles, by name. */
export async function selectRoles(client: Client, page: PageRequest): Promise<Page<Role>> {
  const text = `select ${ROLE} from roles where name > $1 order by name limit $2`
  const { rows } = await client.query(text, [page.after?.[0] ?? '', page.limit + 1])
  return pageOf(rows as Role[], page.limit, (role) => [role.name])
}

/** Makes a role, or replaces its grants. */
export async function upsertRole(
  client: Client,
  id: string,
  name: string,
  grants: Grant[],
): Promise<{ role: Role; created: boolean }> {
  const text = `insert into roles (id, name, grants) values ($1, $2, $3)
    on conflict (name) do update set grants = excluded.grants returning id, ${ROLE}, id = $1 as created`
  const { rows } = await client.query(text, [id, name, JSON.stringify(grants)])
  const { id: roleId, created, ...role } = rows[0]
  await client.query('delete from role_grants where role_id = $1', [roleId])
  for (const [ordinal, grant] of grants.entries()) await insertGrant(client, roleId, ordinal, grant)
  return { role, created }
}

/** In the form that a statement judges by. Grants for administration alone cover no credential. */
async function insertGrant(client: Client, roleId: string, ordinal: number, grant: Grant): Promise<void> {
  const actions = expandActions(grant.actions).filter((action) => !action.startsWith('admin:'))
  if (actions.length === 0) return
  const labels =
    grant.labels && Object.entries(grant.labels).map(([key, pattern]) => [key, likePattern(pattern)])
  await client.query(
    `insert into role_grants (role_id, ordinal, actions, workspaces, connectors, credentials, labels,
       lease_ttl_seconds_max) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      roleId,
      ordinal,
      actions,
      grant.workspaces.map(likePattern),
      grant.connectors?.map(likePattern) ?? null,
      grant.credentials?.map(likePattern) ?? null,
      labels ? JSON.stringify(Object.fromEntries(labels)) : null,
      grant.lease_ttl_seconds_max ?? null,
    ],
  )
}

/** Deletes a role that no identity has. */
export async function deleteRole(client: Client, name: string): Promise<'deleted' | 'in_use' | 'missing'> {
  const { rows } = await client.query(
    `select id, exists (select from identity_roles where role_id = id) as used from roles where name = $1 for update`,
    [name],
  )
  if (!rows[0]) return 'missing'
  if (rows[0].used) return 'in_use'
  await client.query('delete from roles where id = $1', [rows[0].id])
  return 'deleted'
}

const IDENTITY = `i.id, i.name, i.created_at as "createdAt", array(
  select r.name from identity_roles ir join roles r on r.id = ir.role_id where ir.identity_id = i.id order by r.name
) as roles`

/** An identity by its name. */
export async function selectIdentity(client: Client, name: string): Promise<Identity | undefined> {
  const { rows } = await client.query(`select ${IDENTITY} from identities i where i.name = $1`, [name])
  return rows[0]
}

/** Identities, by name. */
export async function selectIdentities(client: Client, page: PageRequest): Promise<Page<Identity>> {
  const text = `select ${IDENTITY} from identities i where i.name > $1 order by i.name limit $2`
  const { rows } = await client.query(text, [page.after?.[0] ?? '', page.limit + 1])
  return pageOf(rows as Identity[], page.limit, (identity) => [identity.name])
}

/** Makes an identity, or replaces its roles. @returns undefined where a role does not exist */
export async function upsertIdentity(
  client: Client,
  id: string,
  name: string,
  roles: string[],
): Promise<{ identity: Identity; created: boolean } | undefined> {
  const wanted = [...new Set(roles)]
  const found = await client.query('select id from roles where name = any ($1) for share', [wanted])
  if (found.rowCount !== wanted.length) return undefined
  const { rows } = await client.query(
    `insert into identities (id, name) values ($1, $2) on conflict (name) do update set name = excluded.name
     returning id, id = $1 as created`,
    [id, name],
  )
  await client.query('delete from identity_roles where identity_id = $1', [rows[0].id])
  await client.query('insert into identity_roles (identity_id, role_id) select $1, unnest($2::uuid[])', [
    rows[0].id,
    found.rows.map((role) => role.id),
  ])
  return { identity: (await selectIdentity(client, name))!, created: rows[0].created }
}

/** Deletes an identity and its tokens. */
export async function deleteIdentity(client: Client, id: string): Promise<void> {
  await client.query('delete from identities where id = $1', [id])
}

/** The grants of all roles of an identity. */
export async function selectGrantsOf(client: Client, identityId: string): Promise<Grant[]> {
  const { rows } = await client.query(
    `select g.value as grant from identity_roles ir join roles r on r.id = ir.role_id
     cross join lateral jsonb_array_elements(r.grants) g where ir.identity_id = $1`,
    [identityId],
  )
  return rows.map((row) => row.grant)
}

/** How many identities hold `admin:*`. */
export async function countAdministrators(client: Client): Promise<number> {
  const { rows } = await client.query(
    `select count(distinct ir.identity_id) as administrators from identity_roles ir join roles r on r.id = ir.role_id
     where exists (select from jsonb_array_elements(r.grants) g where g.value -> 'actions' ? 'admin:*')`,
  )
  return rows[0].administrators
}

const TOKEN = 'id, created_at as "createdAt", expires_at as "expiresAt", last_used_at as "lastUsedAt"'

/** Keeps a new token's digest. */
export async function insertToken(
  client: Client,
  identityId: string,
  token: { id: string; digest: Buffer },
  expiresInSeconds: number,
): Promise<TokenRecord> {
  const { rows } = await client.query(
    `insert into tokens (id, identity_id, digest, expires_at)
     values ($1, $2, $3, date_trunc('milliseconds', now()) + make_interval(secs => $4)) returning ${TOKEN}`,
    [token.id, identityId, token.digest, expiresInSeconds],
  )
  return tokenOf(rows[0])
}

/** Forgets a token of an identity. @returns whether it had it */
export async function deleteToken(client: Client, identityId: string, tokenId: string): Promise<boolean> {
  const text = 'delete from tokens where id = $1 and identity_id = $2'
  const { rowCount } = await client.query(text, [tokenId, identityId])
  return rowCount === 1
}

/** The tokens of an identity, by id. */
export async function selectTokens(
  client: Client,
  identityId: string,
  page: PageRequest,
): Promise<Page<TokenRecord>> {
  const text = `select ${TOKEN} from tokens where identity_id = $1 and id > $2 order by id limit $3`
  const { rows } = await client.query(text, [identityId, page.after?.[0] ?? '', page.limit + 1])
  return pageOf(rows.map(tokenOf), page.limit, (token) => [token.id])
}

function tokenOf(row: TokenRecord & { lastUsedAt: Date | null }): TokenRecord {
  return {
    id: row.id,
    createdAt: row.createdAt,
    expiresAt: row.expiresAt,
    lastUsedAt: row.lastUsedAt ?? undefined,
  }
}
