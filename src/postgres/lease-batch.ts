import { randomBytes } from 'node:crypto'
import type { ProblemCode } from '../core/errors.ts'
import type { LeaseAsk, LeaseVerdict } from '../core/ledger.ts'
import type { Lease } from '../core/records.ts'
import { copyOf } from './copies-sql.ts'
import { namesLiteral, proofOf } from './leases-sql.ts'

/** One row of what `GRANT` answers, by place. */
export type VerdictRow = [
  ordinal: number,
  code: ProblemCode | null,
  inWorkspace: boolean | null,
  identity: string | null,
  credentialId: string,
  connector: string,
  store: string | null,
  copyVersion: number,
  superseded: true | null,
  copyId: string,
  keyId: string | null,
  sealed: string | null,
  outside: string | null,
  ttlSeconds: number,
  expiresAt: Date | null,
  issuedAt: Date | null,
  headSequence: number | null,
  headHash: Buffer | null,
]

/** Places in a {@link VerdictRow}; of the head, the first of two. */
export const PLACE = { ordinal: 0, identity: 3, head: 16 } as const
const ISSUED_AT = 15

/**
 * What `GRANT` takes after the stream. Asks of one call come one after another: where they differ only in credential and lease
 * they are one request, whose caller is proved and looked up once.
 */
export function requestColumns(asks: readonly LeaseAsk[]): unknown[] {
  const nonce = randomBytes(16)
  const firsts: number[] = []
  const credentials: string[] = []
  const leaseIds: string[] = []
  for (let first = 0, end = 0; first < asks.length; first = end) {
    while (end < asks.length && isSameRequest(asks[first]!, asks[end]!)) end++
    const same = asks.slice(first, end)
    firsts.push(first)
    credentials.push(namesLiteral(same.map((ask) => ask.credential)))
    leaseIds.push(`{${same.map((ask) => ask.leaseId).join(',')}}`)
  }
  const requests = firsts.map((first) => asks[first]!)
  return [
    nonce,
    firsts,
    requests.map((ask) => ask.token.id),
    requests.map((ask) => proofOf(nonce, ask.token)),
    requests.map((ask) => ask.workspace),
    requests.map((ask) => ask.version ?? null),
    requests.map((ask) => ask.ttlSeconds ?? null),
    credentials,
    leaseIds,
    requests.map((ask) => ask.runId ?? null),
    requests.map((ask) => ask.reason ?? null),
    requests.map((ask) => ask.call.address),
    requests.map((ask) => ask.call.requestId),
    requests.map((ask) => ask.call.operation),
  ]
}

function isSameRequest(one: LeaseAsk, other: LeaseAsk): boolean {
  if (one === other) return true
  return (
    one.call === other.call &&
    one.token === other.token &&
    one.workspace === other.workspace &&
    one.version === other.version &&
    one.ttlSeconds === other.ttlSeconds &&
    one.runId === other.runId &&
    one.reason === other.reason
  )
}

/** The verdicts in the order of the asks. */
export function verdictsOf(asks: readonly LeaseAsk[], rows: readonly VerdictRow[]): LeaseVerdict[] {
  const issuedAt = rows.find((row) => row[PLACE.ordinal] === 0)![ISSUED_AT]!.getTime()
  const verdicts = new Array<LeaseVerdict>(asks.length)
  for (const row of rows) verdicts[row[PLACE.ordinal]] = verdictOf(asks[row[PLACE.ordinal]]!, row, issuedAt)
  return verdicts
}

function verdictOf(ask: LeaseAsk, row: VerdictRow, issuedAt: number): LeaseVerdict {
  const [, code, inWorkspace, identity, credentialId, connector, store, version, superseded] = row
  if (code !== null) return { granted: false, code, inWorkspace: inWorkspace! }
  const [, , , , , , , , , id, keyId, sealed, outside, ttlSeconds, expiresAt] = row
  const lease: Lease = {
    id: ask.leaseId,
    workspace: ask.workspace,
    credential: ask.credential,
    credentialId,
    connector,
    version,
    identity: identity!,
    runId: ask.runId,
    reason: ask.reason,
    state: 'active',
    superseded: superseded ?? false,
    issuedAt: new Date(issuedAt),
    expiresAt: expiresAt ?? new Date(issuedAt + ttlSeconds * 1000),
    ttlSeconds,
  }
  const copy = copyOf({ id, credentialId, version, store: store ?? 'local', keyId, sealed, outside })
  return { granted: true, lease, copy }
}
