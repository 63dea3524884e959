import { LOCAL } from './core/store-set.ts'
import type { Store } from './core/stores.ts'

/** The external stores of this process, ready to be called. */
export interface OpenedStores {
  external: readonly Store[]
  /** Where a new credential goes if nobody names a store. */
  byDefault: string
  /** How long a call of the slowest store may take. */
  longestCallSeconds: number
  close(): Promise<void>
}

/** No external store is configured. */
export const ONLY_LOCAL: OpenedStores = {
  external: [],
  byDefault: LOCAL,
  longestCallSeconds: 0,
  close: async () => {},
}
