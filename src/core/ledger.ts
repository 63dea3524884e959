import type { AuditEntry, AuditEvent, AuditFilter, StreamHead } from './audit.ts'
import type { AuditSource } from './audit-verify.ts'
import type { Call, Caller, Page, PageRequest, PresentedToken } from './calls.ts'
import type { ProblemCode } from './errors.ts'
import type { Grant } from './grants.ts'
import type {
  Copy,
  Credential,
  CredentialChange,
  CredentialFilter,
  Identity,
  KeyRecord,
  Lease,
  LeaseFilter,
  NewCredential,
  NewVersion,
  Role,
  Rotation,
  RotationFailure,
  TokenRecord,
  Version,
  Workspace,
} from './records.ts'
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

/** What one transaction may do. Events that it records are chained and committed with it. */
export interface LedgerTransaction {
  record(entry: AuditEntry): void

  workspace(name: string): Promise<Workspace | undefined>
  putWorkspace(
    name: string,
    defaultStore: string | undefined,
  ): Promise<{ workspace: Workspace; created: boolean }>
  deleteWorkspace(id: string): Promise<'deleted' | 'in_use'>
  workspaces(page: PageRequest): Promise<Page<Workspace>>

  /** Locks the policy, so that of two changes to who may do what one waits; raises its version. */
  changePolicy(): Promise<void>
  role(name: string): Promise<Role | undefined>
  putRole(name: string, grants: Grant[]): Promise<{ role: Role; created: boolean }>
  deleteRole(name: string): Promise<'deleted' | 'in_use' | 'missing'>
  roles(page: PageRequest): Promise<Page<Role>>
  identity(name: string): Promise<Identity | undefined>
  /** @returns undefined where one of the roles does not exist. */
  putIdentity(name: string, roles: string[]): Promise<{ identity: Identity; created: boolean } | undefined>
  deleteIdentity(id: string): Promise<void>
  identities(page: PageRequest): Promise<Page<Identity>>
  /** The grants of every identity's roles taken together. */
  grantsOf(identityId: string): Promise<Grant[]>
  /** How many identities hold `admin:*`. */
  administrators(): Promise<number>
  insertToken(identityId: string, token: PresentedToken, expiresInSeconds: number): Promise<TokenRecord>
  deleteToken(identityId: string, tokenId: string): Promise<boolean>
  tokens(identityId: string, page: PageRequest): Promise<Page<TokenRecord>>

  /** The active credential of that name, locked against other writers where `lock` is set. */
  credential(workspaceId: string, name: string, lock?: boolean): Promise<Credential | undefined>
  /** Every deleted credential that had this name, newest deletion first, locked. */
  deletedCredentials(workspaceId: string, name: string): Promise<Credential[]>
  /** @returns undefined where the name is taken. */
  insertCredential(credential: NewCredential): Promise<Credential | undefined>
  updateCredential(id: string, change: CredentialChange): Promise<Credential>
  credentials(
    identityId: string,
    workspaceId: string,
    filter: CredentialFilter,
    page: PageRequest,
  ): Promise<Page<Credential>>
  /** Makes a credential `deleted`: it can be restored. */
  deleteCredential(id: string): Promise<void>
  /** Gone for good: its sealed values are erased at once, its copies are dropped and its row is forgotten. */
  purgeCredential(id: string): Promise<void>
  /** @returns undefined where the name is in use again. */
  restoreCredential(id: string): Promise<Credential | undefined>

  /** The readable copy of a version, `current` or `kept`. */
  copy(credentialId: string, version: number): Promise<Copy | undefined>
  /**
   * Makes `version` current with one local copy, keeps the newest `versionsKept`, and erases what falls out.
   *
   * @throws SealingKeyChanged where `keyId` is not the sealing key.
   */
  insertVersion(version: NewVersion, versionsKept: number): Promise<void>
  versions(credentialId: string, page: PageRequest): Promise<Page<Version>>
  dropVersion(credentialId: string, version: number): Promise<boolean>

  lease(id: string): Promise<(Lease & { identityId: string; labels: Record<string, string> }) | undefined>
  /** @param readsOthers Whether the identity may `lease:read` anywhere. */
  leases(
    identityId: string,
    readsOthers: boolean,
    filter: LeaseFilter,
    page: PageRequest,
  ): Promise<Page<Lease>>
  /** Judges a lease anew, as a new one would be, without granting it. */
  judge(token: PresentedToken, ask: JudgeAsk): Promise<Judgement>
  renewLease(id: string, expiresAt: Date): Promise<void>
  revokeLease(id: string): Promise<void>
  /** Ends every lease in the scope, also those whose statement is still on its way. */
  revokeLeases(scope: RevocationScope): Promise<Revocation>
  /** How many leases that revocation has ended. */
  countEndedLeases(scope: RevocationScope, revocation: Revocation): Promise<number>

  /** The next credentials whose time to be purged has come, locked; those that another sweep holds are passed over. */
  duePurges(recoverySeconds: number, limit: number): Promise<Credential[]>
  /** Forgets dropped and replaced copies that nothing outside the ledger keeps. @returns how many */
  forgetCopies(graceSeconds: number, limit: number): Promise<number>
  /** Forgets leases that ended longer ago than this. @returns how many */
  forgetLeases(retentionSeconds: number, limit: number): Promise<number>
  /** Forgets revocations that no remembered lease can be older than, and tokens long expired. @returns how many */
  forgetRevocations(retentionSeconds: number): Promise<number>
  /** Writes down what was used lately, unless that is written down for the last hour. */
  touch(credentialIds: readonly string[], tokenIds: readonly string[]): Promise<void>

  keys(page: PageRequest): Promise<Page<KeyRecord>>
  /**
   * Locks the table of keys, counts what is sealed under others, makes `keyId` the sealing key, and names the rotation.
   * Refuses where one runs, and where living processes do not know the key: these are named.
   */
  beginRotation(
    keyId: string,
    startedBy: string,
  ): Promise<Rotation | 'already_running' | { ignorant: string[] }>
  rotation(id: string): Promise<Rotation | undefined>
  rotations(page: PageRequest): Promise<Page<Rotation>>
  /** Keeps what could not be moved, and counts it. @returns those that were not known yet */
  recordRotationFailures(
    rotationId: string,
    failures: readonly (RotationFailure & { copyId: string })[],
  ): Promise<RotationFailure[]>
  endRotation(id: string, state: 'done' | 'failed' | 'cancelled'): Promise<void>
  /**
   * Locks the table of keys, then counts the sealed copies under other keys than the rotation's: so zero stays zero.
   * `failed` are those that the rotation could not move, `left` all others, or 1 where a look without the lock finds any.
   */
  countUnmoved(rotation: { id: string; toKey: string }): Promise<{ left: number; failed: number }>
  auditEvents(filter: AuditFilter, page: PageRequest): Promise<Page<AuditEvent>>
}

/** A lease as it is judged again. */
export interface JudgeAsk {
  workspace: string
  credential: string
  version: number
  ttlSeconds?: number | undefined
}

/** The code that refuses, or until when the lease may last. */
export interface Judgement {
  code?: ProblemCode | undefined
  credentialId?: string | undefined
  expiresAt?: Date | undefined
}

/** Leases whose own counter is below `counter` have ended; those below `before` had been ended by the same scope already. */
export interface Revocation {
  counter: number
  before: number
}

/** Every id that is given must match. */
export interface RevocationScope {
  workspaceId?: string | undefined
  credentialId?: string | undefined
  identityId?: string | undefined
  tokenId?: string | undefined
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
  /** Where each of this process's streams stands. */
  heads(): StreamHead[]
}
