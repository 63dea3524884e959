import type { AuditEntry, AuditEvent, AuditFilter } from './audit.ts'
import type { Page, PageRequest, PresentedToken } from './calls.ts'
import type { ProblemCode } from './errors.ts'
import type { Grant } from './grants.ts'
import type {
  Copy,
  Credential,
  CredentialChange,
  CredentialFilter,
  DroppedCopy,
  Identity,
  KeyRecord,
  Lease,
  LeaseFilter,
  LedgerHome,
  NamedCopy,
  NewCredential,
  NewVersion,
  Role,
  Rotation,
  RotationFailure,
  StoreCopies,
  TokenRecord,
  Version,
  Workspace,
} from './records.ts'
import type {
  Carried,
  Claim,
  Claiming,
  Heading,
  NotedStay,
  Relocation,
  RelocationPlan,
  RelocationState,
  Route,
  StayCount,
} from './relocation.ts'

/** What one transaction may do. Events that it records are chained and committed with it. */
export interface LedgerTransaction {
  record(entry: AuditEntry): void
  /** Each of its statements may take so long, however short those of requests are cut. */
  mayTake(ms: number): Promise<void>

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
  /** The grants of all roles of one identity. */
  grantsOf(identityId: string): Promise<Grant[]>
  /** How many identities hold `admin:*`. */
  administrators(): Promise<number>
  insertToken(identityId: string, token: PresentedToken, expiresInSeconds: number): Promise<TokenRecord>
  deleteToken(identityId: string, tokenId: string): Promise<boolean>
  tokens(identityId: string, page: PageRequest): Promise<Page<TokenRecord>>

  /** The active credential of that name. */
  credential(workspaceId: string, name: string): Promise<Credential | undefined>
  /** Every credential that has or had this name: the active one, then the deleted, newest deletion first. */
  credentialsNamed(workspaceId: string, name: string): Promise<Credential[]>
  /** Those of these that there still are, as they are now, in whatever state and in no order: nobody else changes them. */
  lockCredentials(ids: readonly string[]): Promise<Credential[]>
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
  /** Names an external copy as `pending`, before its store is asked to keep it. */
  nameCopy(copy: NamedCopy): Promise<void>
  /**
   * Makes `version` current with its only copy, keeps the newest `versionsKept`, and erases what falls out. Of the sources
   * of an unfinished store migration it keeps the newest `sourcesKept`.
   *
   * @throws SealingKeyChanged where it is sealed under another key than the sealing key; VaultError `unavailable` where
   *   the copy that was named is no longer pending.
   */
  insertVersion(version: NewVersion, versionsKept: number, sourcesKept: number): Promise<void>
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
  /** Ends every lease of these credentials. */
  revokeLeasesOf(credentialIds: readonly string[]): Promise<void>
  /** How many leases that revocation has ended. */
  countEndedLeases(scope: RevocationScope, revocation: Revocation): Promise<number>

  /** The next credentials whose time to be purged has come, locked; those that another sweep holds are passed over. */
  duePurges(recoverySeconds: number, limit: number): Promise<Credential[]>
  /** Forgets dropped and replaced copies that nothing outside the ledger keeps. @returns how many */
  forgetCopies(graceSeconds: number, limit: number): Promise<number>
  /** The stores with copies that {@link takeDropped} would take, and how many. Changes nothing. */
  dueByStore(graceSeconds: number): Promise<{ store: string; copies: number }[]>
  /**
   * Drops the store's next copies that were pending or replaced for longer than the grace, and takes them, and those
   * dropped for as long, for a delete: for good where they were never current. What was taken is not taken again within
   * the grace.
   */
  takeDropped(store: string, graceSeconds: number, limit: number): Promise<DroppedCopy[]>
  /** The copies that {@link takeDropped} would take, and their number. Changes nothing. */
  dueCopies(graceSeconds: number, limit: number): Promise<{ copies: DroppedCopy[]; total: number }>
  /**
   * Its store has deleted it: the first time that is written down, and a second time, a grace later, it is forgotten,
   * unless it was purged meanwhile and the delete was not for good.
   */
  noteDeleted(copy: DroppedCopy, graceSeconds: number): Promise<void>
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
  /** @param lock Whether nobody else may end it before this transaction does. */
  rotation(id: string, lock?: boolean): Promise<Rotation | undefined>
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

  /** How many copies the route would move and keep, by workspace and connector. @param bytesMax What the target takes. */
  planRelocation(route: Route, bytesMax: number): Promise<RelocationPlan>
  /** Names a store migration, unless one runs. */
  beginRelocation(route: Route, startedBy: string): Promise<Relocation | 'already_running'>
  relocation(id: string, lock?: boolean): Promise<Relocation | undefined>
  relocations(page: PageRequest): Promise<Page<Relocation>>
  /** The one that runs, else the one that was begun last. */
  latestRelocation(): Promise<Relocation | undefined>
  /** Sets it running again, in a direction; what had failed is forgotten. @returns whether no other runs */
  runRelocation(id: string, heading: Heading): Promise<boolean>
  endRelocation(id: string, state: RelocationState): Promise<void>
  /** Of all copies that were not moved. */
  stayCounts(id: string): Promise<StayCount[]>
  /** Keeps why copies stay, and counts them. @returns those that were not known yet */
  recordStays(id: string, stays: readonly NotedStay[]): Promise<NotedStay[]>
  countThrottled(id: string, times: number): Promise<void>
  /** Whether some process has got on with it within so long, or was asked for patience. */
  hasProgressed(id: string, withinMs: number): Promise<boolean>
  /** Takes the next copies that are to move, names for each the copy that is to replace it, and counts on. */
  claimCopies(relocation: Relocation, claiming: Claiming): Promise<Claim[]>
  /** The pending copies are no longer needed: the sweep may have them. */
  releaseClaims(pendingIds: readonly string[]): Promise<void>
  /**
   * The switch: each new copy takes the place of the old one if nobody else did. Moving over, the old one becomes the
   * source; moving back, it is dropped.
   *
   * @returns the ids of the pending copies that took a place
   * @throws SealingKeyChanged
   */
  switchCopies(relocation: Relocation, carried: readonly Carried[]): Promise<string[]>
  /**
   * Points the next copies back at their sources.
   *
   * @returns how many; 0 where others hold all that are left, undefined where none is left
   */
  pointBack(relocation: Relocation, limit: number): Promise<number | undefined>
  /** Drops the next sources. @returns how many */
  dropSources(id: string, limit: number): Promise<number>
  /** Whether any copy is still to move, but for those that stay; claims of others count too. */
  anyToMove(relocation: Relocation): Promise<boolean>
  /** Keeps and counts what stays on the route: links, and copies whose credential is in another store migration. */
  noteStanding(relocation: Relocation): Promise<void>

  storeCopies(): Promise<StoreCopies[]>
  /** Whether the ledger is where its external copies belong; the first to ask settles that. */
  home(): Promise<LedgerHome>
  /** Nothing external is deleted from now on. */
  holdHome(): Promise<void>
  /** The ledger is at home where it is now. */
  adoptHome(): Promise<void>
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
