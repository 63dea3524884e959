import {
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhen,
  type CircuitBreakerPolicy,
} from 'cockatiel'
import { StoreError } from './core/secret-store.ts'
import type { StoreState } from './core/stores.ts'
import { StoreRefusal } from './core/store-refusal.ts'

/** When a breaker opens, and for how long. */
export interface BreakerOptions {
  /** So many calls that find the store `unavailable`, one after the other, open it. */
  failuresMax: number
  /** How long it stays open before one call may try the store. */
  restMs: number
  onChange: (state: StoreState['breaker']) => void
}

const STATES = {
  [CircuitState.Closed]: 'closed',
  [CircuitState.Open]: 'open',
  [CircuitState.Isolated]: 'open',
  [CircuitState.HalfOpen]: 'half_open',
} as const

/**
 * Spares a store that does not answer, and those who would wait for it. Only `unavailable` counts against the store: with
 * any other fault it has answered.
 */
export class StoreBreaker {
  readonly #policy: CircuitBreakerPolicy
  readonly #restMs: number
  #openedAt = 0
  #reachable = true

  constructor({ failuresMax, restMs, onChange }: BreakerOptions) {
    this.#restMs = restMs
    this.#policy = circuitBreaker(handleWhen(isUnavailable), {
      // At once: how long the store is spared is judged in `admit`, by a clock that nobody sets back.
      halfOpenAfter: -Infinity,
      breaker: new ConsecutiveBreaker(failuresMax),
    })
    this.#policy.onStateChange((state) => {
      if (state === CircuitState.Open) this.#openedAt = performance.now()
      onChange(STATES[state])
    })
  }

  get state(): StoreState {
    return { reachable: this.#reachable, breaker: STATES[this.#policy.state] }
  }

  /** @throws StoreRefusal `unavailable` while the store is spared. */
  admit(): void {
    const { state } = this.#policy
    if (state === CircuitState.Closed) return
    // While half open, cockatiel lets others wait for the one call that tries the store; here they are answered.
    if (state === CircuitState.HalfOpen || performance.now() - this.#openedAt < this.#restMs) throw spared()
  }

  /** Runs a call of the provider that was admitted just now, and learns from what it comes to. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    const ended = await this.#policy.execute(() => this.#ended(call))
    if ('error' in ended) throw ended.error
    return ended.answer
  }

  // What cockatiel is not told to handle counts neither way while closed; an answer, whatever it is, must end a row of failures.
  async #ended<T>(call: () => Promise<T>): Promise<{ answer: T } | { error: unknown }> {
    try {
      const answer = await call()
      this.#reachable = true
      return { answer }
    } catch (error) {
      this.#reachable = !isUnavailable(error)
      if (!this.#reachable) throw error
      return { error }
    }
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof StoreError && error.fault === 'unavailable'
}

/** What is said while the breaker is open. */
export function spared(): StoreRefusal {
  return new StoreRefusal('unavailable', 'the breaker is open')
}
