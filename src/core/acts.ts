import type { AuditEntry } from './audit.ts'
import { outcomeOf } from './audit.ts'
import type { Call, Caller } from './calls.ts'
import { OutsideFirst } from './draft.ts'
import { codeOf, deadlinePassed, unauthenticated } from './errors.ts'
import type { Action } from './grants.ts'
import type { Ledger } from './ledger.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import { CallerOutdated, OutcomeUnknown, SealingKeyChanged } from './ledger.ts'
import { isCredentialName, isSlug } from './names.ts'
import type { Sealer } from './sealer.ts'

/** What an act is about; the act adds to it what it learns, such as the version that it made. */
export type Target = Pick<AuditEntry, 'workspace' | 'credential' | 'lease'>

/** Who is told of events. */
export interface ActsListeners {
  /** Of each that is marked `privilege`, once it is committed. */
  onPrivilege: (entry: AuditEntry, call: Call) => void
  /** Of each that was not recorded, since the call failed as `unavailable`; nothing of it was committed. */
  onUnrecorded: (entry: AuditEntry, call: Call) => void
}

/**
 * One call of an authenticated caller, judged, done and recorded in one transaction.
 *
 * Allowed, refused or failed, it is an event: an allowed one is committed with what it did, a refused one after its
 * transaction was rolled back.
 */
export class Acts {
  readonly #ledger: Ledger
  readonly #sealer: Sealer
  readonly #told: ActsListeners

  constructor(ledger: Ledger, sealer: Sealer, told: ActsListeners) {
    this.#ledger = ledger
    this.#sealer = sealer
    this.#told = told
  }

  /**
   * @param act Throws a VaultError to refuse; may run again where the policy or the sealing key changed under it, and
   *   after what it wants done outside of its transaction.
   * @throws VaultError
   */
  async perform<T>(
    call: Call,
    caller: Caller,
    action: Action,
    target: Target,
    act: (tx: LedgerTransaction, caller: Caller, entry: AuditEntry) => Promise<T>,
  ): Promise<T> {
    let judged = caller
    const about = { ...target, ...named(target) }
    while (performance.now() < call.deadlineAt) {
      const entry: AuditEntry = { identity: judged.identity, action, outcome: 'allowed', ...about }
      try {
        const result = await this.#ledger.transaction(call, judged, async (tx) => {
          const done = await act(tx, judged, entry)
          tx.record(entry)
          return done
        })
        if (entry.mark === 'privilege') this.#told.onPrivilege(entry, call)
        return result
      } catch (error) {
        if (error instanceof CallerOutdated) judged = await this.#askAnew(call, caller, entry)
        else if (error instanceof SealingKeyChanged) this.#sealUnder(call, entry, error.keyId)
        else if (error instanceof OutsideFirst) await this.#outside(call, entry, error)
        else if (error instanceof OutcomeUnknown) throw deadlinePassed(error)
        else throw await this.#refused(call, entry, error)
      }
    }
    const entry: AuditEntry = { identity: judged.identity, action, outcome: 'failed', ...about }
    throw this.#unrecorded(call, entry, deadlinePassed())
  }

  /** Asks anew who the caller is. */
  async authenticate(call: Call, caller: Pick<Caller, 'token'>): Promise<Caller> {
    const known = await this.#ledger.authenticate(caller.token, call.deadlineAt)
    if (!known) throw unauthenticated()
    return known
  }

  async #askAnew(call: Call, caller: Caller, entry: AuditEntry): Promise<Caller> {
    try {
      return await this.authenticate(call, caller)
    } catch (error) {
      // Whose token has ended meanwhile is a failed authentication.
      throw codeOf(error) === 'unauthenticated' ? error : this.#unrecorded(call, entry, error)
    }
  }

  #sealUnder(call: Call, entry: AuditEntry, keyId: string): void {
    try {
      this.#sealer.sealUnder(keyId)
    } catch (error) {
      // This process does not have the key yet.
      throw this.#unrecorded(call, entry, error)
    }
  }

  async #outside(call: Call, entry: AuditEntry, { work }: OutsideFirst): Promise<void> {
    try {
      await work()
    } catch (error) {
      throw await this.#refused(call, entry, error instanceof OutcomeUnknown ? deadlinePassed(error) : error)
    }
  }

  async #refused(call: Call, entry: AuditEntry, error: unknown): Promise<unknown> {
    const code = codeOf(error)
    if (code === 'unavailable') return this.#unrecorded(call, entry, error)
    try {
      await this.#ledger.transaction(call, undefined, async (tx) => {
        tx.record({ ...entry, outcome: outcomeOf(code), code, mark: undefined })
      })
      return error
    } catch (cause) {
      // What cannot be recorded is not answered as if it were.
      return cause instanceof OutcomeUnknown ? deadlinePassed(cause) : this.#unrecorded(call, entry, cause)
    }
  }

  #unrecorded(call: Call, entry: AuditEntry, error: unknown): unknown {
    const code = codeOf(error)
    this.#told.onUnrecorded({ ...entry, outcome: outcomeOf(code), code, mark: undefined }, call)
    return error
  }
}

/** What cannot be a name goes into no event: it would be free text of the caller's. */
function named({ workspace, credential }: Target): Target {
  return {
    workspace: isSlug(workspace) ? workspace : undefined,
    credential: isCredentialName(credential) ? credential : undefined,
  }
}
