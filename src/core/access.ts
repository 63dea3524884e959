import type { Caller } from './calls.ts'
import { forbidden, notFound } from './errors.ts'
import type { Action, Subject } from './grants.ts'
import { allows, allowsAdmin, inWorkspace, mayKnow } from './grants.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Credential, Workspace } from './records.ts'
import { isCredentialName, isSlug } from './names.ts'

/** @throws VaultError `not_found` where the workspace is missing or the caller has no grant in it. */
export async function admitToWorkspace(
  tx: LedgerTransaction,
  caller: Caller,
  name: string,
): Promise<Workspace> {
  const workspace = isSlug(name) ? await tx.workspace(name) : undefined
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
  const credential = isCredentialName(name) ? await tx.credential(workspace.id, name, lock) : undefined
  if (!credential) throw notFound()
  demand(caller, action, subjectOf(credential))
  return credential
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
