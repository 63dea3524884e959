import type { Call } from './calls.ts'
import { ownCall, STEP_MS } from './calls.ts'
import type { Ledger } from './ledger.ts'
import { SealingKeyChanged } from './ledger.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Carrier, CarryOutcome } from './relocation-carrier.ts'
import { Pace, throttledIn } from './relocation-pace.ts'
import { rest } from './rest.ts'
import { endRelocation } from './relocation-report.ts'
import { recordStays } from './relocation-stays.ts'
import type { Claim, Claiming, Relocation } from './relocation.ts'
import { RelocationEnded } from './relocation.ts'

/** How a process works on store migrations. */
export interface RelocationWorkerOptions {
  /** Copies that are taken at once. */
  batch: number
  /** Copies that are pointed back, and sources that are dropped, at once; 500 if it is left out. */
  pointBatch?: number
  /** Copies on their way at once; fewer where a store's rate is low, and while one asks for patience. */
  lanes: number
  /** For so long nobody else takes a copy that is on its way. */
  claimSeconds: number
  /** A store that is out of reach for longer ends the run as failed; it can be resumed. */
  giveUpMs: number
}

const CLAIMS_PER_LANE = 4
const ROUND_MS = 2_000
const BUSY_REST_MS = 50

/** How one process goes one way of one store migration. */
interface Way {
  name: string
  pace: Pace
  /** The copy that was claimed last. Only a hint: nothing is lost with it. */
  reached: string | undefined
}

/**
 * The work of a store migration. It holds no cursor that another needs: each process takes the next few copies until the
 * ledger says zero, and any of them may die.
 */
export class RelocationWorker {
  readonly #ledger: Ledger
  readonly #carrier: Carrier
  readonly #options: RelocationWorkerOptions
  #working: Promise<void> | undefined
  #asks = 0
  #way: Way | undefined
  /** Resolved by whoever asks for work: the pause that a store is given ends, or the next one is none. */
  #called = Promise.withResolvers<undefined>()
  #stopped = false

  constructor(ledger: Ledger, carrier: Carrier, options: RelocationWorkerOptions) {
    this.#ledger = ledger
    this.#carrier = carrier
    this.#options = options
  }

  stop(): void {
    this.#stopped = true
    this.#called.resolve(undefined)
  }

  /**
   * Works on the store migration that runs, if one does, until its end. Who asks while it works waits with it, and has a
   * pause ended: what is tried again and again may no longer be wanted.
   */
  work(): Promise<void> {
    this.#asks++
    this.#called.resolve(undefined)
    return (this.#working ??= this.#work())
  }

  async #work(): Promise<void> {
    try {
      // Who asked meanwhile may have begun a run after the last look for one.
      for (let asks = 0; asks < this.#asks;) {
        asks = this.#asks
        await this.#workToEnd()
      }
    } finally {
      this.#working = undefined
    }
  }

  async #workToEnd(): Promise<void> {
    this.#way = undefined
    while (!this.#stopped) {
      const relocation = await this.#ledger.runningRelocation()
      // Another process may know the stores that this one is not configured with.
      if (!relocation || !this.#carrier.knows(relocation)) return
      try {
        if ((await this.#step(relocation)) > 0) continue
        if (await this.#finish(relocation)) continue
      } catch (error) {
        if (error instanceof RelocationEnded) {
          // Whoever has it run again wants it to be tried for as long again, and anew.
          this.#way = undefined
          continue
        }
        if (!(error instanceof SealingKeyChanged)) throw error
        this.#carrier.sealUnder(error.keyId)
        continue
      }
      // What is left is held by others: not worth a busy loop.
      await rest(BUSY_REST_MS)
    }
  }

  /** @returns how much was done */
  async #step(relocation: Relocation): Promise<number> {
    const { pointBatch = 500 } = this.#options
    if (relocation.heading === 'closing')
      return this.#transaction((tx) => tx.dropSources(relocation.id, pointBatch))
    if (relocation.heading === 'back') {
      const pointed = await this.#transaction((tx) => tx.pointBack(relocation, pointBatch))
      // The long way asks stores, and may take as long as they do not answer: nobody who can be pointed back waits for it.
      if (pointed !== undefined) return pointed
    }
    return this.#moveSome(relocation, this.#wayOf(relocation))
  }

  #wayOf(relocation: Relocation): Way {
    const name = `${relocation.id} ${relocation.heading}`
    if (this.#way?.name === name) return this.#way
    const pace = new Pace(this.#carrier.lanesMax(relocation, this.#options.lanes))
    return (this.#way = { name, pace, reached: undefined })
  }

  async #moveSome(relocation: Relocation, way: Way): Promise<number> {
    const { batch, claimSeconds } = this.#options
    const { pace } = way
    const name = (workspace: string) => this.#carrier.name(relocation, workspace)
    // A few for each lane: what a slow store cannot take in time would be named for nothing.
    const limit = Math.min(batch, pace.lanes * CLAIMS_PER_LANE)
    const claims = await this.#claim(relocation, way, { claimSeconds, limit, name })
    // Whoever claims them next must not meet a put of ours that is still under way.
    const until = performance.now() + (claimSeconds * 1000) / 2
    let left: readonly Claim[] = claims
    try {
      while (left.length > 0 && performance.now() < until && !this.#stopped) {
        const outcomes = await this.#carrySome(relocation, left, pace.lanes, until)
        await this.#settle(relocation, outcomes)
        const ended = new Set(outcomes.filter(({ result }) => !('later' in result)).map(({ claim }) => claim))
        left = left.filter((claim) => !ended.has(claim))
        await this.#takeTime(relocation, pace, outcomes)
        if (left.length > 0 && !(await this.#isAskedFor(relocation))) break
      }
    } finally {
      // Whatever went wrong: else nobody could take these before the claims have run out.
      if (left.length > 0) await this.#release(left)
    }
    return claims.length
  }

  // Goes on where it was, and begins again from the first when there is nothing behind: to pass over what has moved, and what
  // lies in other workspaces, for each few copies would take longer than to move them.
  async #claim(relocation: Relocation, way: Way, claiming: Claiming): Promise<readonly Claim[]> {
    const after = way.reached
    way.reached = undefined
    const claims = await this.#transaction((tx) => tx.claimCopies(relocation, { ...claiming, after }))
    if (claims.length === 0 && after !== undefined) return this.#claim(relocation, way, claiming)
    way.reached = claims.at(-1)?.copy.id
    return claims
  }

  async #isAskedFor({ id, heading }: Relocation): Promise<boolean> {
    const running = await this.#ledger.runningRelocation()
    return running?.id === id && running.heading === heading
  }

  /** At least one in each lane, and no more than there is time for: what is carried must be switched, and orders heard. */
  async #carrySome(
    relocation: Relocation,
    claims: readonly Claim[],
    lanes: number,
    until: number,
  ): Promise<CarryOutcome[]> {
    const waiting = [...claims]
    const outcomes: CarryOutcome[] = []
    const roundUntil = Math.min(until, performance.now() + ROUND_MS)
    const lane = async (): Promise<void> => {
      let claim = waiting.shift()
      while (claim) {
        outcomes.push({ claim, result: await this.#carrier.carry(relocation, claim, call()) })
        claim = performance.now() < roundUntil ? waiting.shift() : undefined
      }
    }
    await Promise.all(Array.from({ length: lanes }, lane))
    return outcomes
  }

  /** Switches what was carried, in one transaction, and keeps why others stay. */
  async #settle(relocation: Relocation, outcomes: readonly CarryOutcome[]): Promise<void> {
    const carried = outcomes.flatMap(({ result }) => ('carried' in result ? [result.carried] : []))
    const switched =
      carried.length > 0 ? await this.#transaction((tx) => tx.switchCopies(relocation, carried)) : []
    const lost = carried.filter(({ pendingId }) => !switched.includes(pendingId))
    const staying = outcomes.filter(({ result }) => 'stays' in result)
    if (lost.length + staying.length === 0) return
    await this.#transaction(async (tx) => {
      // The copy was changed by somebody else meanwhile, or its credential is held: it is looked at again.
      await tx.releaseClaims([
        ...lost.map(({ pendingId }) => pendingId),
        ...staying.map(({ claim }) => claim.pending.id),
      ])
      // What failed on the way over is no failure of the way back.
      if (await runsStill(tx, relocation)) await recordStays(tx, relocation, staying)
    })
  }

  /** Rests where a store asks for patience, and gives up one that has long been out of reach. */
  async #takeTime(relocation: Relocation, pace: Pace, outcomes: readonly CarryOutcome[]): Promise<void> {
    const throttled = throttledIn(outcomes)
    if (throttled > 0) await this.#transaction((tx) => tx.countThrottled(relocation.id, throttled))
    pace.note(outcomes)
    if (pace.silentMs() > this.#options.giveUpMs && (await this.#giveUp(relocation, outcomes)))
      throw new RelocationEnded()
    if (pace.restMs > 0) await this.#pause(pace.restMs * (0.5 + Math.random() / 2))
  }

  async #pause(ms: number): Promise<void> {
    const timer = setTimeout(() => this.#called.resolve(undefined), ms)
    await this.#called.promise
    clearTimeout(timer)
    this.#called = Promise.withResolvers()
  }

  /** @returns whether it has ended */
  #giveUp(relocation: Relocation, late: readonly CarryOutcome[]): Promise<boolean> {
    return this.#transaction(async (tx) => {
      if (!(await runsStill(tx, relocation))) return true
      // Only this process may be cut off; and who resumed it wants it to be tried for as long again.
      if (await tx.hasProgressed(relocation.id, this.#options.giveUpMs)) return false
      await recordStays(tx, relocation, late)
      await endRelocation(tx, relocation.id, 'failed')
      return true
    })
  }

  #release(claims: readonly Claim[]): Promise<void> {
    return this.#transaction((tx) => tx.releaseClaims(claims.map(({ pending }) => pending.id)))
  }

  /** @returns whether it has ended */
  async #finish(running: Relocation): Promise<boolean> {
    // Switches wait while the run is locked, and hold credentials meanwhile: only one that looks done is locked.
    if (await this.#transaction((tx) => tx.anyToMove(running))) return false
    return this.#transaction(async (tx) => {
      const relocation = await runsStill(tx, running)
      if (!relocation) return true
      if (await tx.anyToMove(relocation)) return false
      const { id, heading } = relocation
      if (heading === 'over') await tx.noteStanding(relocation)
      // What failed on the way over stands in the report of a finalized one; its sources are dropped all the same.
      const failed = relocation.failed > 0 && heading !== 'closing'
      const whole = heading === 'over' ? 'done' : heading === 'back' ? 'rolled_back' : 'finalized'
      await endRelocation(tx, id, failed ? 'failed' : whole)
      return true
    })
  }

  #transaction<T>(act: (tx: LedgerTransaction) => Promise<T>): Promise<T> {
    return this.#ledger.transaction(call(), undefined, async (tx) => {
      await tx.mayTake(STEP_MS)
      return act(tx)
    })
  }
}

function call(): Call {
  return ownCall('migrateStore', STEP_MS)
}

/** The store migration as it is now, locked, if it still runs and heads there. */
async function runsStill(
  tx: LedgerTransaction,
  { id, heading }: Pick<Relocation, 'id' | 'heading'>,
): Promise<Relocation | undefined> {
  const now = await tx.relocation(id, true)
  return now?.state === 'running' && now.heading === heading ? now : undefined
}
