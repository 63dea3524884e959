import { ownCall } from './calls.ts'
import type { ExternalSweep, ExternalSwept } from './external-sweep.ts'
import type { Ledger } from './ledger.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Credential, DroppedCopy, LedgerHome } from './records.ts'

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

/** The one place that deletes. Holds no cursor: it takes the next few rows until the ledger has none; it may die. */
export class Sweep {
  readonly #ledger: Ledger
  readonly #external: ExternalSweep
  readonly #options: SweepOptions

  constructor(ledger: Ledger, external: ExternalSweep, options: SweepOptions) {
    this.#ledger = ledger
    this.#external = external
    this.#options = options
  }

  /** Sweeps until nothing is left that is due. */
  async run(): Promise<SweepReport> {
    const { batch, copyGraceSeconds, leaseRetentionSeconds } = this.#options
    return {
      purged: await untilNone(() => this.#purge()),
      copies: await untilNone(() => this.#step((tx) => tx.forgetCopies(copyGraceSeconds, batch))),
      external: await this.#external.run(),
      leases: await untilNone(() => this.#step((tx) => tx.forgetLeases(leaseRetentionSeconds, batch))),
      revocations: await this.#step((tx) => tx.forgetRevocations(leaseRetentionSeconds)),
    }
  }

  /** What is due now. Changes nothing. */
  preview(): Promise<SweepPreview> {
    const { recoverySeconds, copyGraceSeconds } = this.#options
    return this.#ledger.transaction(ownCall('sweep', STEP_MS), undefined, async (tx) => ({
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
    return this.#ledger.transaction(ownCall('sweep', STEP_MS), undefined, async (tx) => {
      await act(tx)
      tx.record({ action, outcome: 'allowed' })
    })
  }

  #purge(): Promise<number> {
    const { recoverySeconds, batch } = this.#options
    return this.#step(async (tx) => {
      const due = await tx.duePurges(recoverySeconds, batch)
      for (const { id, workspace, name, version } of due) {
        await tx.revokeLeases({ credentialId: id })
        await tx.purgeCredential(id)
        tx.record({ action: 'sweep:purge', outcome: 'allowed', workspace, credential: name, version })
      }
      return due.length
    })
  }

  #step(act: (tx: LedgerTransaction) => Promise<number>): Promise<number> {
    return this.#ledger.transaction(ownCall('sweep', STEP_MS), undefined, act)
  }
}

const STEP_MS = 30_000

async function untilNone(step: () => Promise<number>): Promise<number> {
  let total = 0
  for (;;) {
    const done = await step()
    total += done
    if (done === 0) return total
  }
}
