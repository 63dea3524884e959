import { hash } from 'node:crypto'
import type { AuditEvent, StreamHead } from './audit.ts'
import { isUuid } from './names.ts'

/** What the verification found in one stream. */
export interface StreamVerification {
  stream: string
  events: number
  head?: StreamHead | undefined
  valid: boolean
  /** The sequence at which the chain first breaks. */
  firstBad?: number | undefined
}

/** What the verification found in all streams. */
export interface AuditVerification {
  valid: boolean
  /** Whether heads kept elsewhere were given and all of them hold. */
  anchored: boolean
  streams: StreamVerification[]
}

/** What the verification reads. */
export interface AuditSource {
  /** Every stream, the root first; sequence 0 where there are events and no head. */
  auditStreams(): Promise<StreamHead[]>
  /** The events of a stream from a sequence on, or from its first, by sequence. */
  auditPage(stream: string, from: number | undefined, limit: number): Promise<AuditEvent[]>
}

const PAGE = 1000
const NOTHING = '0'.repeat(64)
/** The stream in which every other one is opened: known from the start. */
export const ROOT_STREAM = '00000000-0000-0000-0000-000000000000'

/**
 * Makes every hash anew, from the first event of every stream, and compares it with the next, with the stream's own
 * head, with the heads that the root stream names, and with `heads`, which somebody kept elsewhere.
 *
 * @param range Only events recorded in it are counted and judged; each stream's first one in it is taken as it stands.
 */
export async function verifyStreams(
  source: AuditSource,
  range: { from?: Date | undefined; to?: Date | undefined },
  heads: readonly StreamHead[],
): Promise<AuditVerification> {
  const recorded = await source.auditStreams()
  const anchors = new Map<string, StreamHead[]>()
  const anchor = (head: StreamHead): void => {
    anchors.set(head.stream, [...(anchors.get(head.stream) ?? []), head])
  }
  for (const head of [...recorded, ...heads]) anchor(head)

  const streams: StreamVerification[] = []
  const verify = async (stream: string): Promise<void> => {
    const verification = await verifyStream(source, stream, range, anchors.get(stream) ?? [], (event) => {
      const named = stream === ROOT_STREAM ? namedHeads(event) : []
      named?.forEach(anchor)
      return named !== undefined
    })
    streams.push(verification)
  }
  // The root comes first: what it names is held against the others.
  await verify(ROOT_STREAM)
  for (const stream of anchors.keys()) if (stream !== ROOT_STREAM) await verify(stream)

  const valid = streams.every((stream) => stream.valid)
  const anchored =
    heads.length > 0 && heads.every(({ stream }) => streams.find((one) => one.stream === stream)?.valid)
  return { valid, anchored, streams }
}

async function verifyStream(
  source: AuditSource,
  stream: string,
  range: { from?: Date | undefined; to?: Date | undefined },
  anchors: readonly StreamHead[],
  /** Answers whether the event can be what it says. */
  onEvent: (event: AuditEvent) => boolean,
): Promise<StreamVerification> {
  // Heads by sequence: the event there must have that hash.
  const expected = new Map<number, Set<string>>()
  for (const { sequence, hash } of anchors) {
    expected.set(sequence, (expected.get(sequence) ?? new Set()).add(hash))
  }
  const from = range.from && microseconds(range.from)
  const to = range.to && microseconds(range.to)
  let before = { sequence: 0, hash: NOTHING }
  let counted = 0
  let head: StreamHead | undefined
  let firstBad: number | undefined
  const bad = (sequence: number): void => {
    firstBad = Math.min(firstBad ?? sequence, sequence)
  }
  const judge = (event: AuditEvent, inRange: boolean): void => {
    if (inRange) counted++
    // We begin with 1.
    if (event.sequence < 1) return inRange ? bad(0) : undefined
    const told = onEvent(event)
    if (inRange) {
      const follows = event.sequence === before.sequence + 1
      if (!told || !follows || linkHash(before.hash, event) !== event.hash)
        bad(Math.min(event.sequence, before.sequence + 1))
      const heads = expected.get(event.sequence)
      if (heads && (heads.size > 1 || !heads.has(event.hash))) bad(event.sequence)
      head = { stream, sequence: event.sequence, hash: event.hash }
    }
    before = { sequence: event.sequence, hash: event.hash }
  }
  // A page begins where the last one ended: an intruder may have given several events one sequence.
  let last: { sequence: number; ids: Set<string> } | undefined
  for (;;) {
    const page = await source.auditPage(stream, last?.sequence, PAGE)
    const unread = page.filter(({ id }) => !last?.ids.has(id))
    if (unread.length === 0) break
    // No number of ours: from there on one event cannot be told from the next.
    const strange = unread.findIndex(({ sequence }) => !Number.isSafeInteger(sequence))
    for (const event of strange < 0 ? unread : unread.slice(0, strange)) {
      judge(event, (!from || event.recordedAt >= from) && (!to || event.recordedAt < to))
      if (last?.sequence === event.sequence) last.ids.add(event.id)
      else last = { sequence: event.sequence, ids: new Set([event.id]) }
    }
    if (strange < 0) continue
    bad(before.sequence + 1)
    break
  }
  // No head of its own: somebody else wrote these events.
  if (expected.has(0) && counted > 0) bad(1)
  // A head beyond the last event: the tail was cut off.
  for (const sequence of expected.keys()) if (sequence > before.sequence) bad(before.sequence + 1)
  return { stream, events: counted, head, valid: firstBad === undefined, firstBad }
}

/** In the form of `recordedAt`, so that comparing the texts compares the times. */
function microseconds(time: Date): string {
  return time.toISOString().replace('Z', '000Z')
}

/** SHA-256 over the hash before and the canonical JSON array of the event's columns: as `audit_canonical` in SQL. */
export function linkHash(before: string, event: AuditEvent): string {
  const columns = [
    event.id,
    event.stream,
    event.sequence,
    event.recordedAt,
    event.identity,
    event.action,
    event.operation,
    event.outcome,
    event.code,
    event.workspace,
    event.credential,
    event.version,
    event.lease,
    event.runId,
    event.reason,
    event.address,
    event.requestId,
    event.mark,
    event.detail,
  ]
  // PostgreSQL writes a comma and a space between members.
  const canonical = `[${columns.map((column) => JSON.stringify(column ?? null)).join(', ')}]`
  return hash('sha256', Buffer.concat([Buffer.from(before, 'hex'), Buffer.from(canonical)]), 'hex')
}

/** The heads that an opening event in the root stream names; anything else names none. Undefined for one that is none of ours. */
function namedHeads(event: AuditEvent): StreamHead[] | undefined {
  if (event.action !== 'audit:open-stream') return []
  try {
    const { heads } = JSON.parse(event.detail ?? '') as { heads: [string, number, string][] }
    const named = heads.map(([stream, sequence, hash]) => ({ stream, sequence, hash }))
    return named.every(({ stream }) => typeof stream === 'string' && isUuid(stream)) ? named : undefined
  } catch {
    return undefined
  }
}
