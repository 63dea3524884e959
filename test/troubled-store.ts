import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { memory } from '../providers/memory.ts'
import type { LinkReader, SecretStore } from '../src/core/secret-store.ts'
import type { StoreCall } from '../src/core/stores.ts'
import { GuardedStore, type GuardedStoreOptions, type StoreTuning } from '../src/guarded-store.ts'
import type { ProviderCall, StoreEvent } from '../src/store-efforts.ts'
import type { StoreLimits } from '../src/stores-file.ts'
import { altered } from './conformance/troubled-store.ts'

/** The provider `memory` with trouble in the tester's hand. */
export interface Troubled {
  store: GuardedStore
  /** Where the provider keeps its copies. */
  kept: Map<string, string>
  /** Awaited before the provider acts: may throw, wait, or never end. */
  trouble: { onCall: ((call: ProviderCall, what: string) => unknown) | undefined }
  /** What reached the provider, as `call what`; a delete without a recovery window ends in `for good`. */
  calls: string[]
  inFlight: { now: number; max: number }
  events: StoreEvent[]
}

type Provider = SecretStore & LinkReader

/** How the store is set up, where it matters. */
export interface TroubledOptions {
  name?: string
  links?: Record<string, string[]>
  valueBytesMax?: number
  limits?: Partial<StoreLimits>
  cacheSeconds?: number
  tuning?: Partial<StoreTuning>
  /** What the provider does otherwise. */
  alter?: (inner: Provider) => Partial<Provider>
  /** What the core sees of it. */
  seen?: Partial<
    Pick<GuardedStoreOptions, 'name' | 'prefix' | 'links' | 'versionsKept' | 'valueBytesMax' | 'segment'>
  >
}

/** A guarded store whose provider gets into trouble on demand; closed with the test. */
export async function troubledStore(t: Test, options: TroubledOptions = {}): Promise<Troubled> {
  const kept = new Map<string, string>()
  const inner = await memory.open({ kept }, { prefix: 'strongroom', timeoutMs: 30_000 })
  const under = { kept, trouble: { onCall: undefined }, calls: [], inFlight: { now: 0, max: 0 }, events: [] }
  const provider = options.alter ? altered(inner, options.alter(inner)) : inner
  const store = new GuardedStore(inTrouble(provider, under), {
    name: options.name ?? 'team-vault',
    provider: 'memory',
    prefix: 'strongroom',
    links: options.links ?? {},
    versionsKept: 10,
    valueBytesMax: options.valueBytesMax ?? 32_768,
    ...options.seen,
    limits: { concurrency: 8, timeoutMs: 30_000, ...options.limits },
    cacheSeconds: options.cacheSeconds ?? 300,
    onEvent: (event) => (under.events as StoreEvent[]).push(event),
    tuning: { retryDelayMs: 1, ...options.tuning },
  })
  t.teardown(() => {
    // For what hangs is not waited.
    under.trouble.onCall = undefined
    return store.close()
  })
  return { ...under, store }
}

/** A provider that takes the place of a copy for a link, which none should: so that a text can be both. */
export const linksAnything = (inner: Provider): Partial<Provider> => ({
  read: async (locator) => ({ text: await inner.get(locator.toString()) }),
})

function inTrouble(store: Provider, under: Omit<Troubled, 'store'>): Provider {
  const through = async <T>(call: ProviderCall, what: string, act: () => Promise<T>): Promise<T> => {
    under.calls.push(`${call} ${what}`.trim())
    under.inFlight.max = Math.max(under.inFlight.max, ++under.inFlight.now)
    try {
      await under.trouble.onCall?.(call, what)
      return await act()
    } finally {
      under.inFlight.now--
    }
  }
  return {
    put: (ref, value) => through('put', ref, () => store.put(ref, value)),
    get: (ref) => through('get', ref, () => store.get(ref)),
    read: (locator) => through('read', locator.toString(), () => store.read(locator)),
    delete: (ref, forGood) =>
      through('delete', forGood ? `${ref} for good` : ref, () => store.delete(ref, forGood)),
    check: () => through('check', '', () => store.check()),
    close: () => through('close', '', () => store.close()),
  }
}

/** Whose call it is, and how long it may take. */
export function within(ms: number, caller = 'worker'): StoreCall {
  return { caller, deadlineAt: performance.now() + ms }
}

/** A ref such as the core mints, with something kept there. */
export function plant({ kept }: Pick<Troubled, 'kept'>, value = '"kept"'): string {
  const ref = `strongroom/acme/${randomUUID()}`
  kept.set(ref, value)
  return ref
}

/** Never ends. */
export const forEver = (): Promise<never> => new Promise(() => undefined)

/** Holds up whoever comes, until told otherwise. */
export function barrier(): { wait: () => Promise<undefined>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  return { wait: () => promise, open: () => resolve(undefined) }
}

/** The fault that a call fails with, or what it answers. */
export async function outcome(act: Promise<unknown>): Promise<unknown> {
  return act.catch((error: { fault?: unknown }) => error.fault ?? error)
}

/** Waits so long. */
export const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
