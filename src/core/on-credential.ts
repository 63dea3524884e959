import { admitToCredential, admitToWorkspace } from './access.ts'
import type { Acts } from './acts.ts'
import type { AuditEntry } from './audit.ts'
import type { Call, Caller } from './calls.ts'
import type { Action } from './grants.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Credential } from './records.ts'

/** What an act on one active credential is given, once its caller is admitted to it. */
export interface Admitted {
  tx: LedgerTransaction
  caller: Caller
  credential: Credential
  entry: AuditEntry
}

/** How a caller gets at a credential: for which action, and whether others must wait until the act is done. */
export interface Access {
  action: Action
  lock?: boolean
}

/**
 * An act on one active credential, by whoever has the action on it.
 *
 * @throws VaultError `not_found` for those who may not know of it; else `forbidden`
 */
export function onCredential<T>(
  acts: Acts,
  call: Call,
  caller: Caller,
  at: { workspace: string; name: string },
  { action, lock = false }: Access,
  act: (admitted: Admitted) => Promise<T>,
): Promise<T> {
  const target = { workspace: at.workspace, credential: at.name }
  return acts.perform(call, caller, action, target, async (tx, judged, entry) => {
    const workspace = await admitToWorkspace(tx, judged, at.workspace)
    const credential = await admitToCredential(tx, judged, workspace, at.name, action, lock)
    return act({ tx, caller: judged, credential, entry })
  })
}
