import type { Call } from './calls.ts'
import { VaultError } from './errors.ts'
import type { Ledger } from './ledger.ts'
import { linkedValue } from './links.ts'
import type { Copy, OtherCopy } from './records.ts'
import type { CopyOwner } from './secret-store.ts'
import { StoreError } from './secret-store.ts'
import type { Sealer } from './sealer.ts'
import { Secret } from './secret.ts'
import { storeProblem } from './store-problems.ts'
import type { StoreSet } from './store-set.ts'
import { LOCAL, StoreNotHere } from './store-set.ts'

/** A value as it was read from its copy. */
export interface ReadValue {
  /** JSON text. */
  value: Secret
  /** Whether a store was waited for: then whoever asked is judged again. */
  outside: boolean
  /** Of a link. */
  link?: { storeVersion?: string | undefined; readAt: Date } | undefined
}

/** What an external copy is made of. */
export interface CopyOrder {
  store: string
  credentialId: string
  version: number
  owner: CopyOwner
  /** JSON text. */
  value: Secret
}

const PROBE_OWNER: CopyOwner = { workspace: 'probe', credential: 'probe' }

/** Reads copies wherever they lie, and writes those that lie outside. */
export class Copies {
  readonly #ledger: Ledger
  readonly #sealer: Sealer
  readonly #stores: StoreSet
  readonly #newId: () => string

  constructor(ledger: Ledger, sealer: Sealer, stores: StoreSet, newId: () => string) {
    this.#ledger = ledger
    this.#sealer = sealer
    this.#stores = stores
    this.#newId = newId
  }

  /** Opens a local copy. @throws VaultError `copy_unreadable` */
  open(workspace: string, copy: Copy): Secret {
    return this.#sealer.open(workspace, copy)
  }

  /**
   * @param by Whose share of the store is used.
   * @throws VaultError with one of the five faults of a store, or `copy_unreadable`, or `link_refused`
   */
  async read(workspace: string, copy: Copy, call: Call, by: string): Promise<ReadValue> {
    if (copy.link) return this.#readLink(workspace, copy, call, by)
    if (copy.ref === undefined) return { value: this.open(workspace, copy), outside: false }
    try {
      return await this.#get(copy, copy.ref, call, by)
    } catch (error) {
      const other = await this.#elsewhere(copy, error, call)
      if (!other) throw storeProblem(copy.store, error)
      if (other.ref === undefined) return { value: this.open(workspace, other), outside: true }
      try {
        return await this.#get(other, other.ref, call, by)
      } catch (again) {
        throw other.isSource ? storeProblem(copy.store, error) : storeProblem(other.store, again)
      }
    }
  }

  // It may have been moved since the pointer was read: the pointer is read once more before a fault is told. And until a
  // store migration is finalized the source has the same value: who moves to a store that dies, or that this process
  // does not have yet, loses nothing.
  async #elsewhere(copy: Copy, error: unknown, { deadlineAt }: Call): Promise<OtherCopy | undefined> {
    const ofStore = error instanceof StoreError || error instanceof StoreNotHere
    if (!ofStore || performance.now() >= deadlineAt) return undefined
    return this.#ledger.otherCopy(copy, deadlineAt)
  }

  /**
   * Writes a copy outside: named in the ledger, put, got back, compared. It is `pending` then: whoever makes it current
   * has the last word, and what is left of it otherwise is the sweep's.
   *
   * @returns the copy's id
   * @throws VaultError with one of the five faults of a store; `store_rejected` where it keeps something else
   */
  async write(order: CopyOrder, call: Call, by: string): Promise<string> {
    const { credentialId, version, owner, value } = order
    const store = this.#stores.at(order.store)
    // Before it is named: in an outage each try would leave a row, and later two deletes of what was never put.
    try {
      store.admit()
    } catch (error) {
      throw storeProblem(store.name, error)
    }
    const id = this.#newId()
    const ref = `${store.prefix}/${owner.workspace}/${id}`
    const named = { id, credentialId, version, store: store.name, ref }
    await this.#ledger.transaction(call, undefined, (tx) => tx.nameCopy(named))
    await this.keep(store.name, ref, owner, value, call, by)
    return id
  }

  /**
   * Puts a value under a ref that the ledger knows, gets it back and compares.
   *
   * @throws VaultError with one of the five faults of a store; `store_rejected` where it keeps something else
   */
  async keep(
    at: string,
    ref: string,
    owner: CopyOwner,
    value: Secret,
    call: Call,
    by: string,
  ): Promise<void> {
    const store = this.#stores.at(at)
    const asked = { caller: by, deadlineAt: call.deadlineAt }
    let kept: Secret
    try {
      await store.put(ref, value, owner, asked)
      kept = await store.getBack(ref, asked)
    } catch (error) {
      throw storeProblem(at, error)
    }
    if (kept.equals(value)) return
    throw new VaultError('store_rejected', 'The store did not keep the value as it was given', { store: at })
  }

  /**
   * Whether a store takes a put, a get and a delete, by a copy of its own that is gone afterwards.
   *
   * @throws VaultError with one of the five faults of a store
   */
  async probe(at: string, call: Call, by: string): Promise<void> {
    if (at === LOCAL) return
    const store = this.#stores.at(at)
    const [id, credentialId] = [this.#newId(), this.#newId()]
    const ref = `${store.prefix}/probe/${id}`
    await this.#ledger.transaction(call, undefined, (tx) =>
      tx.nameCopy({ id, credentialId, version: 1, store: at, ref }),
    )
    await this.keep(at, ref, PROBE_OWNER, new Secret('"probe"'), call, by)
    try {
      // Not for good, which a store may take its time for: the sweep does that.
      await store.delete(ref, false, { caller: by, deadlineAt: call.deadlineAt })
    } catch (error) {
      throw storeProblem(at, error)
    }
    // The sweep deletes it twice more, as it does with every copy, and for good: it was never current.
    await this.#ledger.transaction(call, undefined, (tx) => tx.releaseClaims([id]))
  }

  async #get(copy: Copy, ref: string, call: Call, by: string): Promise<ReadValue> {
    const store = this.#stores.at(copy.store)
    const { value, cached } = await store.get(ref, { caller: by, deadlineAt: call.deadlineAt })
    return { value, outside: !cached }
  }

  async #readLink(workspace: string, copy: Copy, call: Call, by: string): Promise<ReadValue> {
    const { store, locator } = this.#stores.follow(copy.link!, workspace)
    try {
      const read = await store.read(locator, { caller: by, deadlineAt: call.deadlineAt })
      const { storeVersion, readAt } = read
      const value = linkedValue(read.value, copy.link!.field)
      return { value, outside: !read.cached, link: { storeVersion, readAt } }
    } catch (error) {
      throw storeProblem(store.name, error)
    }
  }
}
