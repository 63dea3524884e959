import type { Call } from './calls.ts'
import type { ProblemCode } from './errors.ts'
import type { Ledger } from './ledger.ts'

/** A lease whose value did not leave, and why. */
export interface FailedLease {
  id: string
  code: ProblemCode
  call: Call
}

/** How long leases are looked for; what waits is shorter in tests. */
export interface FailedLeasesOptions {
  /** How often, in milliseconds, leases of unknown outcome are looked for; and how often at most. */
  settleEveryMs: number
  settleTriesMax: number
  onSettleError: (error: unknown) => void
}

/** Marks leases without a value as failed, in the ledger and its audit trail, however long that takes. */
export class FailedLeases {
  readonly #ledger: Ledger
  readonly #options: FailedLeasesOptions
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(ledger: Ledger, options: FailedLeasesOptions) {
    this.#ledger = ledger
    this.#options = options
  }

  /**
   * Whether an unanswered statement was committed shows only once its backend is through with it: until then its leases
   * are looked for again, as are all of them where the ledger cannot be reached.
   *
   * @param committed Whether the leases are known to exist.
   */
  mark(leases: readonly FailedLease[], committed: boolean, tries = 0): void {
    const again = (left: readonly FailedLease[]): void => {
      if (left.length === 0 || tries + 1 >= this.#options.settleTriesMax) return
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        this.mark(left, committed, tries + 1)
      }, this.#options.settleEveryMs)
      timer.unref()
      this.#timers.add(timer)
    }
    this.#ledger.failLeases(leases).then(
      (found) => again(committed ? [] : leases.filter(({ id }) => !found.includes(id))),
      (error) => {
        this.#options.onSettleError(error)
        again(leases)
      },
    )
  }

  /** Ends what waits for a timer; leases of unknown outcome stay as they are. */
  close(): void {
    for (const timer of this.#timers) clearTimeout(timer)
  }
}
