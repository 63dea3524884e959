/**
 * So many calls a second and no more: as vendors count them, in any second, not only in those that begin on the full
 * second. Times are on the clock of `performance.now()`.
 */
export class StoreRate {
  /** For each of the last calls when it no longer counts, in a ring. */
  readonly #countsUntil: Float64Array
  readonly #windowMs: number
  #oldest = 0

  /** @param perSecond Below 1 it is one call in more than a second. */
  constructor(perSecond: number) {
    const calls = Math.max(1, Math.floor(perSecond))
    this.#countsUntil = new Float64Array(calls)
    this.#windowMs = (calls / perSecond) * 1000
  }

  /** When a call may begin, at the earliest, before which `ahead` others will. */
  freeAt(now: number, ahead = 0): number {
    const calls = this.#countsUntil.length
    const until = this.#countsUntil[(this.#oldest + ahead) % calls]!
    return Math.max(now, until) + Math.floor(ahead / calls) * this.#windowMs
  }

  /** Counts a call that begins now. */
  count(now: number): void {
    this.#countsUntil[this.#oldest] = now + this.#windowMs
    this.#oldest = (this.#oldest + 1) % this.#countsUntil.length
  }
}
