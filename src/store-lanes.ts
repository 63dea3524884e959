import type { StoreRate } from './store-rate.ts'
import { StoreRefusal } from './core/store-refusal.ts'
import type { StoreTimers } from './store-timers.ts'

/** Who waits for a call of the provider, and until when. Others may join while it waits. */
export interface LaneDemand {
  /** The call counts for one of them: whoever has not used up his share. */
  readonly callers: Set<string>
  /** On the clock of `performance.now()`. */
  deadlineAt: number
}

/** How many lanes there are, and how many demands may wait for one. */
export interface LaneLimits {
  concurrency: number
  lineMax: number
}

interface Waiting {
  demand: LaneDemand
  /** Who came with it: of the line, too, one caller has at most half. */
  caller: string
  rate: StoreRate | undefined
  resolve: (giveBack: () => void) => void
  reject: (refusal: StoreRefusal) => void
}

/**
 * The calls that a store bears at once. One caller has at most half of the lanes, at least one, and whoever finds none
 * free waits in a bounded line. The rates are judged here too, so that nobody holds a lane while he waits for his second.
 *
 * A demand that would have to wait past its deadline for its rate, or finds the line full, is refused at once as
 * `throttled`: it is worth repeating, and the store is well. One that waits to its deadline is `unavailable`.
 */
export class StoreLanes {
  readonly #limits: LaneLimits
  readonly #timers: StoreTimers
  readonly #shareMax: number
  readonly #running = new Map<string, number>()
  #line: Waiting[] = []
  #free: number
  #callOffWake = (): void => undefined

  constructor(limits: LaneLimits, timers: StoreTimers) {
    this.#limits = limits
    this.#timers = timers
    this.#shareMax = shareOf(limits.concurrency)
    this.#free = limits.concurrency
  }

  /** Lanes that are taken. */
  get taken(): number {
    return this.#limits.concurrency - this.#free
  }

  /** Demands that wait for a lane. */
  get waiting(): number {
    return this.#line.length
  }

  /** Waits for a lane. @returns what gives it back; twice is the same as once. */
  take(demand: LaneDemand, rate?: StoreRate): Promise<() => void> {
    return new Promise((resolve, reject) => {
      const [caller = ''] = demand.callers
      const waiting = { demand, caller, rate, resolve, reject }
      this.#line.push(waiting)
      this.advance()
      const refusal = this.#line.at(-1) === waiting ? this.#refusalOf(waiting) : undefined
      if (refusal === undefined) return
      this.#line.pop()
      reject(refusal)
    })
  }

  /** Lets go whoever can, in order: to be called, too, when somebody has joined a demand. */
  advance(): void {
    const now = performance.now()
    let wakeAt = Infinity
    this.#line = this.#line.filter((waiting) => {
      const { demand, rate } = waiting
      if (demand.deadlineAt <= now) {
        waiting.reject(new StoreRefusal('unavailable', 'no turn before the deadline'))
        return false
      }
      if (this.#free === 0) return true
      const caller = this.#callerOf(demand)
      if (caller === undefined) return true
      const freeAt = rate?.freeAt(now) ?? now
      if (freeAt > now) {
        wakeAt = Math.min(wakeAt, freeAt)
        return true
      }
      rate?.count(now)
      waiting.resolve(this.#give(caller))
      return false
    })
    this.#callOffWake()
    if (wakeAt < Infinity) this.#callOffWake = this.#timers.at(wakeAt, () => this.advance())
  }

  /** Refuses all who wait. */
  refuse(make: () => StoreRefusal): void {
    const line = this.#line
    this.#line = []
    for (const waiting of line) waiting.reject(make())
    this.#callOffWake()
  }

  /** Judges the last of the line, who waits for a reason. */
  #refusalOf({ demand, caller, rate }: Waiting): StoreRefusal | undefined {
    const ahead = this.#line.filter((other) => other.rate === rate).length - 1
    if (rate !== undefined && rate.freeAt(performance.now(), ahead) >= demand.deadlineAt) {
      return new StoreRefusal('throttled', 'the configured rate allows no call before the deadline')
    }
    const ofCaller = this.#line.filter((other) => other.caller === caller).length
    const full = this.#line.length > this.#limits.lineMax || ofCaller > shareOf(this.#limits.lineMax)
    return full ? new StoreRefusal('throttled', 'too many calls are waiting') : undefined
  }

  #callerOf({ callers }: LaneDemand): string | undefined {
    for (const caller of callers) {
      if ((this.#running.get(caller) ?? 0) < this.#shareMax) return caller
    }
    return undefined
  }

  #give(caller: string): () => void {
    this.#free--
    this.#running.set(caller, (this.#running.get(caller) ?? 0) + 1)
    let given = true
    return () => {
      if (!given) return
      given = false
      this.#free++
      const left = this.#running.get(caller)! - 1
      if (left > 0) this.#running.set(caller, left)
      else this.#running.delete(caller)
      this.advance()
    }
  }
}

function shareOf(all: number): number {
  return Math.max(1, Math.floor(all / 2))
}
