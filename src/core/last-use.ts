import type { Ledger } from './ledger.ts'
import { ownCall } from './calls.ts'

const HOUR_MS = 3600_000
const REMEMBERED_MAX = 100_000
const WAITING_MAX = 10_000

/**
 * When credentials were last leased and tokens last used, to the hour: gathered here and written now and then, so that
 * no lease has to update a row that others wait for.
 */
export class LastUse {
  readonly #ledger: Ledger
  readonly #credentials = new Recent()
  readonly #tokens = new Recent()

  constructor(ledger: Ledger) {
    this.#ledger = ledger
  }

  noteLease(credentialId: string, tokenId: string): void {
    this.#credentials.note(credentialId)
    this.#tokens.note(tokenId)
  }

  noteToken(tokenId: string): void {
    this.#tokens.note(tokenId)
  }

  /** Writes what was gathered since the last time. */
  async flush(): Promise<void> {
    const credentials = this.#credentials.take()
    const tokens = this.#tokens.take()
    if (credentials.length + tokens.length === 0) return
    await this.#ledger.transaction(ownCall('touch', 5_000), undefined, (tx) => tx.touch(credentials, tokens))
  }
}

/** Ids that were not noted within the hour. Bounded: what does not fit is noted at its next use. */
class Recent {
  readonly #noted = new Map<string, number>()
  #waiting: string[] = []

  note(id: string): void {
    const now = Date.now()
    const before = this.#noted.get(id)
    if ((before !== undefined && now - before < HOUR_MS) || this.#waiting.length >= WAITING_MAX) return
    if (this.#noted.size >= REMEMBERED_MAX) this.#noted.clear()
    this.#noted.set(id, now)
    this.#waiting.push(id)
  }

  take(): string[] {
    const taken = this.#waiting
    this.#waiting = []
    return taken
  }
}
