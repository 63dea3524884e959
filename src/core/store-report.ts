import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import type { StoreSet } from './store-set.ts'
import { LOCAL } from './store-set.ts'

const ACTION = 'admin:stores'

/** A store as operators see it. */
export interface StoreRecord {
  name: string
  provider: string
  default: boolean
  reachable: boolean
  breaker: 'closed' | 'open' | 'half_open'
  /** By state; a state without any is left out. */
  copies: Record<string, number>
}

/** The stores that this process is configured with, for operators. */
export class StoreReport {
  readonly #acts: Acts
  readonly #stores: StoreSet

  constructor(acts: Acts, stores: StoreSet) {
    this.#acts = acts
    this.#stores = stores
  }

  /** By name. */
  list(call: Call, caller: Caller, page: PageRequest): Promise<Page<StoreRecord>> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      const counted = await tx.storeCopies()
      const after = page.after?.[0] ?? ''
      const all = this.#all().sort((a, b) => (a.name < b.name ? -1 : 1))
      const following = all.filter(({ name }) => name > after)
      const items = following.slice(0, page.limit).map((store) => ({
        ...store,
        default: store.name === this.#stores.byDefault,
        copies: Object.fromEntries(
          counted.filter((one) => one.store === store.name).map(({ state, copies }) => [state, copies]),
        ),
      }))
      return following.length > items.length ? { items, next: [items.at(-1)!.name] } : { items }
    })
  }

  #all(): Omit<StoreRecord, 'default' | 'copies'>[] {
    const local = { name: LOCAL, provider: LOCAL, reachable: true, breaker: 'closed' as const }
    const external = this.#stores.external.map((store) => ({
      name: store.name,
      provider: store.provider,
      ...store.state(),
    }))
    return [local, ...external]
  }
}
