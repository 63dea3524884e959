import type { ProblemCode } from './errors.ts'

/** How a call ended: `refused` by a rule that the caller can mend, `failed` by us or a store. */
export type Outcome = 'allowed' | 'refused' | 'failed'

/** What is written down of one call; the call adds its address and request id, the ledger the rest. */
export interface AuditEntry {
  identity?: string | undefined
  /** The action that was needed, one of `ACTIONS`, or what the service did by itself, such as `sweep:purge`. */
  action: string
  outcome: Outcome
  code?: ProblemCode | undefined
  workspace?: string | undefined
  credential?: string | undefined
  version?: number | undefined
  lease?: string | undefined
  runId?: string | undefined
  reason?: string | undefined
  /** `unchanged` where nothing was new, `privilege` where someone was put in reach of leases or of administration. */
  mark?: 'unchanged' | 'privilege' | undefined
  /** What a reader of the trail needs besides: names and counts, never values. */
  detail?: string | undefined
}

/** An event as it stands in the ledger. */
export interface AuditEvent extends AuditEntry {
  id: string
  stream: string
  sequence: number
  /** RFC 3339 with microseconds, as it went into the hash. */
  recordedAt: string
  operation: string
  address?: string | undefined
  requestId?: string | undefined
  /** SHA-256, 64 hexadecimal digits. */
  hash: string
}

/** What a list of events is narrowed by; each that is given must hold. */
export interface AuditFilter {
  workspace?: string | undefined
  credential?: string | undefined
  identity?: string | undefined
  action?: string | undefined
  outcome?: Outcome | undefined
  from?: Date | undefined
  to?: Date | undefined
}

/** The newest event of a stream: what is kept elsewhere to notice a cut tail. */
export interface StreamHead {
  stream: string
  sequence: number
  hash: string
}

/** Refused is what the caller may mend, failed is what we or a store could not do. */
export function outcomeOf(code: ProblemCode): Outcome {
  const failed: readonly ProblemCode[] = [
    'internal',
    'copy_unreadable',
    'store_not_found',
    'store_denied',
    'store_rejected',
    'unavailable',
    'overloaded',
    'leasing_halted',
    'store_throttled',
    'store_unavailable',
  ]
  return failed.includes(code) ? 'failed' : 'refused'
}
