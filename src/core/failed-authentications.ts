import type { Call } from './calls.ts'
import type { Ledger } from './ledger.ts'

const MINUTE_MS = 60_000
const ADDRESSES_MAX = 1_000

/** Records failed authentications: one event for each address and minute of this process, and a bounded number of them. */
export class FailedAuthentications {
  readonly #ledger: Ledger
  readonly #onError: (error: unknown) => void
  #minute = 0
  #addresses = new Set<string>()
  #last: Promise<void> = Promise.resolve()
  #count = 0

  constructor(ledger: Ledger, onError: (error: unknown) => void) {
    this.#ledger = ledger
    this.#onError = onError
  }

  /** All of this process since its start, recorded singly or not. */
  get count(): number {
    return this.#count
  }

  note(call: Call): void {
    this.#count++
    const minute = Math.floor(Date.now() / MINUTE_MS)
    if (minute !== this.#minute) {
      this.#minute = minute
      this.#addresses = new Set()
    }
    if (this.#addresses.has(call.address) || this.#addresses.size >= ADDRESSES_MAX) return
    this.#addresses.add(call.address)
    // Beyond the bound, one last event stands for all other addresses of this minute.
    const address = this.#addresses.size === ADDRESSES_MAX ? 'others' : call.address
    // One at a time: a flood of them must not take the writers from everybody else.
    this.#last = this.#last.then(() => this.#record({ ...call, address })).catch(this.#onError)
  }

  #record(call: Call): Promise<void> {
    const own = { ...call, deadlineAt: performance.now() + 5_000 }
    return this.#ledger.transaction(own, undefined, async (tx) => {
      tx.record({ action: 'authenticate', outcome: 'refused', code: 'unauthenticated' })
    })
  }
}
