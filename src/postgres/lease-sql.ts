import { CHAIN } from './audit-sql.ts'
import { OUTSIDE } from './copies-sql.ts'

/**
 * For connections that run {@link GRANT}: it joins by indexes whatever the size of the tables, while for small ones the
 * planner would rather scan.
 */
export const LEASE_SETTINGS = [
  'enable_seqscan=off',
  'enable_hashjoin=off',
  'enable_mergejoin=off',
  'enable_memoize=off',
  'plan_cache_mode=force_generic_plan',
]

// Not `extract`, which since PostgreSQL 14 counts in `numeric`.
const TTL_SECONDS = `greatest(1, floor(date_part('epoch', expires_at - issued_at)))::integer`

/**
 * The judgement of lease requests, for a whole batch of callers at once: token, grants, credential and copy.
 *
 * The same text judges when a lease is granted, renewed, and looked at again before a value leaves. Nothing is
 * locked and nothing is written here; every join goes by an index.
 *
 * Expects a relation `requests (first, token_id, proof, workspace, version, ttl_seconds, credentials, lease_ids)`, one row for
 * each caller's request: what is known of him is looked up once for all the credentials in it. The last two are array
 * literals, `first` is the number of the first credential among all. Also `nonce`, the parameter under which `proof` is the
 * SHA-256 of the token's digest: so the comparison tells nothing of the digest. And `noted`, further columns of `requests r`
 * that go along with the judgement: each column is copied several times for every lease, so only what is used later is here,
 * and what is used most stands first. `offset 0` keeps each look-up whole: all columns of its index are used, whatever the
 * planner thinks of the tables around it.
 */
const judgedUnder = (nonce: string, noted = ''): string => `
callers as (
  select r.*, p.revocations, p.leasing_halted, i.id as identity_id, i.name as identity,
    t.expires_at as token_expires_at, w.id as workspace_id
  from requests r
  cross join policy p
  left join tokens t on t.id = r.token_id and t.expires_at > now() and sha256(${nonce}::bytea || t.digest) = r.proof
  left join identities i on i.id = t.identity_id
  left join workspaces w on w.name = r.workspace
  offset 0
),
judged as materialized (
  select r.first + a.position - 1 as ordinal, r.identity_id,
    case
      when r.identity_id is null then 'unauthenticated'
      when c.id is null or g.may_know is not true then 'not_found'
      when g.may_lease is not true then 'forbidden'
      when r.leasing_halted then 'leasing_halted'
      when r.version > c.version then 'not_found'
      when k.id is null then 'version_gone'
      when c.expires_at <= now() then 'credential_expired'
    end as code,
    ${noted} a.lease_id, r.token_id, r.identity, r.workspace_id, r.workspace, c.id as credential_id,
    a.credential, c.connector, r.version, k.version as copy_version, r.revocations, now() as issued_at,
    least(now() + make_interval(secs => least(coalesce(r.ttl_seconds, 900), g.ttl_seconds_max)), r.token_expires_at,
      c.expires_at) as expires_at,
    c.version as version_newest, coalesce(g.in_workspace, false) as in_workspace, k.store, k.id as copy_id, k.key_id,
    ${OUTSIDE} as outside, k.token as sealed
  from callers r
  cross join lateral unnest(r.credentials::text[], r.lease_ids::uuid[]) with ordinality as a (credential, lease_id, position)
  left join lateral (
    select * from credentials c
    where c.workspace_id = r.workspace_id and c.name = a.credential and c.state = 'active'
    offset 0
  ) c on true
  left join lateral (
    select true as in_workspace, bool_or(o.covered) as may_know, bool_or(o.covered and o.leases) as may_lease,
      max(o.ttl_seconds_max) filter (where o.covered and o.leases) as ttl_seconds_max
    from (
      select grant_covers(g.workspaces, g.connectors, g.credentials, g.labels, r.workspace, c.connector, c.name,
          c.labels) as covered,
        'lease:issue' = any (g.actions) as leases, coalesce(g.lease_ttl_seconds_max, 3600) as ttl_seconds_max
      from identity_roles ir
      join role_grants g on g.role_id = ir.role_id
      where ir.identity_id = r.identity_id and r.workspace_id is not null and r.workspace like any (g.workspaces)
      offset 0
    ) o
    having count(*) > 0
  ) g on true
  left join lateral (
    select * from copies k
    where k.credential_id = c.id and k.version = coalesce(r.version, c.version) and k.state in ('current', 'kept')
    offset 0
  ) k on true
)`

/**
 * Judges, records leases and audit events, and replaces the stream's head, in one statement.
 *
 * Answers in no order, by `ordinal`, and each row bears only what others do not say: the head and the time of issue are in
 * the row of ordinal 0, the end where it is not `ttl_seconds` after, the store where it is not `local`. The event of a
 * lease has its id: another one would be made, sent and read for nothing. `head_sequence` is null where the head was not
 * the one last seen: then nothing was written. The parameters are taken apart in the select list: in `from`, each of them
 * would be put into a store of its own first.
 */
export const GRANT = `
with requests as (
  select unnest($5::integer[]) as first, unnest($6::text[]) as token_id, unnest($7::bytea[]) as proof,
    unnest($8::text[]) as workspace, unnest($9::integer[]) as version, unnest($10::integer[]) as ttl_seconds,
    unnest($11::text[]) as credentials, unnest($12::text[]) as lease_ids, unnest($13::text[]) as run_id,
    unnest($14::text[]) as reason, unnest($15::text[]) as address, unnest($16::text[]) as request_id,
    unnest($17::text[]) as operation
),
${judgedUnder('$4', 'r.operation, r.run_id, r.reason, r.address, r.request_id,')},
entries as (
  select ordinal, lease_id as id, identity, 'lease:issue' as action, operation,
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
select ordinal::integer, code, case when code is not null then in_workspace end, identity, credential_id, connector,
  nullif(store, 'local'), copy_version, nullif(copy_version < version_newest, false), copy_id, key_id,
  case when code is null then sealed end, outside, ${TTL_SECONDS},
  nullif(expires_at, issued_at + make_interval(secs => ${TTL_SECONDS})),
  case when ordinal = 0 then issued_at end,
  case when ordinal = 0 then (select sequence from head) end,
  case when ordinal = 0 then (select hash from head) end
from judged`

/** Judges only: for a renewal, and before a value leaves late. */
export const JUDGE = `
with requests as (
  select *, null::text as lease_ids
  from unnest($2::integer[], $3::text[], $4::bytea[], $5::text[], $6::integer[], $7::integer[], $8::text[])
  as r (first, token_id, proof, workspace, version, ttl_seconds, credentials)
),
${judgedUnder('$1')}
select code, expires_at from judged order by ordinal`
