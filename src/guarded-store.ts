import type { Locator } from './core/locator.ts'
import type { CopyOwner, LinkedSecret, LinkReader, SecretStore } from './core/secret-store.ts'
import { StoreError } from './core/secret-store.ts'
import { Secret } from './core/secret.ts'
import type { LinkRead, Store, StoreCall, StoreState } from './core/stores.ts'
import type { GuardOptions } from './open-stores.ts'
import { SealedCache, type CacheLimits, type StoreRead } from './sealed-cache.ts'
import {
  StoreEfforts,
  type Effort,
  type EffortTuning,
  type ProviderCall,
  type StoreEvent,
} from './store-efforts.ts'

/** One store as it is configured. */
export interface GuardedStoreOptions extends GuardOptions {
  /** Told what an operator should know. */
  onEvent: (event: StoreEvent) => void
  tuning?: Partial<StoreTuning>
}

/** What an operator has no use for, and tests do. */
export interface StoreTuning extends CacheLimits, EffortTuning {}

/** As the service runs. */
export const STORE_TUNING: StoreTuning = {
  retriesMax: 2,
  retryDelayMs: 50,
  breakerFailuresMax: 5,
  breakerRestMs: 2_000,
  linePerLane: 64,
  abandonedAfterTimeouts: 3,
  entriesMax: 32_768,
  bytesMax: 64 * 1024 * 1024,
}

// What somebody else keeps may change at any time, so it is remembered for little more than a burst of leases.
const LINK_SECONDS_MAX = 10

/** A read in flight, which others may join. */
interface Flight {
  effort: Effort
  answer: Promise<StoreRead>
  /** False once what it reads was deleted meanwhile. */
  mayCache: boolean
}

/** How a read in flight is made. */
interface FlightPlan {
  name: ProviderCall
  /** In the cache and among the reads in flight. */
  key: string
  cacheSeconds: number
  ask: () => Promise<LinkedSecret>
}

/** Stands between the core and one provider: {@link StoreEfforts} calls it, here equal reads meet and are remembered. */
export class GuardedStore implements Store {
  readonly name: string
  readonly provider: string
  readonly prefix: string
  readonly links: Readonly<Record<string, readonly string[]>>
  readonly segment: RegExp | undefined
  readonly versionsKept: number
  readonly valueBytesMax: number
  readonly readsPerSecond: number | undefined
  readonly writesPerSecond: number | undefined
  readonly #store: SecretStore & LinkReader
  readonly #cacheSeconds: number
  readonly #efforts: StoreEfforts
  readonly #cache: SealedCache | undefined
  readonly #flights = new Map<string, Flight>()
  #closing: Promise<void> | undefined

  constructor(store: SecretStore & LinkReader, options: GuardedStoreOptions) {
    const tuning = { ...STORE_TUNING, ...options.tuning }
    this.name = options.name
    this.provider = options.provider
    this.prefix = options.prefix
    this.links = options.links
    this.segment = options.segment
    this.versionsKept = options.versionsKept
    this.valueBytesMax = options.valueBytesMax
    this.readsPerSecond = options.limits.readsPerSecond
    this.writesPerSecond = options.limits.writesPerSecond
    this.#store = store
    this.#cacheSeconds = options.cacheSeconds
    this.#efforts = new StoreEfforts(options.limits, tuning, options.onEvent)
    this.#cache = options.cacheSeconds > 0 ? new SealedCache(tuning) : undefined
  }

  admit(): void {
    this.#efforts.admit()
  }

  /** Caches nothing: what was sent is not yet what the store has. */
  put(ref: string, value: Secret, owner: CopyOwner, call: StoreCall): Promise<void> {
    return this.#alone('put', call, () => this.#store.put(ref, value.reveal(), owner))
  }

  // Not async: what is cached is answered with one promise and without a timer.
  get(ref: string, call: StoreCall): Promise<{ value: Secret; cached: boolean }> {
    const kept = this.#cache?.get(ref)
    if (kept !== undefined) return Promise.resolve({ value: kept.value, cached: true })
    const ask = async (): Promise<LinkedSecret> => ({ text: jsonOf(await this.#store.get(ref)) })
    const read = this.#shared({ name: 'get', key: ref, cacheSeconds: this.#cacheSeconds, ask }, call)
    return read.then(({ value }) => ({ value, cached: false }))
  }

  getBack(ref: string, call: StoreCall): Promise<Secret> {
    return this.#alone('get', call, async () => new Secret(textOf(await this.#store.get(ref))))
  }

  read(locator: Locator, call: StoreCall): Promise<LinkRead & { cached: boolean }> {
    // No ref holds a colon, so no link is ever taken for one.
    const key = `link:${locator.toString()}`
    const kept = this.#cache?.get(key)
    if (kept !== undefined) return Promise.resolve({ ...kept, cached: true })
    const cacheSeconds = Math.min(this.#cacheSeconds, LINK_SECONDS_MAX)
    const read = this.#shared({ name: 'read', key, cacheSeconds, ask: () => this.#store.read(locator) }, call)
    return read.then((fresh) => ({ ...fresh, cached: false }))
  }

  async delete(ref: string, forGood: boolean, call: StoreCall): Promise<void> {
    this.#forget(ref)
    const effort = this.#efforts.begin(call)
    const work = this.#efforts.try('delete', effort, () => this.#store.delete(ref, forGood))
    // Again at its end, which may be after its caller has gone: a read may have found it meanwhile.
    const forgotten = work.finally(() => this.#forget(ref))
    await this.#efforts.awaited(effort, effort.deadlineAt, forgotten)
  }

  check(call: StoreCall): Promise<void> {
    return this.#alone('check', call, () => this.#store.check())
  }

  state(): StoreState {
    return this.#efforts.state
  }

  close(): Promise<void> {
    for (const flight of this.#flights.values()) flight.mayCache = false
    this.#cache?.clear()
    return (this.#closing ??= this.#efforts.close(() => this.#store.close()))
  }

  #alone<T>(name: ProviderCall, call: StoreCall, act: () => Promise<T>): Promise<T> {
    const effort = this.#efforts.begin(call)
    return this.#efforts.awaited(effort, effort.deadlineAt, this.#efforts.try(name, effort, act))
  }

  #shared(plan: FlightPlan, call: StoreCall): Promise<StoreRead> {
    const effort = this.#efforts.begin(call)
    const { deadlineAt } = effort
    let flight = this.#flights.get(plan.key)
    if (flight === undefined) flight = this.#depart(plan, effort)
    else this.#efforts.join(flight.effort, effort)
    return this.#efforts.awaited(flight.effort, deadlineAt, flight.answer)
  }

  #depart({ name, key, cacheSeconds, ask }: FlightPlan, effort: Effort): Flight {
    const readOnce = async (): Promise<StoreRead> => {
      const readAt = new Date()
      const untilMs = performance.now() + cacheSeconds * 1000
      const { text, version } = await ask()
      const read = { value: new Secret(textOf(text)), storeVersion: version, readAt }
      if (flight.mayCache) this.#cache?.set(key, read, untilMs)
      return read
    }
    const land = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key)
    }
    const answer = this.#efforts.try(name, effort, readOnce).finally(land)
    const flight = { effort, answer, mayCache: true }
    this.#flights.set(key, flight)
    return flight
  }

  #forget(ref: string): void {
    this.#cache?.delete(ref)
    const flight = this.#flights.get(ref)
    if (flight === undefined) return
    flight.mayCache = false
    this.#flights.delete(ref)
  }
}

/** Whoever has access to the store may have changed what lies there, and it goes into an answer as it is. */
function jsonOf(answer: unknown): string {
  const text = textOf(answer)
  try {
    JSON.parse(text)
  } catch {
    // Without the cause: a parser quotes the text.
    throw new StoreError('rejected', 'what is kept there is no JSON')
  }
  return text
}

function textOf(text: unknown): string {
  if (typeof text !== 'string') throw new StoreError('rejected', 'the provider answered no text')
  return text
}
