import { hash, randomBytes } from 'node:crypto'
import type { Page, PageRequest, PresentedToken } from '../core/calls.ts'
import type { ProblemCode } from '../core/errors.ts'
import type { LinkNote } from '../core/ledger.ts'
import type { Judgement, Revocation, RevocationScope } from '../core/ledger-transaction.ts'
import type { Lease, LeaseFilter, LeaseState } from '../core/records.ts'
import type { Client } from './connections.ts'
import { JUDGE } from './lease-sql.ts'
import { pageOf } from './pages.ts'
import { withoutNulls } from './rows.ts'

/** What revocations can name, from a lease's row `l`. A lease is ended by any of them that is newer than the lease. */
const SCOPES = `array['token:' || l.token_id, 'identity:' || l.identity_id, 'workspace:' || l.workspace_id,
  'credential:' || l.credential_id, 'identity:' || l.identity_id || '+workspace:' || l.workspace_id,
  'identity:' || l.identity_id || '+credential:' || l.credential_id]`

/** A lease's state, from its row `l`. */
const STATE = `case
  when l.failed_at is not null then 'failed'
  when l.revoked_at is not null then 'revoked'
  when exists (select from revocations v where v.scope = any (${SCOPES}) and v.counter > l.revocations
    and v.revoked_at < l.expires_at) then 'revoked'
  when l.expires_at <= now() then 'expired'
  else 'active'
end`

const COLUMNS = `l.id, l.workspace, l.credential, l.credential_id as "credentialId", l.connector, l.version,
  l.identity, l.identity_id as "identityId", l.run_id as "runId", l.reason, ${STATE} as state,
  coalesce(l.version < c.version, false) as superseded, l.issued_at as "issuedAt", l.expires_at as "expiresAt",
  l.ttl_seconds as "ttlSeconds", l.store_version as "storeVersion", l.read_at as "readAt", coalesce(c.labels, '{}') as labels`

/** A lease with what judges who may see it. */
export type LeaseRow = Lease & { identityId: string; labels: Record<string, string> }

/** One lease, in the state that it is in now. */
export async function selectLease(client: Client, id: string): Promise<LeaseRow | undefined> {
  const text = `select ${COLUMNS} from leases l left join credentials c on c.id = l.credential_id where l.id = $1`
  const { rows } = await client.query({ name: 'lease', text, values: [id] })
  return rows[0] && withoutNulls(rows[0])
}

/** The state that each of these leases is in now, by id. */
export async function selectLeaseStates(
  client: Client,
  ids: readonly string[],
): Promise<Map<string, LeaseState>> {
  const text = `select l.id, ${STATE} as state from leases l where l.id = any ($1)`
  const { rows } = await client.query({ name: 'lease states', text, values: [ids] })
  return new Map(rows.map(({ id, state }) => [id, state]))
}

/** The identity's own leases and those that it may `lease:read`, newest first. */
export async function selectLeases(
  client: Client,
  identityId: string,
  readsOthers: boolean,
  filter: LeaseFilter,
  page: PageRequest,
): Promise<Page<Lease>> {
  // Who has no lease:read anywhere is answered from the index of his own leases.
  const others = `or exists (
          select from identity_roles ir join role_grants r on r.role_id = ir.role_id
          where ir.identity_id = $1 and 'lease:read' = any (r.actions)
            and grant_covers(r.workspaces, r.connectors, r.credentials, r.labels, l.workspace, l.connector, l.credential,
              coalesce(c.labels, '{}')))`
  const text = `select * from (
      select ${COLUMNS} from leases l left join credentials c on c.id = l.credential_id
      where (l.identity_id = $1 ${readsOthers ? others : ''})
        and ($2::text is null or l.workspace = $2) and ($3::text is null or l.credential = $3)
        and ($4::text is null or l.identity = $4) and ($5::text is null or l.run_id = $5)
        and ($8::uuid is null or l.id < $8)
    ) l
    where ($6::text is null or l.state = $6) and ($7::boolean is null or l.superseded = $7)
    order by l.id desc limit $9`
  const { rows } = await client.query(text, [
    identityId,
    filter.workspace ?? null,
    filter.credential ?? null,
    filter.identity ?? null,
    filter.runId ?? null,
    filter.state ?? null,
    filter.superseded ?? null,
    page.after?.[0] ?? null,
    page.limit + 1,
  ])
  return pageOf(rows.map(withoutNulls<LeaseRow>), page.limit, (lease) => [lease.id])
}

/** What shows that a token is the one whose digest the ledger has: SHA-256 over `nonce` and its digest. */
export function proofOf(nonce: Buffer, token: PresentedToken): Buffer {
  return hash('sha256', Buffer.concat([nonce, token.digest]), 'buffer')
}

/** PostgreSQL's array literal of credential names: none of their characters needs an escape, and `""` is an empty name. */
export function namesLiteral(names: readonly string[]): string {
  return `{"${names.join('","')}"}`
}

/** Judges requests for leases in their order, and writes nothing. */
export async function judge(
  client: Client,
  asks: readonly {
    token: PresentedToken
    workspace: string
    credential: string
    version: number
    ttlSeconds?: number | undefined
  }[],
): Promise<Judgement[]> {
  const nonce = randomBytes(16)
  const { rows } = await client.query({
    name: 'judge',
    text: JUDGE,
    values: [
      nonce,
      asks.map((_ask, index) => index),
      asks.map((ask) => ask.token.id),
      asks.map((ask) => proofOf(nonce, ask.token)),
      asks.map((ask) => ask.workspace),
      asks.map((ask) => ask.version),
      asks.map((ask) => ask.ttlSeconds ?? null),
      asks.map((ask) => namesLiteral([ask.credential])),
    ],
  })
  return rows.map((row) => ({
    code: (row.code as ProblemCode | null) ?? undefined,
    expiresAt: row.expires_at ?? undefined,
  }))
}

/** What the event of a lease says that was issued and whose value never left. */
export type FailedLease = Pick<
  Lease,
  'id' | 'identity' | 'workspace' | 'credential' | 'version' | 'runId' | 'reason'
>

/** Their values have not left. @returns those that exist and were not known to have failed */
export async function failLeases(client: Client, ids: readonly string[]): Promise<FailedLease[]> {
  const { rows } = await client.query(
    `update leases set failed_at = now() where id = any ($1) and failed_at is null
     returning id, identity, workspace, credential, version, run_id as "runId", reason`,
    [ids],
  )
  return rows.map(withoutNulls<FailedLease>)
}

/** A lease lasts until `expiresAt` from now on. */
export async function renewLease(client: Client, id: string, expiresAt: Date): Promise<void> {
  await client.query(
    `update leases set expires_at = $2,
       ttl_seconds = greatest(1, round(extract(epoch from $2::timestamptz - now())))::integer
     where id = $1`,
    [id, expiresAt],
  )
}

/** Ends one lease. */
export async function revokeLease(client: Client, id: string): Promise<void> {
  await client.query('update leases set revoked_at = now() where id = $1', [id])
}

/** Ends every lease in the scope, also those whose statement is still on its way. @returns its counters */
export async function revokeLeases(client: Client, scope: RevocationScope): Promise<Revocation> {
  const { rows } = await client.query(
    `with counted as (update policy set revocations = revocations + 1 returning revocations),
       before as (select counter from revocations where scope = $1)
     insert into revocations (scope, counter) select $1, revocations from counted
     on conflict (scope) do update set counter = excluded.counter, revoked_at = now()
     returning counter, coalesce((select counter from before), 0) as before`,
    [textOf(scope)],
  )
  return rows[0]
}

/** The name of a scope, by which leases are held against it. */
function textOf({ workspaceId, credentialId, identityId, tokenId }: RevocationScope): string {
  const parts = [
    tokenId && `token:${tokenId}`,
    identityId && `identity:${identityId}`,
    workspaceId && `workspace:${workspaceId}`,
    credentialId && `credential:${credentialId}`,
  ]
  return parts.filter(Boolean).join('+')
}

/** Ends every lease of these credentials, by one counter for all: what they wait for is locked only once. */
export async function revokeLeasesOf(client: Client, credentialIds: readonly string[]): Promise<void> {
  await client.query(
    `with counted as (update policy set revocations = revocations + 1 returning revocations)
     insert into revocations (scope, counter)
     select scope, revocations from counted cross join unnest($1::text[]) scope order by scope
     on conflict (scope) do update set counter = excluded.counter, revoked_at = now()`,
    [credentialIds.map((credentialId) => textOf({ credentialId }))],
  )
}

/**
 * How many leases a revocation has ended: those in its scope that would be active without it. Looks at every lease that is
 * kept, so only operators ask for it.
 */
export async function countEndedLeases(
  client: Client,
  scope: RevocationScope,
  { counter, before }: Revocation,
): Promise<number> {
  const { workspaceId, credentialId, identityId } = scope
  const { rows } = await client.query(
    `select count(*) as ended from leases l
     where ($1::uuid is null or l.workspace_id = $1) and ($2::uuid is null or l.credential_id = $2)
       and ($3::uuid is null or l.identity_id = $3) and l.revocations >= $5 and l.revocations < $4
       and l.expires_at > now() and l.revoked_at is null and l.failed_at is null
       and not exists (select from revocations v where v.scope = any (${SCOPES}) and v.counter > l.revocations
         and v.counter <> $4)`,
    [workspaceId ?? null, credentialId ?? null, identityId ?? null, counter, before],
  )
  return rows[0].ended
}

/** Writes down what was read for leases of links. */
export async function noteLinkReads(client: Client, reads: readonly LinkNote[]): Promise<void> {
  await client.query(
    `update leases l set store_version = r.store_version, read_at = r.read_at
     from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as r (id, store_version, read_at) where l.id = r.id`,
    [
      reads.map((read) => read.leaseId),
      reads.map((read) => read.storeVersion ?? null),
      reads.map((read) => read.readAt),
    ],
  )
}
