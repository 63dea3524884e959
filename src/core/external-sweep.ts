import { ownCall } from './calls.ts'
import type { Ledger } from './ledger.ts'
import type { DroppedCopy, LedgerHome } from './records.ts'
import { StoreError } from './secret-store.ts'
import type { StoreSet } from './store-set.ts'

/** How external copies are swept. */
export interface ExternalSweepOptions {
  /** How long a copy stays before and between its deletes. */
  copyGraceSeconds: number
  /** Copies taken at once. */
  batch: number
  /** Deletes in flight at once. */
  lanes: number
  /** How long a store may take for one delete, in milliseconds. */
  deleteMs: number
  /** Told, once for each sweep, that the ledger is not where its external copies belong. */
  onAway: (home: LedgerHome) => void
  /** Told of each copy that could not be deleted yet: its store and the reason, in our own words. */
  onFailed: (store: string, reason: string) => void
}

/** How many external copies were deleted, and how many could not be. */
export interface ExternalSwept {
  deleted: number
  failed: number
}

/**
 * Has stores delete what the ledger has dropped. Each copy is deleted twice, a grace apart, before it is forgotten, so that
 * a put which was still on its way at the first delete leaves nothing behind.
 */
export class ExternalSweep {
  readonly #ledger: Ledger
  readonly #stores: StoreSet
  readonly #options: ExternalSweepOptions

  constructor(ledger: Ledger, stores: StoreSet, options: ExternalSweepOptions) {
    this.#ledger = ledger
    this.#stores = stores
    this.#options = options
  }

  /** Sweeps until nothing is left that is due, or nothing may be deleted. */
  async run(): Promise<ExternalSwept> {
    const swept = { deleted: 0, failed: 0 }
    for (;;) {
      const taken = await this.#take()
      if (taken.length === 0) return swept
      await this.#deleteAll(taken, swept)
    }
  }

  // Asked in the transaction that takes: what a ledger elsewhere has dropped may be current where it came from.
  #take(): Promise<DroppedCopy[]> {
    const { copyGraceSeconds, batch, onAway } = this.#options
    return this.#ledger.transaction(ownCall('sweep', STEP_MS), undefined, async (tx) => {
      const home = await tx.home()
      if (home === 'here') return tx.takeDropped(copyGraceSeconds, batch)
      const due = await tx.dueCopies(copyGraceSeconds, 0)
      if (due.total > 0) onAway(home)
      return []
    })
  }

  async #deleteAll(taken: readonly DroppedCopy[], swept: ExternalSwept): Promise<void> {
    const left = [...taken]
    const lane = async (): Promise<void> => {
      for (let copy = left.shift(); copy; copy = left.shift()) {
        if (await this.#delete(copy)) swept.deleted++
        else swept.failed++
      }
    }
    await Promise.all(Array.from({ length: this.#options.lanes }, lane))
  }

  async #delete(copy: DroppedCopy): Promise<boolean> {
    const { store, ref, forGood } = copy
    const { copyGraceSeconds, deleteMs, onFailed } = this.#options
    try {
      const asked = { caller: 'sweep', deadlineAt: performance.now() + deleteMs }
      await this.#stores.at(store).delete(ref, forGood, asked)
    } catch (error) {
      onFailed(store, error instanceof StoreError ? error.fault : 'not configured here')
      return false
    }
    await this.#ledger.transaction(ownCall('sweep', STEP_MS), undefined, (tx) =>
      tx.noteDeleted(copy, copyGraceSeconds),
    )
    return true
  }
}

const STEP_MS = 30_000
