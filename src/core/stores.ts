import type { Locator } from './locator.ts'
import type { CopyOwner } from './secret-store.ts'
import type { Secret } from './secret.ts'

/** Who asks a store, and until when the answer is of use. */
export interface StoreCall {
  /** Whose share of the store's concurrency is used: an identity's name, or what works by itself. */
  caller: string
  /** On the clock of `performance.now()`, in milliseconds. */
  deadlineAt: number
}

/** As a lease says it. */
export interface LinkRead {
  value: Secret
  storeVersion?: string | undefined
  readAt: Date
}

/** Whether the store is well, as far as calls have shown. */
export interface StoreState {
  reachable: boolean
  breaker: 'closed' | 'open' | 'half_open'
}

/**
 * One configured external store behind what keeps it from harming others: deadlines, bounded concurrency, rates, retries,
 * a breaker, and a cache of sealed values. Every call fails with a StoreError and nothing else.
 */
export interface Store {
  readonly name: string
  readonly provider: string
  readonly prefix: string
  /** What each workspace may link to: prefixes that end in `/`. */
  readonly links: Readonly<Record<string, readonly string[]>>
  /** What each segment of a locator must match, where the store's names are flat. */
  readonly segment?: RegExp | undefined
  readonly versionsKept: number
  readonly valueBytesMax: number
  readonly readsPerSecond: number | undefined
  readonly writesPerSecond: number | undefined
  /** A look before the first step of what needs the store. @throws StoreError `unavailable` while it is spared */
  admit(): void
  put(ref: string, value: Secret, owner: CopyOwner, call: StoreCall): Promise<void>
  /** @returns the value, and whether it came from the cache. */
  get(ref: string, call: StoreCall): Promise<{ value: Secret; cached: boolean }>
  /** Past the cache: what the store has. */
  getBack(ref: string, call: StoreCall): Promise<Secret>
  read(locator: Locator, call: StoreCall): Promise<LinkRead & { cached: boolean }>
  delete(ref: string, forGood: boolean, call: StoreCall): Promise<void>
  check(call: StoreCall): Promise<void>
  state(): StoreState
  close(): Promise<void>
}
