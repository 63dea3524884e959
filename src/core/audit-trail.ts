import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { AuditEvent, AuditFilter, StreamHead } from './audit.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import { VaultError } from './errors.ts'
import type { AuditVerification } from './audit-verify.ts'
import { verifyStreams } from './audit-verify.ts'
import type { Ledger } from './ledger.ts'

const ACTION = 'admin:audit'

/** The audit trail, for operators: read, and held against its own hashes. */
export class AuditTrail {
  readonly #acts: Acts
  readonly #ledger: Ledger
  #verifying = false

  constructor(acts: Acts, ledger: Ledger) {
    this.#acts = acts
    this.#ledger = ledger
  }

  /** Newest first. */
  list(call: Call, caller: Caller, filter: AuditFilter, page: PageRequest): Promise<Page<AuditEvent>> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      return tx.auditEvents(filter, page)
    })
  }

  /**
   * Reads every stream in pages and makes each hash anew. Has no deadline; one at a time.
   *
   * @param heads What was kept elsewhere: a stream that is lost or cut off shorter than its head is found by it.
   * @throws VaultError `already_running`
   */
  async verify(
    call: Call,
    caller: Caller,
    range: { from?: Date | undefined; to?: Date | undefined },
    heads: readonly StreamHead[],
  ): Promise<AuditVerification> {
    // Taken within the act, so that whoever finds it taken is recorded as refused.
    let mine = false
    try {
      await this.#acts.perform(call, caller, ACTION, {}, async (_tx, judged) => {
        demandAdmin(judged, ACTION)
        if (this.#verifying && !mine)
          throw new VaultError('already_running', 'The audit trail is being verified already')
        this.#verifying = mine = true
      })
      return await verifyStreams(this.#ledger, range, heads)
    } finally {
      if (mine) this.#verifying = false
    }
  }
}
