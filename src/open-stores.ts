import type { LinkReader, SecretStore } from './core/secret-store.ts'
import { StoreError } from './core/secret-store.ts'
import { StartRefused } from './core/start-refused.ts'
import type { Store } from './core/stores.ts'
import type { StoreLimits, StoreSettings } from './stores-file.ts'

/** What the guard of one store is told about it. */
export interface GuardOptions {
  name: string
  provider: string
  prefix: string
  links: Readonly<Record<string, readonly string[]>>
  versionsKept: number
  valueBytesMax: number
  /** What each segment of a locator must match, where the store's names are flat. */
  segment?: RegExp | undefined
  limits: StoreLimits
  /** 0 turns the cache off, also for links. */
  cacheSeconds: number
}

/** Puts a provider behind what keeps it from harming others. */
export type Guard = (provider: SecretStore & LinkReader, options: GuardOptions) => Store

/**
 * Opens every store, each with the SDK that it needs. If one cannot be opened, all the others are closed again.
 *
 * @returns them in the order of the settings
 * @throws StartRefused with all faults at once
 */
export async function openStores(stores: readonly StoreSettings[], guard: Guard): Promise<Store[]> {
  const tried = await Promise.allSettled(stores.map((settings) => openStore(settings, guard)))
  const opened = tried.filter((each) => each.status === 'fulfilled').map(({ value }) => value)
  if (opened.length === stores.length) return opened
  await Promise.allSettled(opened.map((store) => store.close()))
  const faults = tried.flatMap((each, index) =>
    each.status === 'rejected'
      ? [`STRONGROOM_STORES_FILE: /stores/${stores[index]!.name} cannot be opened (${nameOf(each.reason)})`]
      : [],
  )
  throw new StartRefused(faults)
}

async function openStore(store: StoreSettings, guard: Guard): Promise<Store> {
  const { name, kind, settings, prefix, links, versionsKept, limits, cacheSeconds } = store
  const provider = await kind.open(settings, { prefix, timeoutMs: limits.timeoutMs })
  try {
    return guard(provider, {
      name,
      provider: kind.provider,
      prefix,
      links,
      versionsKept,
      valueBytesMax: kind.valueBytesMax,
      segment: kind.segment,
      limits,
      cacheSeconds,
    })
  } catch (error) {
    await provider.close().catch(() => {})
    throw error
  }
}

/** An SDK's message may quote what it was given, so only a StoreError's is told. */
function nameOf(reason: unknown): string {
  if (reason instanceof StoreError) return `${reason.fault}: ${reason.message}`
  const { name, code } = (reason ?? {}) as { name?: unknown; code?: unknown }
  const said = [name, code].filter((each) => typeof each === 'string' && /^[A-Za-z0-9_]{1,64}$/.test(each))
  return said.join(', ') || 'unknown fault'
}
