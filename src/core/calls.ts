import type { Grant } from './grants.ts'

/** One request on its way: what every step needs to know of it. */
export interface Call {
  readonly requestId: string
  /** The address of the one who calls, as the audit trail writes it. */
  readonly address: string
  /** The `operationId` of the route, or the command's name. */
  readonly operation: string
  /** When the answer must be given, on the clock of `performance.now()`, in milliseconds. */
  readonly deadlineAt: number
}

/** What a caller shows, after the check of its form: nothing of it is known to be true. */
export interface PresentedToken {
  readonly id: string
  /** SHA-256 of the token's text before its checksum, 32 bytes. */
  readonly digest: Buffer
}

/** Who calls, as the ledger knew it at `policyVersion`. */
export interface Caller {
  readonly token: PresentedToken
  readonly identityId: string
  readonly identity: string
  readonly roles: readonly string[]
  readonly grants: readonly Grant[]
  readonly expiresAt: Date
  /** The policy that the grants were read at; where it is no longer the newest they are worth nothing. */
  readonly policyVersion: number
}

/** A page of a list: up to `limit` items after the one that `after` names. */
export interface PageRequest {
  readonly limit: number
  /** The key of the last row shown, as the list itself wrote it. */
  readonly after?: readonly string[]
}

/** `next` is the key of the last row shown, where more rows follow. */
export interface Page<T> {
  readonly items: T[]
  readonly next?: readonly string[]
}

/**
 * A judgement that is older is repeated before an answer leaves. A revocation counts everywhere within a second: that
 * leaves the other half of it for the answer's way.
 */
export const JUDGEMENT_MS_MAX = 500

/** How long the service's own work in the background may take for one transaction. */
export const STEP_MS = 30_000

/** A call of the service itself. */
export function ownCall(operation: string, deadlineMs: number): Call {
  return { requestId: operation, address: 'local', operation, deadlineAt: performance.now() + deadlineMs }
}
