import { CHAIN } from './audit-sql.ts'
import { OUTSIDE } from './copies-sql.ts'

const TTL_SECONDS = 'greatest(1, floor(extract(epoch from expires_at - issued_at)))::integer'

/**
 * The judgement of lease requests, for a whole batch of callers at once: token, grants, credential and copy.
 *
 * The same text judges when a lease is granted, renewed, and looked at again before a value leaves. Nothing is
 * locked and nothing is written here; every join goes by an index.
 *
 * Expects a relation `asked (ordinal, token_id, proof, workspace, credential, version, ttl_seconds)` and
 * `nonce`, the parameter under which `proof` is the SHA-256 of the token's digest: so the comparison tells nothing of the digest.
 */
const judgedUnder = (nonce: string): string => `
judged as materialized (
  select a.*, now() as issued_at, p.revocations,
    i.id as identity_id, i.name as identity, c.version as version_newest, coalesce(g.in_workspace, false) as in_workspace,
    w.id as workspace_id, c.id as credential_id, c.connector, k.store, k.version as copy_version, k.id as copy_id,
    k.key_id, k.token as sealed, ${OUTSIDE} as outside,
    least(now() + make_interval(secs => least(coalesce(a.ttl_seconds, 900), g.ttl_seconds_max)), t.expires_at,
      c.expires_at) as expires_at,
    case
      when i.id is null then 'unauthenticated'
      when c.id is null or g.may_know is not true then 'not_found'
      when g.may_lease is not true then 'forbidden'
      when p.leasing_halted then 'leasing_halted'
      when a.version > c.version then 'not_found'
      when k.id is null then 'version_gone'
      when c.expires_at <= now() then 'credential_expired'
    end as code
  from asked a
  cross join policy p
  left join tokens t on t.id = a.token_id and t.expires_at > now() and sha256(${nonce}::bytea || t.digest) = a.proof
  left join identities i on i.id = t.identity_id
  left join workspaces w on w.name = a.workspace
  left join credentials c on c.workspace_id = w.id and c.name = a.credential and c.state = 'active'
  left join lateral (
    select true as in_workspace, bool_or(o.covered) as may_know, bool_or(o.covered and o.leases) as may_lease,
      max(o.ttl_seconds_max) filter (where o.covered and o.leases) as ttl_seconds_max
    from (
      select grant_covers(r.workspaces, r.connectors, r.credentials, r.labels, a.workspace, c.connector, c.name,
          c.labels) as covered,
        'lease:issue' = any (r.actions) as leases, coalesce(r.lease_ttl_seconds_max, 3600) as ttl_seconds_max
      from identity_roles ir
      join role_grants r on r.role_id = ir.role_id
      where ir.identity_id = i.id and w.id is not null and w.name like any (r.workspaces)
      offset 0
    ) o
    having count(*) > 0
  ) g on true
  left join copies k on k.credential_id = c.id and k.version = coalesce(a.version, c.version)
    and k.state in ('current', 'kept')
)`

/**
 * Judges, records leases and audit events, and replaces the stream's head, in one statement.
 *
 * `head_sequence` is null where the head was not the one last seen: then nothing was written.
 */
export const GRANT = `
with asked as (
  select * from unnest($5::text[], $6::bytea[], $7::text[], $8::text[], $9::integer[], $10::integer[], $11::uuid[],
    $12::uuid[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[])
  with ordinality as a (token_id, proof, workspace, credential, version, ttl_seconds, lease_id, event_id, run_id,
    reason, address, request_id, operation, ordinal)
),
${judgedUnder('$4')},
entries as (
  select ordinal, event_id as id, identity, 'lease:issue' as action, operation,
    case when code is null then 'allowed' when code = 'leasing_halted' then 'failed' else 'refused' end as outcome, code,
    nullif(workspace, '') as workspace, nullif(credential, '') as credential, coalesce(version, copy_version) as version,
    case when code is null then lease_id end as lease, run_id, reason, address, request_id, null::text as mark,
    null::text as detail
  from judged where identity_id is not null
),
${CHAIN},
issued as (
  insert into leases (id, token_id, identity_id, identity, workspace_id, workspace, credential_id, credential, connector,
    version, run_id, reason, revocations, issued_at, expires_at, ttl_seconds)
  select lease_id, token_id, identity_id, identity, workspace_id, workspace, credential_id, credential, connector,
    copy_version, run_id, reason, revocations, issued_at, expires_at, ${TTL_SECONDS}
  from judged where code is null and exists (select from head)
)
select j.code, j.in_workspace, j.identity, j.credential_id, j.connector, j.store, j.copy_version,
  j.copy_version < j.version_newest as superseded, j.copy_id, j.key_id,
  case when j.code is null then j.sealed end as sealed, j.outside, j.issued_at, j.expires_at, ${TTL_SECONDS} as ttl_seconds,
  h.sequence as head_sequence, h.hash as head_hash
from judged j left join head h on true
order by j.ordinal`

/** Judges only: for a renewal, and before a value leaves late. */
export const JUDGE = `
with asked as (
  select * from unnest($2::text[], $3::bytea[], $4::text[], $5::text[], $6::integer[], $7::integer[])
  with ordinality as a (token_id, proof, workspace, credential, version, ttl_seconds, ordinal)
),
${judgedUnder('$1')}
select code, credential_id, expires_at from judged order by ordinal`
