import type { Caller } from './calls.ts'
import { forbidden, notFound } from './errors.ts'
import type { Action, Subject } from './grants.ts'
import { allows, allowsAdmin, inWorkspace, mayKnow } from './grants.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Credential, Workspace } from './records.ts'
import { askedCredentialName, askedSlug } from './names.ts'

/** @throws VaultError `not_found` where the workspace is missing or the caller has no grant in it. */
export async function admitToWorkspace(
  tx: LedgerTransaction,
  caller: Caller,
  name: string,
): Promise<Workspace> {
  const workspace = await tx.workspace(askedSlug(name))
  if (!workspace || !inWorkspace(caller.grants, name)) throw notFound()
  return workspace
}

/**
 * The credential, for whoever has `action` on it.
 *
 * @throws VaultError `not_found` for those who may not know of it, exactly as if it were missing; else `forbidden`.
 */
export async function admitToCredential(
  tx: LedgerTransaction,
  caller: Caller,
  workspace: Workspace,
  name: string,
  action: Action,
  lock = false,
): Promise<Credential> {
  const found = await tx.credential(workspace.id, askedCredentialName(name))
  if (!found) throw notFound()
  const [credential] = lock ? await lockKnown(tx, caller, [found]) : [found]
  if (!credential || !isActive(credential)) throw notFound()
  demand(caller, action, subjectOf(credential))
  return credential
}

/**
 * Those of these that the caller may know of, as they are now, in whatever state: locked against other writers.
 *
 * The others are left alone: whoever waits for a row learns that it is there, and its owner would wait for him.
 */
export async function lockKnown(
  tx: LedgerTransaction,
  caller: Caller,
  found: readonly Credential[],
): Promise<Credential[]> {
  const isKnown = (one: Credential): boolean => mayKnow(caller.grants, subjectOf(one))
  const known = found.filter(isKnown)
  const locked = known.length > 0 ? await tx.lockCredentials(known.map(({ id }) => id)) : []
  return known.flatMap(({ id }) => locked.filter((one) => one.id === id && isKnown(one)))
}

/** Not deleted. */
export function isActive({ state }: Credential): boolean {
  return state === 'active'
}

/** The active one of this name; locked, as far as the caller may know of it. */
export async function findActive(
  tx: LedgerTransaction,
  caller: Caller,
  workspaceId: string,
  name: string,
): Promise<Credential | undefined> {
  const found = await tx.credential(workspaceId, name)
  if (!found || !mayKnow(caller.grants, subjectOf(found))) return found
  return (await lockKnown(tx, caller, [found])).find(isActive)
}

/** @throws VaultError `not_found` where the caller may not know of the subject, `forbidden` where he lacks the action. */
export function demand(caller: Caller, action: Action, subject: Subject): void {
  if (!mayKnow(caller.grants, subject)) throw notFound()
  if (!allows(caller.grants, action, subject)) throw forbidden(action)
}

/** @throws VaultError `forbidden` */
export function demandAdmin(caller: Caller, action: Action): void {
  if (!allowsAdmin(caller.grants, action)) throw forbidden(action)
}

/** What grants are held against. */
export function subjectOf(credential: Credential): Subject {
  const { workspace, connector, name, labels } = credential
  return { workspace, connector, name, labels }
}
