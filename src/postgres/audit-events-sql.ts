import type { AuditEvent, AuditFilter, StreamHead } from '../core/audit.ts'
import { ROOT_STREAM } from '../core/audit-verify.ts'
import type { Page, PageRequest } from '../core/calls.ts'
import type { Client } from './connections.ts'
import { pageOf } from './pages.ts'
import { uuidAt } from './partitions.ts'
import { withoutNulls } from './rows.ts'

const COLUMNS = `id, stream, sequence,
  to_char(recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "recordedAt", identity, action, operation,
  outcome, code, workspace, credential, version, lease, run_id as "runId", reason, address,
  request_id as "requestId", mark, detail, encode(hash, 'hex') as hash`

/** Newest first. A time in the filter is also a bound of the ids, so that only its partitions are read. */
export async function selectAuditEvents(
  client: Client,
  filter: AuditFilter,
  page: PageRequest,
): Promise<Page<AuditEvent>> {
  const { rows } = await client.query(
    `select ${COLUMNS} from audit_events
     where ($1::text is null or workspace = $1) and ($2::text is null or credential = $2)
       and ($3::text is null or identity = $3) and ($4::text is null or action = $4)
       and ($5::text is null or outcome = $5) and ($6::timestamptz is null or recorded_at >= $6)
       and ($7::timestamptz is null or recorded_at < $7) and ($8::uuid is null or id < $8)
       and ($9::uuid is null or id >= $9) and ($10::uuid is null or id < $10)
     order by id desc limit $11`,
    [
      filter.workspace ?? null,
      filter.credential ?? null,
      filter.identity ?? null,
      filter.action ?? null,
      filter.outcome ?? null,
      filter.from ?? null,
      filter.to ?? null,
      page.after?.[0] ?? null,
      filter.from ? uuidAt(filter.from.getTime() - CLOCKS_APART_MS) : null,
      filter.to ? uuidAt(filter.to.getTime() + CLOCKS_APART_MS) : null,
      page.limit + 1,
    ],
  )
  return pageOf(rows.map(withoutNulls<AuditEvent>), page.limit, (event) => [event.id])
}

// An id carries its process's time, `recorded_at` the database's.
const CLOCKS_APART_MS = 3600_000

/**
 * Every stream and its head, the root first. A stream that has events and no head of its own, which nobody but an
 * intruder can make, comes with the sequence 0.
 */
export async function selectStreams(client: Client): Promise<StreamHead[]> {
  // The distinct streams of the events, each found by one look into the index.
  const { rows } = await client.query(
    `with recursive seen as (
       (select stream from audit_events order by stream limit 1)
       union all
       select (select e.stream from audit_events e where e.stream > seen.stream order by e.stream limit 1)
       from seen where seen.stream is not null
     )
     select coalesce(s.stream, seen.stream) as stream, coalesce(s.sequence, 0) as sequence,
       encode(coalesce(s.hash, decode(repeat('00', 32), 'hex')), 'hex') as hash
     from (select * from audit_streams where sequence > 0) s
     full join (select stream from seen where stream is not null) seen on seen.stream = s.stream
     order by coalesce(s.stream, seen.stream) <> $1, 1`,
    [ROOT_STREAM],
  )
  return rows
}

/** The events of a stream from a sequence on, by sequence: that is what the index has. */
export async function selectStreamPage(
  client: Client,
  stream: string,
  from: number | undefined,
  limit: number,
): Promise<AuditEvent[]> {
  const { rows } = await client.query({
    name: 'stream page',
    text: STREAM_PAGE,
    values: [stream, from, limit],
  })
  return rows.map(withoutNulls<AuditEvent>)
}

/** Takes the stream, the first sequence or null, and how many. */
export const STREAM_PAGE = `
select ${COLUMNS} from audit_events
where stream = $1 and sequence >= coalesce($2::bigint, -9223372036854775808) order by sequence limit $3`
