import { LRUCache } from 'lru-cache'
import { FernetKey } from './core/fernet.ts'
import { Secret } from './core/secret.ts'

/** What was read at a store. */
export interface StoreRead {
  value: Secret
  storeVersion: string | undefined
  readAt: Date
}

/** How much a cache may hold. */
export interface CacheLimits {
  entriesMax: number
  bytesMax: number
}

interface Sealed {
  token: string
  storeVersion: string | undefined
  readAt: Date
  /** On the clock of `performance.now()`. */
  untilMs: number
}

const MS = 1000

/** What was read lately, sealed under a key that never leaves this process: nothing is kept in the clear. */
export class SealedCache {
  readonly #key = FernetKey.generate().key
  readonly #entries: LRUCache<string, Sealed>

  constructor({ entriesMax, bytesMax }: CacheLimits) {
    this.#entries = new LRUCache({
      max: entriesMax,
      maxSize: bytesMax,
      sizeCalculation: ({ token }, name) => token.length + name.length,
    })
  }

  /** Entries, those included whose time is over and that nobody has asked for since. */
  get size(): number {
    return this.#entries.size
  }

  get(name: string): StoreRead | undefined {
    const entry = this.#entries.get(name)
    if (entry === undefined) return undefined
    if (entry.untilMs <= performance.now()) {
      this.#entries.delete(name)
      return undefined
    }
    const bytes = this.#key.open(entry.token)
    const value = new Secret(bytes.toString('utf8'))
    bytes.fill(0)
    return { value, storeVersion: entry.storeVersion, readAt: entry.readAt }
  }

  /** Keeps it until that time on the clock of `performance.now()`; what is larger than the whole cache is not kept. */
  set(name: string, { value, storeVersion, readAt }: StoreRead, untilMs: number): void {
    const token = this.#key.seal(value.reveal(), Math.floor(Date.now() / MS))
    this.#entries.set(name, { token, storeVersion, readAt, untilMs })
  }

  delete(name: string): void {
    this.#entries.delete(name)
  }

  clear(): void {
    this.#entries.clear()
  }
}
