import type { AuditEntry } from '../core/audit.ts'
import type { Call } from '../core/calls.ts'
import type { LedgerTransaction } from '../core/ledger-transaction.ts'
import * as audit from './audit-events-sql.ts'
import type { Client } from './connections.ts'
import * as copies from './copies-sql.ts'
import * as credentials from './credentials-sql.ts'
import { selectKeys } from './keys-sql.ts'
import * as home from './ledger-home-sql.ts'
import * as leases from './leases-sql.ts'
import * as policy from './policy-sql.ts'
import * as claims from './relocation-claims-sql.ts'
import * as moves from './relocation-moves-sql.ts'
import * as relocations from './relocations-sql.ts'
import * as rotations from './rotations-sql.ts'
import * as sweep from './sweep-sql.ts'
import type { Entry } from './writers.ts'

/** One transaction's statements on one connection. Events are collected here and chained before the commit. */
export function transactionOn(
  client: Client,
  call: Call,
  entries: Entry[],
  newId: () => string,
  onPolicyRaised: () => void,
): LedgerTransaction {
  return {
    record: (entry: AuditEntry) => void entries.push({ entry, call }),
    mayTake: async (ms) =>
      void (await client.query("select set_config('statement_timeout', $1, true)", [String(ms)])),

    workspace: (name) => policy.selectWorkspace(client, name),
    putWorkspace: (name, defaultStore) => policy.upsertWorkspace(client, newId(), name, defaultStore),
    deleteWorkspace: (id) => policy.deleteWorkspace(client, id),
    workspaces: (page) => policy.selectWorkspaces(client, page),

    changePolicy: () => policy.raisePolicy(client).then(onPolicyRaised),
    role: (name) => policy.selectRole(client, name),
    putRole: (name, grants) => policy.upsertRole(client, newId(), name, grants),
    deleteRole: (name) => policy.deleteRole(client, name),
    roles: (page) => policy.selectRoles(client, page),
    identity: (name) => policy.selectIdentity(client, name),
    putIdentity: (name, roles) => policy.upsertIdentity(client, newId(), name, roles),
    deleteIdentity: (id) => policy.deleteIdentity(client, id),
    identities: (page) => policy.selectIdentities(client, page),
    grantsOf: (identityId) => policy.selectGrantsOf(client, identityId),
    administrators: () => policy.countAdministrators(client),
    insertToken: (identityId, token, seconds) => policy.insertToken(client, identityId, token, seconds),
    deleteToken: (identityId, tokenId) => policy.deleteToken(client, identityId, tokenId),
    tokens: (identityId, page) => policy.selectTokens(client, identityId, page),

    credential: (workspaceId, name) => credentials.selectCredential(client, workspaceId, name),
    credentialsNamed: (workspaceId, name) => credentials.selectCredentialsNamed(client, workspaceId, name),
    lockCredentials: (ids) => credentials.lockCredentials(client, ids),
    insertCredential: (row) => credentials.insertCredential(client, row),
    updateCredential: (id, change) => credentials.updateCredential(client, id, change),
    credentials: (identityId, workspaceId, filter, page) =>
      credentials.selectCredentials(client, identityId, workspaceId, filter, page),
    deleteCredential: (id) => credentials.deleteCredential(client, id),
    purgeCredential: (id) => credentials.purgeCredential(client, id),
    restoreCredential: (id) => credentials.restoreCredential(client, id),
    copy: (credentialId, version) => copies.selectCopy(client, credentialId, version),
    nameCopy: (copy) => copies.insertPending(client, copy),
    insertVersion: (row, versionsKept, sourcesKept) =>
      copies.insertVersion(client, row, versionsKept, sourcesKept),
    versions: (credentialId, page) => copies.selectVersions(client, credentialId, page),
    dropVersion: (credentialId, version) => copies.dropVersion(client, credentialId, version),

    lease: (id) => leases.selectLease(client, id),
    leases: (identityId, readsOthers, filter, page) =>
      leases.selectLeases(client, identityId, readsOthers, filter, page),
    judge: async (token, ask) => (await leases.judge(client, [{ token, ...ask }]))[0]!,
    renewLease: (id, expiresAt) => leases.renewLease(client, id, expiresAt),
    revokeLease: (id) => leases.revokeLease(client, id),
    revokeLeases: (scope) => leases.revokeLeases(client, scope),
    revokeLeasesOf: (credentialIds) => leases.revokeLeasesOf(client, credentialIds),
    countEndedLeases: (scope, revocation) => leases.countEndedLeases(client, scope, revocation),

    duePurges: (recoverySeconds, limit) => sweep.selectDuePurges(client, recoverySeconds, limit),
    forgetCopies: (graceSeconds, limit) => sweep.deleteCopies(client, graceSeconds, limit),
    dueByStore: (graceSeconds) => sweep.countDue(client, graceSeconds),
    takeDropped: (store, graceSeconds, limit) => sweep.takeDropped(client, store, graceSeconds, limit),
    dueCopies: (graceSeconds, limit) => sweep.selectDue(client, graceSeconds, limit),
    noteDeleted: (copy, graceSeconds) => sweep.noteDeleted(client, copy, graceSeconds),
    forgetLeases: (retentionSeconds, limit) => sweep.deleteLeases(client, retentionSeconds, limit),
    forgetRevocations: (retentionSeconds) => sweep.deleteRevocations(client, retentionSeconds),
    touch: (credentialIds, tokenIds) => sweep.touch(client, credentialIds, tokenIds),

    keys: (page) => selectKeys(client, page),
    beginRotation: (keyId, startedBy) => rotations.beginRotation(client, newId(), keyId, startedBy),
    rotation: (id, lock) => rotations.selectRotation(client, id, lock),
    rotations: (page) => rotations.selectRotations(client, page),
    recordRotationFailures: (id, failures) => rotations.insertFailures(client, id, failures),
    endRotation: (id, state) => rotations.endRotation(client, id, state),
    countUnmoved: (rotation) => rotations.countUnmoved(client, rotation),
    auditEvents: (filter, page) => audit.selectAuditEvents(client, filter, page),

    planRelocation: (route, bytesMax) => relocations.planRelocation(client, route, bytesMax),
    beginRelocation: (route, startedBy) => relocations.beginRelocation(client, newId(), route, startedBy),
    relocation: (id, lock) => relocations.selectRelocation(client, id, lock),
    relocations: (page) => relocations.selectRelocations(client, page),
    latestRelocation: () => relocations.selectLatestRelocation(client),
    runRelocation: (id, heading) => relocations.runRelocation(client, id, heading),
    endRelocation: (id, state) => relocations.endRelocation(client, id, state),
    stayCounts: (id) => relocations.countCodes(client, id),
    recordStays: (id, stays) => relocations.insertStays(client, id, stays),
    countThrottled: (id, times) => relocations.countThrottled(client, id, times),
    hasProgressed: (id, withinMs) => relocations.hasProgressed(client, id, withinMs),
    claimCopies: (relocation, claiming) => claims.claimCopies(client, relocation, claiming),
    releaseClaims: (pendingIds) => claims.releaseClaims(client, pendingIds),
    switchCopies: async (relocation, carried) => {
      const switched = await moves.switchCopies(client, relocation, carried)
      await relocations.countMoved(client, relocation, switched.length)
      return switched
    },
    pointBack: async (relocation, limit) => {
      const pointed = await moves.pointBack(client, relocation, limit)
      await relocations.countMoved(client, relocation, pointed)
      return pointed
    },
    dropSources: (id, limit) => moves.dropSources(client, id, limit),
    anyToMove: (relocation) => claims.anyToMove(client, relocation),
    noteStanding: (relocation) => claims.noteStanding(client, relocation),

    storeCopies: () => copies.selectStoreCopies(client),
    home: () => home.selectHome(client),
    holdHome: () => home.holdHome(client),
    adoptHome: () => home.adoptHome(client),
  }
}
