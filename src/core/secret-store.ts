import type { Locator } from './locator.ts'
import { isSlug, isUuid } from './names.ts'

/** What can go wrong at a store. The set is closed; `src/core/store-problems.ts` gives each its problem code. */
export type StoreFault = 'not_found' | 'denied' | 'throttled' | 'unavailable' | 'rejected'

/**
 * What every call of a provider fails with, and nothing else.
 *
 * The SDK's own error is never its cause: those carry requests, and with them tokens and values.
 */
export class StoreError extends Error {
  readonly fault: StoreFault

  /** @param detail For the operator's log: a vendor's error code by its name; never a message, a value or a token. */
  constructor(fault: StoreFault, detail: string) {
    super(detail)
    this.name = 'StoreError'
    this.fault = fault
  }
}

/** Whom a copy belongs to: shown to an operator who looks into the store, as far as the store can show it. */
export interface CopyOwner {
  workspace: string
  credential: string
}

/**
 * Whether the core could have minted this ref for a store with this prefix. Each provider asks before it makes a name of a
 * ref: so nothing but a copy of ours is ever written or deleted, whatever a vendor or its library makes of a path.
 */
export function isRefUnder(prefix: string, ref: string): boolean {
  if (!ref.startsWith(`${prefix}/`)) return false
  const [workspace, id, ...more] = ref.slice(prefix.length + 1).split('/')
  return isSlug(workspace) && id !== undefined && isUuid(id) && more.length === 0
}

/**
 * Keeps copies in one place: the whole interface of a provider. Each call fails with a {@link StoreError} and ends within
 * the time that the store was opened with.
 *
 * A ref is `<prefix>/<workspace>/<uuid>`: slugs and a UUID, never free text. It is minted once and never put with two
 * values, so a provider needs no listing, no locking and no versions of its own.
 */
export interface SecretStore {
  /** Keeps `value`; twice is the same as once. */
  put(ref: string, value: string, owner?: CopyOwner): Promise<void>
  /** @throws StoreError `not_found` when nothing is kept there. */
  get(ref: string): Promise<string>
  /**
   * Forgetting what was never kept succeeds.
   *
   * @param forGood Without the store's own recovery window, where it can.
   */
  delete(ref: string, forGood?: boolean): Promise<void>
  /** Whether a get would be accepted now. */
  check(): Promise<void>
  /** Twice is the same as once. */
  close(): Promise<void>
}

/** What somebody else keeps, as it was read. */
export interface LinkedSecret {
  /** The secret's text, whatever it is; of a secret with several members, a JSON object of them. */
  text: string
  /** The store's own name for the version that was read, where it has one. */
  version?: string
}

/** Reads what somebody else keeps in the same place. */
export interface LinkReader {
  /** @throws StoreError `not_found` when nothing is kept there. */
  read(locator: Locator): Promise<LinkedSecret>
}

/** What every store is opened with, whatever its kind. */
export interface StoreOptions {
  /** What every ref of the store begins with: slugs, joined by `/`. */
  prefix: string
  /** After this a call has failed as `unavailable`, in milliseconds. */
  timeoutMs: number
}

/** One kind of store: its settings and how it is opened. Each module in `providers/` exports one, and loads its SDK in `open`. */
export interface StoreKind<Settings = object> {
  /** As the stores file calls it. */
  provider: string
  /** JSON Schema of the settings that only this kind has; formats: `https-url`, `file` (absolute path of a file that can be read). */
  settings: { properties: Record<string, object>; required?: readonly string[] }
  /** The longest value that it takes, in bytes of UTF-8. */
  valueBytesMax: number
  /** Longest prefix, where the store's names are short. */
  prefixLengthMax?: number
  /**
   * What each segment of a locator must match, where the store's names have no `/` and a separator stands for it: no
   * segment may hold that separator, so that no two locators, and no locator and ref, ever mean the same name.
   */
  segment?: RegExp
  open(settings: Settings, options: StoreOptions): Promise<SecretStore & LinkReader>
}
