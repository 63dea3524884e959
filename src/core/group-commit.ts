import { VaultError, deadlinePassed } from './errors.ts'
import { OutcomeUnknown } from './ledger.ts'

/** How a group commit works, and on what. */
export interface GroupCommitOptions<Ask, Answer> {
  /** Statements in flight at once. */
  lanes: number
  /** Asks that may wait; whoever comes beyond them is refused as `overloaded`. */
  lineMax: number
  /** Asks in one statement. */
  batchMax: number
  /** A statement of so many asks that takes longer than this, in milliseconds, no longer holds back the next. */
  slowMs: (asks: number) => number
  /** Whether two asks are answered together anyway: where a statement has room, they are not divided. */
  isSameCall?: (one: Ask, other: Ask) => boolean
  /**
   * Commits a batch and answers in its order, by the latest deadline in it.
   *
   * @throws OutcomeUnknown or VaultError to refuse the whole batch; anything else where nothing was written and
   *   one of the asks may be to blame.
   */
  commit: (asks: readonly Ask[]) => Promise<Answer[]>
  /** Told of asks whose commit was not answered: they may have taken effect. */
  onUnknown: (asks: readonly Ask[]) => void
  /** Told of an answer that came after its ask's deadline: nobody waits for it any more. */
  onLate: (ask: Ask, answer: Answer) => void
  /** On the clock of `performance.now()`, in milliseconds. */
  deadlineOf: (ask: Ask) => number
}

interface Waiting<Ask, Answer> {
  ask: Ask
  resolve: (answer: Answer) => void
  reject: (error: unknown) => void
  /** Was refused at its deadline, which came before the answer. */
  gone: boolean
}

/** So many asks are not divided: a statement by itself costs as much as ten asks in it. */
const UNDIVIDED_MAX = 32

/**
 * Group commit: whoever arrives while a statement is in flight waits, and the next statement takes them all, or where
 * they are many, half of all who ask.
 *
 * While no statement is in flight, nobody waits for a timer: what has arrived in this turn of the event loop goes at
 * once.
 */
export class GroupCommit<Ask, Answer> {
  readonly #options: GroupCommitOptions<Ask, Answer>
  #line: Waiting<Ask, Answer>[] = []
  /** Asks in statements that are in flight or whose answer is just being taken. */
  #underWay = 0
  #scheduled = false
  /** Statements, each with when it becomes slow, on the clock of `performance.now()`, in milliseconds. */
  readonly #inFlight = new Set<{ readonly slowAt: number }>()
  #untilSlow: NodeJS.Timeout | undefined

  constructor(options: GroupCommitOptions<Ask, Answer>) {
    this.#options = options
  }

  /** Asks that wait for a statement. */
  get waiting(): number {
    return this.#line.length
  }

  /** Waits for the statement that takes `ask`, and answers what it judged. */
  submit(ask: Ask): Promise<Answer> {
    if (this.#line.length >= this.#options.lineMax) {
      return Promise.reject(
        new VaultError('overloaded', 'Too many requests are waiting', { retryAfterSeconds: 1 }),
      )
    }
    return new Promise((resolve, reject) => {
      this.#line.push({ ask, resolve, reject, gone: false })
      this.#schedule()
    })
  }

  get #lanesAreTaken(): boolean {
    return this.#inFlight.size >= this.#options.lanes
  }

  #schedule(): void {
    if (this.#scheduled || this.#lanesAreTaken) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#start()
    })
  }

  // A few who came first must not take a lane for themselves while many are about to follow: another statement goes out
  // beside those in flight only when enough wait to fill one, or when all that are in flight have become slow. Then they
  // wait for something themselves, and the processors have room.
  #worthwhile(now: number): boolean {
    const waitMs = Math.max(...[...this.#inFlight].map(({ slowAt }) => slowAt)) - now
    if (waitMs <= 0 || this.#line.length >= this.#options.batchMax) return true
    this.#untilSlow ??= setTimeout(() => {
      this.#untilSlow = undefined
      this.#schedule()
    }, Math.ceil(waitMs)).unref()
    return false
  }

  // Half of all who ask: while they are judged, Node answers the other half and reads what those ask for next. All at once
  // would have Node and the database wait for each other in turn.
  #take(now: number): Waiting<Ask, Answer>[] {
    const { batchMax, deadlineOf, isSameCall = () => false } = this.#options
    const half = Math.ceil((this.#line.length + this.#underWay) / 2)
    const share = Math.min(batchMax, Math.max(UNDIVIDED_MAX, half))
    const batch: Waiting<Ask, Answer>[] = []
    let taken = 0
    for (const next of this.#line) {
      const full = batch.length >= share && !isSameCall(batch.at(-1)!.ask, next.ask)
      if (full || batch.length >= batchMax) break
      if (deadlineOf(next.ask) <= now) next.reject(deadlinePassed())
      else batch.push(next)
      taken++
    }
    this.#line = this.#line.slice(taken)
    return batch
  }

  #start(): void {
    if (this.#line.length === 0 || this.#lanesAreTaken) return
    const now = performance.now()
    if (!this.#worthwhile(now)) return
    const batch = this.#take(now)
    if (batch.length === 0) return
    const statement = { slowAt: now + this.#options.slowMs(batch.length) }
    this.#inFlight.add(statement)
    this.#underWay += batch.length
    void this.#run(batch, () => {
      this.#inFlight.delete(statement)
      this.#start()
      this.#underWay -= batch.length
    })
    if (this.#line.length > 0) this.#schedule()
  }

  // The lane is free as soon as the database has answered, and the next statement leaves before the answers are handed
  // out: so the database works while Node opens and writes them.
  async #run(batch: Waiting<Ask, Answer>[], freeLane: () => void): Promise<void> {
    const stopWatching = this.#refuseAtDeadlines(batch)
    let holdsLane = true
    const free = (): void => {
      if (holdsLane) freeLane()
      holdsLane = false
    }
    try {
      const answers = await this.#options.commit(batch.map((waiting) => waiting.ask))
      const othersWait = this.#line.length > 0
      free()
      // Whatever is sent goes out at the end of this turn, and all that follows an answer belongs to the same turn.
      if (othersWait) await new Promise(setImmediate)
      for (const [index, { ask, resolve, gone }] of batch.entries()) {
        if (gone) this.#options.onLate(ask, answers[index]!)
        else resolve(answers[index]!)
      }
    } catch (error) {
      if (error instanceof OutcomeUnknown) {
        this.#options.onUnknown(batch.map((waiting) => waiting.ask))
        for (const waiting of batch) waiting.reject(unanswered(error))
      } else if (error instanceof VaultError || batch.length === 1) {
        for (const waiting of batch) waiting.reject(error)
      } else {
        // One of them is to blame, and nothing was written: each is tried alone, so that only that one fails.
        for (const waiting of batch) if (!waiting.gone) await this.#run([waiting], () => {})
      }
    } finally {
      stopWatching()
      free()
    }
  }

  // Each at its own: who came with little time left must not cut off the statement of all others.
  #refuseAtDeadlines(batch: readonly Waiting<Ask, Answer>[]): () => void {
    const { deadlineOf } = this.#options
    let timer: NodeJS.Timeout | undefined
    const watch = (): void => {
      const now = performance.now()
      let next = Infinity
      for (const waiting of batch) {
        const deadlineAt = deadlineOf(waiting.ask)
        if (deadlineAt > now) {
          next = Math.min(next, deadlineAt)
        } else {
          waiting.gone = true
          waiting.reject(deadlinePassed())
        }
      }
      if (next < Infinity) timer = setTimeout(watch, Math.ceil(next - now))
    }
    watch()
    return () => clearTimeout(timer)
  }
}

function unanswered(cause: unknown): VaultError {
  return new VaultError('unavailable', 'The database did not answer in time', { retryAfterSeconds: 1, cause })
}
