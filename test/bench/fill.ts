import pg from 'pg'
import { v7 } from 'uuid'
import { Keyring } from '../../src/core/keyring.ts'
import { seal } from '../../src/core/sealing.ts'
import { Secret } from '../../src/core/secret.ts'
import { mintToken } from '../../src/core/token.ts'

/** What a filled ledger can be asked with. */
export interface Filled {
  tokens: string[]
  credentials: number
}

/** A value that is `bytes` of JSON, alike for none: a connector's configuration and padding. */
export function valueOf(number: number, bytes: number): string {
  const config = {
    host: 'db.internal',
    port: 5432,
    username: 'airbyte',
    password: `p-${number}`,
    padding: '',
  }
  return JSON.stringify({ ...config, padding: 'x'.repeat(bytes - JSON.stringify(config).length) })
}

/**
 * Fills an empty ledger: a workspace `acme`, `callers` identities that lease through a role of their own among 200 roles,
 * and `credentials` sealed credentials `cred-<n>` of `bytes` each. Sealed as the service seals; written in bulk.
 */
export async function fill(
  databaseUrl: string,
  keys: string[],
  sizes: { callers: number; credentials: number; bytes: number },
): Promise<Filled> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const key = Keyring.parse(keys).first
  const workspaceId = v7()
  await client.query(`insert into keys (id, sealing) values ($1, true) on conflict do nothing`, [key.id])
  await client.query(`insert into workspaces (id, name) values ($1, 'acme')`, [workspaceId])
  const grants = JSON.stringify([{ actions: ['lease:issue'], workspaces: ['acme'] }])
  const roles = Array.from({ length: 200 }, () => v7())
  await client.query(
    `insert into roles (id, name, grants) select id, 'role-' || n, $2 from unnest($1::uuid[]) with ordinality r (id, n)`,
    [roles, grants],
  )
  await client.query(
    `insert into role_grants (role_id, ordinal, actions, workspaces)
     select id, 0, '{lease:issue}', '{acme}' from unnest($1::uuid[]) id`,
    [roles],
  )
  const tokens: string[] = []
  for (let caller = 0; caller < sizes.callers; caller++) {
    const [identityId, minted] = [v7(), mintToken()]
    await client.query('insert into identities (id, name) values ($1, $2)', [identityId, `worker-${caller}`])
    await client.query('insert into identity_roles values ($1, $2)', [
      identityId,
      roles[caller % roles.length],
    ])
    await client.query(
      `insert into tokens (id, identity_id, digest, expires_at) values ($1, $2, $3, now() + interval '1 day')`,
      [minted.id, identityId, minted.digest],
    )
    tokens.push(minted.text.reveal())
  }
  const now = Math.floor(Date.now() / 1000)
  for (let from = 0; from < sizes.credentials; from += 1000) {
    const rows = Array.from({ length: Math.min(1000, sizes.credentials - from) }, (_, index) => {
      const [credentialId, copyId] = [v7(), v7()]
      const value = new Secret(valueOf(from + index, sizes.bytes))
      const place = { workspace: 'acme', credentialId, version: 1, copyId }
      return { credentialId, copyId, name: `cred-${from + index}`, sealed: seal(key, place, value, now) }
    })
    const ids = rows.map((row) => row.credentialId)
    await client.query(
      `insert into credentials (id, workspace_id, name, connector, store, version, created_by)
       select id, $1, name, 'source-postgres', 'local', 1, 'bench' from unnest($2::uuid[], $3::text[]) c (id, name)`,
      [workspaceId, ids, rows.map((row) => row.name)],
    )
    await client.query(
      `insert into versions (credential_id, version, created_by) select id, 1, 'bench' from unnest($1::uuid[]) id`,
      [ids],
    )
    await client.query(
      `insert into copies (id, credential_id, version, store, state, key_id, token)
       select id, credential_id, 1, 'local', 'current', $1, token
       from unnest($2::uuid[], $3::uuid[], $4::text[]) k (id, credential_id, token)`,
      [key.id, rows.map((row) => row.copyId), ids, rows.map((row) => row.sealed)],
    )
  }
  await client.query('vacuum analyze')
  await client.end()
  return { tokens, credentials: sizes.credentials }
}
