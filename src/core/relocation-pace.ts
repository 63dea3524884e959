import type { CarryOutcome } from './relocation-carrier.ts'

const PATIENCE_MS = { least: 100, most: 5_000 }

/** How fast one process moves copies: as fast as the stores bear, told by what became of the last ones. */
export class Pace {
  readonly #lanesMax: number
  #lanes: number
  #restMs = 0
  #silentSince: number | undefined

  /** @param lanesMax Copies on their way at once, while all goes well. */
  constructor(lanesMax: number) {
    this.#lanesMax = lanesMax
    this.#lanes = lanesMax
  }

  /** Copies on their way at once. */
  get lanes(): number {
    return this.#lanes
  }

  /** How long to rest before the next ones; 0 while all goes well. */
  get restMs(): number {
    return this.#restMs
  }

  /** Half as many at once, and a longer pause, where some are to be tried later; else one more at once, and none. */
  note(outcomes: readonly CarryOutcome[], now = performance.now()): void {
    const late = outcomes.filter(({ result }) => 'later' in result)
    // Who asks for patience is there.
    const answered = late.length < outcomes.length || late.some(asksForPatience)
    this.#silentSince = answered ? undefined : (this.#silentSince ?? now)
    if (late.length === 0) {
      this.#lanes = Math.min(this.#lanesMax, this.#lanes + 1)
      this.#restMs = 0
      return
    }
    this.#lanes = Math.max(1, Math.floor(this.#lanes / 2))
    this.#restMs = Math.min(Math.max(this.#restMs * 2, PATIENCE_MS.least), PATIENCE_MS.most)
  }

  /** For how long nothing at all was answered. */
  silentMs(now = performance.now()): number {
    return this.#silentSince === undefined ? 0 : now - this.#silentSince
  }
}

/** How often the stores themselves asked for patience. */
export function throttledIn(outcomes: readonly CarryOutcome[]): number {
  return outcomes.filter((outcome) => asksForPatience(outcome) && !isOurs(outcome)).length
}

function asksForPatience({ result }: CarryOutcome): boolean {
  return 'later' in result && result.later === 'store_throttled'
}

function isOurs({ result }: CarryOutcome): boolean {
  return 'later' in result && result.ours
}
