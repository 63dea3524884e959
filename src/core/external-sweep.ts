import { ownCall, STEP_MS } from './calls.ts'
import type { Ledger } from './ledger.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { DroppedCopy, LedgerHome } from './records.ts'
import { rest } from './rest.ts'
import type { StoreFault } from './secret-store.ts'
import { StoreError } from './secret-store.ts'
import type { StoreSet } from './store-set.ts'

/** How external copies are swept. */
export interface ExternalSweepOptions {
  /** How long a copy stays before and between its deletes. */
  copyGraceSeconds: number
  /** Copies of one store that are taken at once. */
  batch: number
  /** Deletes of one store in flight at once; before each such round it is asked whether the ledger is at home. */
  lanes: number
  /** How long a store may take for one delete, in milliseconds. */
  deleteMs: number
  /** Told, once for each sweep or store, that the ledger is not where its external copies belong. */
  onAway: (home: LedgerHome) => void
  /** Told of each copy that could not be deleted yet, or of a store that is not known here, and why, in our own words. */
  onFailed: (store: string, reason: string) => void
}

/** How many external copies were deleted, and how many could not be. */
export interface ExternalSwept {
  deleted: number
  failed: number
}

/** Who stops the sweep waits for no longer rest. */
const REST_MS_MAX = 250

/**
 * Has stores delete what the ledger has dropped, all side by side. Each copy is deleted twice, a grace apart, before it is
 * forgotten, so that a put which was still on its way at the first delete leaves nothing behind.
 */
export class ExternalSweep {
  readonly #ledger: Ledger
  readonly #stores: StoreSet
  readonly #options: ExternalSweepOptions
  #stopped = false

  constructor(ledger: Ledger, stores: StoreSet, options: ExternalSweepOptions) {
    this.#ledger = ledger
    this.#stores = stores
    this.#options = options
  }

  /** What is on its way ends; nothing more is begun. */
  stop(): void {
    this.#stopped = true
  }

  /**
   * Sweeps until nothing is left that is due, or nothing may be deleted, or the time is up. What only other processes can
   * delete is left to them: who takes a copy puts it off for a grace.
   */
  async run(untilMs: number): Promise<ExternalSwept> {
    const swept = { deleted: 0, failed: 0 }
    const due = await this.#due()
    const stores = due.map(({ store, copies }) => {
      if (this.#stores.has(store)) return this.#sweepStore(store, untilMs, swept)
      swept.failed += copies
      this.#options.onFailed(store, 'not configured here')
      return undefined
    })
    const ended = await Promise.allSettled(stores)
    for (const each of ended) if (each.status === 'rejected') throw each.reason
    return swept
  }

  #due(): Promise<{ store: string; copies: number }[]> {
    return this.#step(async (tx) => {
      const due = await tx.dueByStore(this.#options.copyGraceSeconds)
      const home = await tx.home()
      if (home === 'here' || due.length === 0) return due
      this.#options.onAway(home)
      return []
    })
  }

  async #sweepStore(store: string, untilMs: number, swept: ExternalSwept): Promise<void> {
    const { copyGraceSeconds } = this.#options
    const { batch, lanes, roundMs } = this.#paceOf(store)
    let taken: DroppedCopy[] = []
    let nextAt = 0
    while (await this.#isTime(nextAt, untilMs)) {
      // Asked in the transaction that takes, and again before each round: what a ledger elsewhere has dropped may be
      // current where it came from, and an operator who holds the ledger has it held from then on.
      const atHome = await this.#step(async (tx) => {
        const home = await tx.home()
        if (home !== 'here') this.#options.onAway(home)
        if (home === 'here' && taken.length === 0)
          taken = await tx.takeDropped(store, copyGraceSeconds, batch)
        return home === 'here'
      })
      const round = taken.splice(0, lanes)
      if (!atHome || round.length === 0) return
      nextAt = performance.now() + roundMs
      const faults = await Promise.all(round.map((copy) => this.#delete(copy)))
      const deleted = round.filter((_, at) => faults[at] === undefined)
      // Each by itself: a purge locks the copies of its credential in an order of its own.
      for (const copy of deleted) await this.#step((tx) => tx.noteDeleted(copy, copyGraceSeconds))
      swept.deleted += deleted.length
      swept.failed += round.length - deleted.length
      // One that does not answer is left alone until the next sweep: each copy that is tried is put off for a grace.
      if (faults.every((fault) => fault === 'unavailable')) return
      // Nor is there a turn to wait for where nothing is left.
      if (roundMs > 0 && round.length < lanes) return
    }
  }

  // Of a store that is to be written to slowly no more is taken than it may be asked at once, and it has its time then: who
  // had to wait there for his turn would be taken for one who was not answered.
  #paceOf(store: string): { batch: number; lanes: number; roundMs: number } {
    const { batch, lanes } = this.#options
    const perSecond = this.#stores.at(store).writesPerSecond
    if (perSecond === undefined) return { batch, lanes, roundMs: 0 }
    const atOnce = Math.max(1, Math.min(lanes, Math.floor(perSecond)))
    return { batch: atOnce, lanes: atOnce, roundMs: (atOnce / perSecond) * 1000 }
  }

  /** Waits until `nextAt`. @returns false where the time is up before */
  async #isTime(nextAt: number, untilMs: number): Promise<boolean> {
    for (;;) {
      const now = performance.now()
      if (this.#stopped || Math.max(now, nextAt) >= untilMs) return false
      if (now >= nextAt) return true
      await rest(Math.min(nextAt - now, REST_MS_MAX))
    }
  }

  /** @returns what kept the store from it */
  async #delete({ store, ref, forGood }: DroppedCopy): Promise<StoreFault | undefined> {
    const { deleteMs, onFailed } = this.#options
    try {
      const asked = { caller: 'sweep', deadlineAt: performance.now() + deleteMs }
      await this.#stores.at(store).delete(ref, forGood, asked)
      return undefined
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      onFailed(store, error.fault)
      return error.fault
    }
  }

  #step<T>(act: (tx: LedgerTransaction) => Promise<T>): Promise<T> {
    return this.#ledger.transaction(ownCall('sweep', STEP_MS), undefined, act)
  }
}
