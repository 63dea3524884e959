import { ownCall, STEP_MS } from './calls.ts'
import type { ExternalSweep, ExternalSwept } from './external-sweep.ts'
import type { Ledger } from './ledger.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Credential, DroppedCopy, LedgerHome } from './records.ts'
import { rest } from './rest.ts'

/** What is due, and how much of it at once. */
export interface SweepOptions {
  /** How long a deleted credential can be restored. */
  recoverySeconds: number
  /** How long a dropped copy's row stays; at least 60 s in service. */
  copyGraceSeconds: number
  /** How long an ended lease is kept; at least an hour in service. */
  leaseRetentionSeconds: number
  /** Rows in one transaction. */
  batch: number
  /** Milliseconds to rest after a transaction that took `busyMs`: so that leases come first. */
  restMs: (busyMs: number) => number
}

/** How much was swept. */
export interface SweepReport {
  purged: number
  /** Rows of copies that nothing outside keeps. */
  copies: number
  external: ExternalSwept
  leases: number
  revocations: number
}

/** What a sweep would do first. */
export interface SweepPreview {
  home: LedgerHome
  /** Credentials that would be purged, at most 500 of them; their copies follow a grace later. */
  purges: Credential[]
  /** Copies that their stores would be asked to delete: at most 500 of them, and how many there are. */
  external: { copies: DroppedCopy[]; total: number }
}

const SHOWN_MAX = 500
/** Who stops the sweep waits for no longer rest. */
const REST_MS_MAX = 1_000

/** The one place that deletes. Holds no cursor: it takes the next few rows until the ledger has none; it may die. */
export class Sweep {
  readonly #ledger: Ledger
  readonly #external: ExternalSweep
  readonly #options: SweepOptions
  #stopped = false

  constructor(ledger: Ledger, external: ExternalSweep, options: SweepOptions) {
    this.#ledger = ledger
    this.#external = external
    this.#options = options
  }

  /** What is on its way ends; nothing more is begun. */
  stop(): void {
    this.#stopped = true
    this.#external.stop()
  }

  /**
   * Sweeps until nothing is left that is due.
   *
   * @param externalMs For so long it has external stores delete: so that no backlog there holds up everything else.
   */
  async run(externalMs = Infinity): Promise<SweepReport> {
    const { batch, copyGraceSeconds, leaseRetentionSeconds } = this.#options
    return {
      purged: await this.#untilNone((tx) => this.#purge(tx)),
      copies: await this.#untilNone((tx) => tx.forgetCopies(copyGraceSeconds, batch)),
      external: await this.#external.run(performance.now() + externalMs),
      leases: await this.#untilNone((tx) => tx.forgetLeases(leaseRetentionSeconds, batch)),
      revocations: await this.#step((tx) => tx.forgetRevocations(leaseRetentionSeconds)),
    }
  }

  /** What is due now. Changes nothing. */
  preview(): Promise<SweepPreview> {
    const { recoverySeconds, copyGraceSeconds } = this.#options
    return this.#step(async (tx) => ({
      home: await tx.home(),
      purges: await tx.duePurges(recoverySeconds, SHOWN_MAX),
      external: await tx.dueCopies(copyGraceSeconds, SHOWN_MAX),
    }))
  }

  /** Nothing external is deleted any more, until {@link adopt}: for a ledger that is a physical copy of another. */
  hold(): Promise<void> {
    return this.#settle('sweep:hold', (tx) => tx.holdHome())
  }

  /** This ledger deletes external copies from now on, wherever it came from. */
  adopt(): Promise<void> {
    return this.#settle('sweep:adopt', (tx) => tx.adoptHome())
  }

  #settle(action: string, act: (tx: LedgerTransaction) => Promise<void>): Promise<void> {
    return this.#step(async (tx) => {
      await act(tx)
      tx.record({ action, outcome: 'allowed' })
    })
  }

  async #purge(tx: LedgerTransaction): Promise<number> {
    const { recoverySeconds, batch } = this.#options
    const due = await tx.duePurges(recoverySeconds, batch)
    for (const { id, workspace, name, version } of due) {
      await tx.purgeCredential(id)
      tx.record({ action: 'sweep:purge', outcome: 'allowed', workspace, credential: name, version })
    }
    // Last, since whoever revokes anything waits from here on until this is committed.
    if (due.length > 0) await tx.revokeLeasesOf(due.map(({ id }) => id))
    return due.length
  }

  async #untilNone(act: (tx: LedgerTransaction) => Promise<number>): Promise<number> {
    let total = 0
    while (!this.#stopped) {
      const beganAt = performance.now()
      const done = await this.#step(act)
      total += done
      if (done === 0) break
      const restMs = this.#options.restMs(performance.now() - beganAt)
      if (restMs > 0) await rest(Math.min(restMs, REST_MS_MAX))
    }
    return total
  }

  #step<T>(act: (tx: LedgerTransaction) => Promise<T>): Promise<T> {
    return this.#ledger.transaction(ownCall('sweep', STEP_MS), undefined, act)
  }
}
