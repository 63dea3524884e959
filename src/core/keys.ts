import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import type { KeyRecord } from './records.ts'

/** The keys that the ledger names, for operators. */
export class Keys {
  readonly #acts: Acts

  constructor(acts: Acts) {
    this.#acts = acts
  }

  list(call: Call, caller: Caller, page: PageRequest): Promise<Page<KeyRecord>> {
    return this.#acts.perform(call, caller, 'admin:keys', {}, async (tx, judged) => {
      demandAdmin(judged, 'admin:keys')
      return tx.keys(page)
    })
  }
}
