import type { StoreError } from './core/secret-store.ts'

/** The timers of one store, kept together so that its end is theirs. Times are on the clock of `performance.now()`. */
export class StoreTimers {
  readonly #live = new Map<NodeJS.Timeout, () => void>()
  #closed = false

  /** Timers that have not run out. */
  get live(): number {
    return this.#live.size
  }

  /** Acts once at that time, or at once when the store is closed. @returns what calls it off. */
  at(time: number, act: () => void): () => void {
    if (this.#closed) {
      act()
      return () => undefined
    }
    const timer = setTimeout(
      () => {
        this.#live.delete(timer)
        act()
      },
      Math.max(0, Math.ceil(time - performance.now())),
    )
    this.#live.set(timer, act)
    return () => {
      clearTimeout(timer)
      this.#live.delete(timer)
    }
  }

  /** What `work` comes to, or the error that `late` makes when it has not ended at that time. */
  within<T>(work: Promise<T>, time: number, late: () => StoreError): Promise<T> {
    return new Promise((resolve, reject) => {
      const callOff = this.at(time, () => reject(late()))
      work.finally(callOff).then(resolve, reject)
    })
  }

  /** Whatever waits has waited long enough: each acts now, and none comes after. */
  close(): void {
    this.#closed = true
    for (const [timer, act] of this.#live) {
      clearTimeout(timer)
      act()
    }
    this.#live.clear()
  }
}
