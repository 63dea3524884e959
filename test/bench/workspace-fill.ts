import pg from 'pg'
import { v7 } from 'uuid'
import { Keyring } from '../../src/core/keyring.ts'
import { seal } from '../../src/core/sealing.ts'
import { Secret } from '../../src/core/secret.ts'
import { valueOf } from './fill.ts'

/** A workspace to be filled. */
export interface WorkspaceOrder {
  workspace: string
  /** `local`, whose values are sealed under `key`; of another store only the refs are written down. */
  store: string
  key: string
  credentials: number
  bytes: number
}

/**
 * Adds a workspace with credentials `cred-<n>` to a ledger that `fill` has filled, and opens it to the same callers.
 *
 * @returns what the store must keep: each ref and its value
 */
export async function fillWorkspace(
  superuserUrl: string,
  { workspace, store, key, credentials, bytes }: WorkspaceOrder,
): Promise<[ref: string, value: string][]> {
  const client = new pg.Client({ connectionString: superuserUrl })
  await client.connect()
  const sealing = Keyring.parse([key]).first
  const sealedAt = Math.floor(Date.now() / 1000)
  const kept: [ref: string, value: string][] = []
  const rows = Array.from({ length: credentials }, (_, number) => {
    const [credentialId, copyId, value] = [v7(), v7(), valueOf(number, bytes)]
    const name = `cred-${number}`
    const row = { credentialId, copyId, name, ref: null as string | null, sealed: null as string | null }
    if (store === 'local') {
      row.sealed = seal(sealing, { workspace, credentialId, version: 1, copyId }, new Secret(value), sealedAt)
    } else {
      row.ref = `strongroom/${workspace}/${copyId}`
      kept.push([row.ref, value])
    }
    return row
  })
  const ids = rows.map((row) => row.credentialId)
  const workspaceId = v7()
  await client.query('insert into workspaces (id, name) values ($1, $2)', [workspaceId, workspace])
  await client.query('update role_grants set workspaces = workspaces || $1::text[]', [[workspace]])
  await client.query(
    `insert into credentials (id, workspace_id, name, connector, store, version, created_by)
     select id, $1, name, 'source-postgres', $2, 1, 'bench' from unnest($3::uuid[], $4::text[]) c (id, name)`,
    [workspaceId, store, ids, rows.map((row) => row.name)],
  )
  await client.query(
    `insert into versions (credential_id, version, created_by) select id, 1, 'bench' from unnest($1::uuid[]) id`,
    [ids],
  )
  await client.query(
    `insert into copies (id, credential_id, version, store, state, ref, key_id, token)
     select id, credential_id, 1, $1, 'current', ref, case when token is not null then $2 end, token
     from unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[]) k (id, credential_id, ref, token)`,
    [
      store,
      sealing.id,
      rows.map((row) => row.copyId),
      ids,
      rows.map((row) => row.ref),
      rows.map((row) => row.sealed),
    ],
  )
  await client.query('vacuum analyze')
  await client.end()
  return kept
}
