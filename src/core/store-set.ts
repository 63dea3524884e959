import { VaultError, unknownName } from './errors.ts'
import { VALUE_BYTES_MAX } from './json-value.ts'
import { Locator } from './locator.ts'
import type { Link, Workspace } from './records.ts'
import type { Store } from './stores.ts'

/** The store that always exists: the ledger's own table, where values are sealed. */
export const LOCAL = 'local'

/** `store_unavailable`: this process is not configured with a store that the ledger names. */
export class StoreNotHere extends VaultError {
  constructor(store: string) {
    super('store_unavailable', 'This process is not configured with the store', { store })
  }
}

/** The stores of this process: `local`, and the external ones that are configured. */
export class StoreSet {
  readonly #external: ReadonlyMap<string, Store>
  /** Where neither a request nor its workspace names one. */
  readonly byDefault: string
  readonly #versionsKept: number

  /** @param versionsKept The newest versions that are kept where the store does not keep fewer. */
  constructor(external: readonly Store[], byDefault: string, versionsKept: number) {
    this.#external = new Map(external.map((store) => [store.name, store]))
    this.byDefault = byDefault
    this.#versionsKept = versionsKept
  }

  get external(): readonly Store[] {
    return [...this.#external.values()]
  }

  /** How many are well, `local` among them. */
  get health(): { ok: number; degraded: number } {
    const degraded = this.external.filter((store) => !store.state().reachable).length
    return { ok: 1 + this.#external.size - degraded, degraded }
  }

  has(name: string): boolean {
    return name === LOCAL || this.#external.has(name)
  }

  /** @throws StoreNotHere where this process does not know it: others were configured with it. */
  at(name: string): Store {
    const store = this.#external.get(name)
    if (store) return store
    throw new StoreNotHere(name)
  }

  /** The store of a new credential: the request's, else the workspace's, else the default. */
  choose(asked: string | undefined, workspace: Workspace): string {
    const name = asked ?? workspace.defaultStore ?? this.byDefault
    if (!this.has(name)) throw unknownName('/store', 'There is no store of this name')
    return name
  }

  versionsKept(name: string): number {
    return Math.min(this.#versionsKept, this.#external.get(name)?.versionsKept ?? Infinity)
  }

  /** The longest value that fits, in bytes of compact JSON. */
  valueBytesMax(name: string): number {
    return Math.min(VALUE_BYTES_MAX, this.#external.get(name)?.valueBytesMax ?? Infinity)
  }

  /**
   * Where a link leads, judged before any provider is called.
   *
   * @throws VaultError `link_refused` for all that the store does not open to the workspace
   */
  follow(link: Link, workspace: string): { store: Store; locator: Locator } {
    if (link.store === LOCAL) throw linkRefused(LOCAL)
    const store = this.at(link.store)
    const locator = Locator.parse(link.locator)
    const opened = Object.hasOwn(store.links, workspace) ? store.links[workspace]! : []
    const admitted =
      locator !== undefined &&
      locator.segments.every((segment) => store.segment?.test(segment) ?? true) &&
      opened.some((prefix) => locator.isUnder(prefix)) &&
      !this.external.some((one) => isOwn(locator, one.prefix))
    if (!admitted) throw linkRefused(store.name)
    return { store, locator }
  }
}

/** Some stores do not tell upper from lower case, so nobody does here. */
function isOwn(locator: Locator, prefix: string): boolean {
  const [text, own] = [locator.toString().toLowerCase(), prefix.toLowerCase()]
  return text === own || text.startsWith(`${own}/`)
}

function linkRefused(store: string): VaultError {
  return new VaultError('link_refused', 'The store does not open this place to the workspace', { store })
}
