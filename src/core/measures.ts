import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { Call, Caller } from './calls.ts'
import type { KeyRecord, Rotation, StoreCopies } from './records.ts'
import type { Relocation } from './relocation.ts'
import type { StoreSet } from './store-set.ts'
import type { StoreState } from './stores.ts'

const ACTION = 'admin:health'
const KEYS_MAX = 500

/** What the ledger and this process's stores show of their health in numbers. */
export interface Measured {
  keys: KeyRecord[]
  /** The one that runs, else the last one. */
  rotation: Rotation | undefined
  /** Of the whole ledger; a state without any is left out. */
  storeCopies: StoreCopies[]
  /** The external stores, as calls of this process have found them. */
  stores: (StoreState & { name: string })[]
  /** The one that runs, else the one that was begun last. */
  relocation: Relocation | undefined
}

/** Reads the ledger for metrics, for operators. */
export class Measures {
  readonly #acts: Acts
  readonly #stores: StoreSet

  constructor(acts: Acts, stores: StoreSet) {
    this.#acts = acts
    this.#stores = stores
  }

  read(call: Call, caller: Caller): Promise<Measured> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      const keys = await tx.keys({ limit: KEYS_MAX })
      const newest = await tx.rotations({ limit: 1 })
      const storeCopies = await tx.storeCopies()
      const relocation = await tx.latestRelocation()
      const stores = this.#stores.external.map((store) => ({ name: store.name, ...store.state() }))
      return { keys: keys.items, rotation: newest.items[0], storeCopies, stores, relocation }
    })
  }
}
