/**
 * Chains events onto a stream, replaces its head, and records them: only if the head is the one last seen.
 *
 * Expects a relation `entries (ordinal, id, identity, action, operation, outcome, code, workspace, credential, version,
 * lease, run_id, reason, address, request_id, mark, detail)` and `$1`, `$2`, `$3`: the stream, and the sequence and hash
 * of its head. Gives `head (sequence, hash)`, which is empty where another head was found or nothing was to record.
 * The database makes time and hash. See `linkHash` in src/core/audit-verify.ts for the same in TypeScript.
 */
export const CHAIN = `
chained as materialized (
  select e.*, audit_chain($3::bytea, audit_canonical(e.id, e.stream, e.sequence, e.recorded_at, e.identity, e.action,
    e.operation, e.outcome, e.code, e.workspace, e.credential, e.version, e.lease, e.run_id, e.reason, e.address,
    e.request_id, e.mark, e.detail)) over (order by e.sequence rows unbounded preceding) as hash
  from (
    select $1::uuid as stream, $2::bigint + row_number() over (order by ordinal) as sequence, now() as recorded_at,
      entries.*
    from entries
  ) e
),
head as (
  update audit_streams s set sequence = l.sequence, hash = l.hash
  from (select sequence, hash from chained order by sequence desc limit 1) l
  where s.stream = $1::uuid and s.sequence = $2::bigint and s.hash = $3::bytea
  returning s.sequence, s.hash
),
recorded as (
  insert into audit_events (id, stream, sequence, recorded_at, identity, action, operation, outcome, code, workspace,
    credential, version, lease, run_id, reason, address, request_id, mark, detail, hash)
  select id, stream, sequence, recorded_at, identity, action, operation, outcome, code, workspace, credential, version,
    lease, run_id, reason, address, request_id, mark, detail, hash
  from chained where exists (select from head)
)`

/** Appends events that are given as arrays, one for each column. */
export const APPEND = `
with entries as (
  select * from unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
    $12::integer[], $13::uuid[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[])
  with ordinality as e (id, identity, action, operation, outcome, code, workspace, credential, version, lease, run_id,
    reason, address, request_id, mark, detail, ordinal)
),
${CHAIN}
select sequence, hash from head`
