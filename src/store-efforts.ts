import { ExponentialBackoff, handleWhen, retry, type RetryPolicy } from 'cockatiel'
import { StoreError } from './core/secret-store.ts'
import type { StoreCall, StoreState } from './core/stores.ts'
import { StoreBreaker, spared } from './store-breaker.ts'
import { StoreLanes, type LaneDemand } from './store-lanes.ts'
import { StoreRate } from './store-rate.ts'
import { StoreRefusal } from './core/store-refusal.ts'
import { StoreTimers } from './store-timers.ts'
import type { StoreLimits } from './stores-file.ts'

/** A call of a provider, by its name. */
export type ProviderCall = 'put' | 'get' | 'read' | 'delete' | 'check' | 'close'

/** What an operator should know of a store; nothing in it is the provider's text. */
export type StoreEvent =
  | { event: 'breaker'; breaker: StoreState['breaker'] }
  /** The provider threw what is no StoreError: a fault in it. */
  | { event: 'foreign_error'; call: ProviderCall }
  /** The provider had not ended a call long after its time: its lane was given back without it. */
  | { event: 'abandoned'; call: ProviderCall }

/** How calls are tried: an operator has no use for these, tests do. */
export interface EffortTuning {
  /** Beside the first try. */
  retriesMax: number
  retryDelayMs: number
  breakerFailuresMax: number
  breakerRestMs: number
  /** How many may wait for each lane. */
  linePerLane: number
  /** After so many times its time a call that has not ended gives its lane back. */
  abandonedAfterTimeouts: number
}

const RETRY_DELAY_MS_MAX = 1_000

/** Calls of the provider on behalf of whoever waits for what they come to. */
export interface Effort extends LaneDemand {
  /** What the last try came to, while none is on its way. */
  failure: StoreError | undefined
}

/**
 * Calls one provider, within what it bears. Who waits is answered at his own deadline or after the store's time, whatever
 * comes first; the call of the provider goes on, holds its lane, and what it comes to still counts for the breaker: so a
 * caller with little time opens no breaker, and a store that hangs is not called more often than it may be at once.
 */
export class StoreEfforts {
  readonly #limits: StoreLimits
  readonly #tuning: EffortTuning
  readonly #onEvent: (event: StoreEvent) => void
  readonly #timers = new StoreTimers()
  readonly #lanes: StoreLanes
  readonly #reads: StoreRate | undefined
  readonly #writes: StoreRate | undefined
  readonly #breaker: StoreBreaker
  readonly #retry: RetryPolicy
  #closed = false

  constructor(limits: StoreLimits, tuning: EffortTuning, onEvent: (event: StoreEvent) => void) {
    const { concurrency } = limits
    this.#limits = limits
    this.#tuning = tuning
    this.#onEvent = onEvent
    this.#lanes = new StoreLanes({ concurrency, lineMax: concurrency * tuning.linePerLane }, this.#timers)
    this.#reads = rateOf(limits.readsPerSecond)
    this.#writes = rateOf(limits.writesPerSecond)
    this.#breaker = new StoreBreaker({
      failuresMax: tuning.breakerFailuresMax,
      restMs: tuning.breakerRestMs,
      onChange: (breaker) => {
        onEvent({ event: 'breaker', breaker })
        if (breaker === 'open') this.#lanes.refuse(spared)
      },
    })
    // A retry that nobody waits for any more must not keep the process alive.
    this.#retry = retry(handleWhen(mayBeRepeated), {
      maxAttempts: tuning.retriesMax,
      backoff: new ExponentialBackoff({ initialDelay: tuning.retryDelayMs, maxDelay: RETRY_DELAY_MS_MAX }),
    }).dangerouslyUnref()
  }

  get state(): StoreState {
    return this.#breaker.state
  }

  /** @throws StoreRefusal `unavailable` where a call would be refused at once */
  admit(): void {
    if (this.#closed) throw closed()
    this.#breaker.admit()
  }

  begin({ caller, deadlineAt }: StoreCall): Effort {
    const timeAt = performance.now() + this.#limits.timeoutMs
    return { callers: new Set([caller]), deadlineAt: Math.min(deadlineAt, timeAt), failure: undefined }
  }

  /** Another wants the same: the effort lasts as long as one of them waits, and uses the share of whoever has one left. */
  join(effort: Effort, { callers, deadlineAt }: Effort): void {
    for (const caller of callers) effort.callers.add(caller)
    effort.deadlineAt = Math.max(effort.deadlineAt, deadlineAt)
    this.#lanes.advance()
  }

  /** Tries until it succeeds, is not worth repeating, was repeated enough, or nobody waits any more. */
  try<T>(name: ProviderCall, effort: Effort, act: () => Promise<T>): Promise<T> {
    return this.#retry.execute(() => this.#tryOnce(name, effort, act))
  }

  /** What the work comes to; at the deadline the failure that it was about to make up for, else that there is no answer. */
  awaited<T>(effort: Effort, deadlineAt: number, work: Promise<T>): Promise<T> {
    return this.#timers.within(
      work,
      deadlineAt,
      () => effort.failure ?? (this.#closed ? closed() : unanswered()),
    )
  }

  /** Fails whatever waits, then closes the provider with `act`. Never fails: nobody has a use for its faults any more. */
  async close(act: () => Promise<void>): Promise<void> {
    this.#closed = true
    this.#lanes.refuse(closed)
    this.#timers.close()
    const late = (): StoreError => {
      this.#onEvent({ event: 'abandoned', call: 'close' })
      return unanswered()
    }
    const timeAt = performance.now() + this.#limits.timeoutMs
    await new StoreTimers().within(this.#ask('close', act), timeAt, late).catch(() => undefined)
  }

  async #tryOnce<T>(name: ProviderCall, effort: Effort, act: () => Promise<T>): Promise<T> {
    this.admit()
    const rate = name === 'put' || name === 'delete' ? this.#writes : this.#reads
    const giveBack = await this.#lanes.take(effort, rate)
    try {
      this.#breaker.admit()
      effort.failure = undefined
      return await this.#breaker.run(() => this.#timed(name, act, giveBack))
    } catch (error) {
      if (error instanceof StoreRefusal) giveBack()
      if (mayBeRepeated(error)) effort.failure = error
      throw error
    }
  }

  // The lane is held until the provider has ended, for as long as there may be something at the other end: only so is
  // concurrency bounded. But a provider that never ends must not take the lanes with it for ever.
  #timed<T>(name: ProviderCall, act: () => Promise<T>, giveBack: () => void): Promise<T> {
    const { timeoutMs } = this.#limits
    const beganAt = performance.now()
    let callOff = (): void => undefined
    const ended = this.#ask(name, act).finally(() => {
      callOff()
      giveBack()
    })
    return this.#timers.within(ended, beganAt + timeoutMs, () => {
      callOff = this.#timers.at(beganAt + timeoutMs * this.#tuning.abandonedAfterTimeouts, () => {
        if (!this.#closed) this.#onEvent({ event: 'abandoned', call: name })
        giveBack()
      })
      return unanswered()
    })
  }

  /** Whatever the provider throws is made anew, so that nothing hangs on it: no cause, no request, no login. */
  async #ask<T>(call: ProviderCall, act: () => Promise<T>): Promise<T> {
    try {
      return await act()
    } catch (error) {
      if (error instanceof StoreError) throw new StoreError(error.fault, error.message)
      this.#onEvent({ event: 'foreign_error', call })
      throw new StoreError('unavailable', 'the provider failed unexpectedly')
    }
  }
}

function rateOf(perSecond: number | undefined): StoreRate | undefined {
  return perSecond === undefined ? undefined : new StoreRate(perSecond)
}

function mayBeRepeated(error: unknown): error is StoreError {
  if (!(error instanceof StoreError) || error instanceof StoreRefusal) return false
  return error.fault === 'throttled' || error.fault === 'unavailable'
}

function unanswered(): StoreError {
  return new StoreError('unavailable', 'no answer in time')
}

function closed(): StoreRefusal {
  return new StoreRefusal('unavailable', 'the store is closed')
}
