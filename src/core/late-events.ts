import type { AuditEntry } from './audit.ts'
import type { Call } from './calls.ts'
import { VaultError } from './errors.ts'
import type { Ledger } from './ledger.ts'

const WAITING_MAX = 1_000
const RECORD_MS = 5_000

/**
 * Events of calls that failed because the ledger did not answer by their deadline: recorded when it does again.
 *
 * Bounded: in an outage those that come first are kept.
 */
export class LateEvents {
  readonly #ledger: Ledger
  readonly #onError: (error: unknown) => void
  #waiting: { entry: AuditEntry; call: Call }[] = []
  #dropped = 0

  constructor(ledger: Ledger, onError: (error: unknown) => void) {
    this.#ledger = ledger
    this.#onError = onError
  }

  /** Nothing of the call was committed. */
  note(entry: AuditEntry, call: Call): void {
    if (this.#waiting.length < WAITING_MAX) this.#waiting.push({ entry, call })
    else this.#dropped++
  }

  /** Records what waits. @throws where the ledger still does not answer: then the rest waits on */
  async flush(): Promise<void> {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      const { entry, call } = next
      const own = { ...call, deadlineAt: performance.now() + RECORD_MS }
      try {
        await this.#ledger.transaction(own, undefined, async (tx) => tx.record(entry))
      } catch (error) {
        if (error instanceof VaultError) {
          this.#waiting.unshift(next)
          throw error
        }
        // It may be recorded already, or never will be: it must not hold up the others.
        this.#onError(error)
      }
    }
    if (this.#dropped > 0) this.#onError(new Error(`${this.#dropped} calls that failed have no event`))
    this.#dropped = 0
  }
}
