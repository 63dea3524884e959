import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import { VaultError, notFound, unknownName } from './errors.ts'
import { askedSlug, isSlug } from './names.ts'
import type { Workspace } from './records.ts'
import type { StoreSet } from './store-set.ts'

const ACTION = 'admin:workspaces'

/** Workspaces, for operators. */
export class Workspaces {
  readonly #acts: Acts
  readonly #stores: StoreSet

  constructor(acts: Acts, stores: StoreSet) {
    this.#acts = acts
    this.#stores = stores
  }

  list(call: Call, caller: Caller, page: PageRequest): Promise<Page<Workspace>> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      return tx.workspaces(page)
    })
  }

  /** @throws VaultError `not_found` */
  read(call: Call, caller: Caller, name: string): Promise<Workspace> {
    return this.#acts.perform(call, caller, ACTION, { workspace: name }, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      const workspace = await tx.workspace(askedSlug(name))
      if (!workspace) throw notFound()
      return workspace
    })
  }

  /** @throws VaultError `unknown_name` */
  put(
    call: Call,
    caller: Caller,
    name: string,
    defaultStore: string | undefined,
  ): Promise<{ workspace: Workspace; created: boolean }> {
    return this.#acts.perform(call, caller, ACTION, { workspace: name }, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      if (!isSlug(name)) throw notFound()
      if (defaultStore !== undefined && !this.#stores.has(defaultStore)) {
        throw unknownName('/default_store', 'There is no store of this name')
      }
      return tx.putWorkspace(name, defaultStore)
    })
  }

  /** @throws VaultError `in_use` while it has credentials, deleted ones included */
  delete(call: Call, caller: Caller, name: string): Promise<void> {
    return this.#acts.perform(call, caller, ACTION, { workspace: name }, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      const workspace = await tx.workspace(askedSlug(name))
      if (!workspace) throw notFound()
      if ((await tx.deleteWorkspace(workspace.id)) === 'in_use') {
        throw new VaultError(
          'in_use',
          'The workspace still has credentials; deleted ones count until they are purged',
        )
      }
    })
  }
}
