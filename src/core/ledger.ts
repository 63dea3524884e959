import type { StreamHead } from './audit.ts'
import type { AuditSource } from './audit-verify.ts'
import type { Call, Caller, PresentedToken } from './calls.ts'
import type { ProblemCode } from './errors.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Copy, Lease, OtherCopy, RotationFailure } from './records.ts'
import type { Relocation } from './relocation.ts'
import type { Place } from './sealing.ts'

/** Whether a statement was committed is not known: its connection is closed, and nothing may be concluded. */
export class OutcomeUnknown extends Error {
  constructor(cause: unknown) {
    super('Whether the ledger committed is not known', { cause })
    this.name = 'OutcomeUnknown'
  }
}

/** The grants that the caller was judged by are no longer the newest: ask who he is, and judge again. */
export class CallerOutdated extends Error {
  constructor() {
    super('The policy has changed since the caller was judged')
    this.name = 'CallerOutdated'
  }
}

/** The ledger seals under another key than the one a copy was sealed with: seal again. */
export class SealingKeyChanged extends Error {
  readonly keyId: string

  constructor(keyId: string) {
    super('The ledger names another sealing key')
    this.name = 'SealingKeyChanged'
    this.keyId = keyId
  }
}

/** One request for a lease, as it waits for the next statement. */
export interface LeaseAsk {
  leaseId: string
  token: PresentedToken
  workspace: string
  credential: string
  version?: number | undefined
  ttlSeconds?: number | undefined
  runId?: string | undefined
  reason?: string | undefined
  call: Call
}

/** What the statement judged: a lease that is committed with its audit event, or the reason why there is none. */
export type LeaseVerdict =
  { granted: true; lease: Lease; copy: Copy } | { granted: false; code: ProblemCode; inWorkspace: boolean }

/** What one batch of a rotation did; `last` is where the next one goes on. */
export interface RotationStep {
  moved: number
  skipped: number
  /** Not written down yet. */
  failures: (RotationFailure & { copyId: string })[]
  last: { keyId: string; id: string }
}

/** A copy that a rotation takes, and what became of it. */
export type ResealCopies = (
  copies: readonly { keyId: string; sealed: string; place: Place }[],
) => Promise<({ newCopyId: string } & ({ sealed: string } | { code: ProblemCode }))[]>

/** What was read for a link's lease. */
export interface LinkNote {
  leaseId: string
  storeVersion?: string | undefined
  readAt: Date
}

/** What the core asks of the database. `src/postgres/` is the only implementation. */
export interface Ledger extends AuditSource {
  /** Who shows this token; undefined where nobody may. */
  authenticate(token: PresentedToken, deadlineAt: number): Promise<Caller | undefined>

  /**
   * Runs `act` in one transaction and commits it with the events that it recorded.
   *
   * @param caller Judged again in the transaction: his token is alive and his policy the newest.
   * @throws CallerOutdated where it is not; OutcomeUnknown where the commit was not answered;
   *   VaultError `unavailable` where the database is not there or the deadline has passed.
   */
  transaction<T>(
    call: Call,
    caller: Caller | undefined,
    act: (tx: LedgerTransaction) => Promise<T>,
  ): Promise<T>

  /**
   * Judges and records a batch of leases in one statement.
   *
   * @throws OutcomeUnknown where its answer did not come; any other error where nothing was written.
   */
  grantLeases(asks: readonly LeaseAsk[], deadlineAt: number): Promise<LeaseVerdict[]>
  /** Judges granted leases again, right now, in their order: the code that would refuse each. */
  judgeAgain(
    granted: readonly { ask: LeaseAsk; lease: Lease }[],
    deadlineAt: number,
  ): Promise<(ProblemCode | undefined)[]>
  /** Another copy with the same value: the one that is read now, else the source of an unfinished store migration. */
  otherCopy(copy: Copy, deadlineAt: number): Promise<OtherCopy | undefined>
  /** Writes down what was read for leases of links. */
  noteLinkReads(reads: readonly LinkNote[], deadlineAt: number): Promise<void>
  /** Marks leases as `failed`, where they exist, and says which do. */
  failLeases(leases: readonly { id: string; code: ProblemCode; call: Call }[]): Promise<string[]>
  /** The rotation that runs, if one does. */
  runningRotation(): Promise<{ id: string; toKey: string } | undefined>
  /**
   * Takes the next copies under other keys, after `after` in the order of (key, id), that no other process holds; has
   * them resealed, and replaces each by its new copy if it is still as it was taken. One transaction.
   *
   * @returns undefined where there is none after `after`.
   */
  moveCopies(
    rotation: { id: string; toKey: string },
    after: { keyId: string; id: string } | undefined,
    limit: number,
    reseal: ResealCopies,
  ): Promise<RotationStep | undefined>
  /** The store migration that runs, if one does. */
  runningRelocation(): Promise<Relocation | undefined>
  /** Where each of this process's streams stands. */
  heads(): StreamHead[]
}
