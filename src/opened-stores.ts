import { LOCAL } from './core/store-set.ts'
import type { Store } from './core/stores.ts'
import type { Logger } from './log.ts'
import type { StoresFile } from './stores-file.ts'

/** The external stores of this process, ready to be called. */
export interface OpenedStores {
  external: readonly Store[]
  /** Where a new credential goes if nobody names a store. */
  byDefault: string
  /** How long a call of the slowest store may take. */
  longestCallSeconds: number
  /** Whoever only makes an administrator needs none of them, wherever the ledger has copies. */
  leftAlone?: boolean
  close(): Promise<void>
}

/** No external store is configured. */
export const ONLY_LOCAL: OpenedStores = {
  external: [],
  byDefault: LOCAL,
  longestCallSeconds: 0,
  close: async () => {},
}

/** No external store is opened, whatever is configured. */
export const LEFT_ALONE: OpenedStores = { ...ONLY_LOCAL, leftAlone: true }

/**
 * Opens the stores of the stores file, each behind its guard. Who has none waits for none of this to be loaded.
 *
 * @throws StartRefused with all faults at once
 */
export async function openConfigured({ byDefault, stores }: StoresFile, log: Logger): Promise<OpenedStores> {
  if (stores.length === 0) return { ...ONLY_LOCAL, byDefault }
  const { openStores } = await import('./open-stores.ts')
  const { GuardedStore } = await import('./guarded-store.ts')
  const external = await openStores(stores, (provider, options) => {
    const onEvent = (event: object): void =>
      log.warn({ store: options.name, ...event }, 'a store is not well')
    return new GuardedStore(provider, { ...options, onEvent })
  })
  return {
    external,
    byDefault,
    longestCallSeconds: Math.max(...stores.map(({ limits }) => limits.timeoutMs)) / 1000,
    close: async () => void (await Promise.allSettled(external.map((store) => store.close()))),
  }
}

/** Asks each store whether a get would be accepted: what it answers shows in its state. */
export async function checkStores(stores: readonly Store[]): Promise<void> {
  const call = { caller: 'check', deadlineAt: performance.now() + STORE_CHECK_MS }
  await Promise.all(stores.map((store) => store.check(call).catch(() => {})))
}

const STORE_CHECK_MS = 10_000
