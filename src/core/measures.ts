import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { Call, Caller } from './calls.ts'
import type { KeyRecord, Rotation } from './records.ts'

const ACTION = 'admin:health'
const KEYS_MAX = 500

/** What the ledger shows of its health in numbers. */
export interface Measured {
  keys: KeyRecord[]
  /** The one that runs, else the last one. */
  rotation: Rotation | undefined
}

/** Reads the ledger for metrics, for operators. */
export class Measures {
  readonly #acts: Acts

  constructor(acts: Acts) {
    this.#acts = acts
  }

  read(call: Call, caller: Caller): Promise<Measured> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      const keys = await tx.keys({ limit: KEYS_MAX })
      const newest = await tx.rotations({ limit: 1 })
      return { keys: keys.items, rotation: newest.items[0] }
    })
  }
}
