import type { Call } from './calls.ts'
import type { Copies } from './copies.ts'
import type { ProblemCode } from './errors.ts'
import { VaultError } from './errors.ts'
import type { Carried, Claim, Relocation, SkipReason } from './relocation.ts'
import { routeOf } from './relocation.ts'
import type { Sealer } from './sealer.ts'
import type { StoreSet } from './store-set.ts'
import { LOCAL } from './store-set.ts'
import { StoreRefusal } from './store-refusal.ts'

/**
 * What became of one copy: written at the target, to be tried later, or it stays. `ours`: what is to be tried later was
 * refused here, by what we are told to ask of the store, and the store knows nothing of it.
 */
export type CarryResult =
  | { carried: Carried }
  | { later: ProblemCode; ours: boolean }
  | { stays: ProblemCode | SkipReason; failed: boolean }

/** A claim, and what became of it. */
export interface CarryOutcome {
  claim: Claim
  result: CarryResult
}

const LATER: readonly ProblemCode[] = ['store_throttled', 'store_unavailable', 'unavailable', 'overloaded']
const BY = 'store-migration'

/** Carries one copy from a store to another: read, written, got back, compared. The pointer is not its business. */
export class Carrier {
  readonly #copies: Copies
  readonly #sealer: Sealer
  readonly #stores: StoreSet
  readonly #newId: () => string

  constructor(copies: Copies, sealer: Sealer, stores: StoreSet, newId: () => string) {
    this.#copies = copies
    this.#sealer = sealer
    this.#stores = stores
    this.#newId = newId
  }

  /** Whether this process has both stores. */
  knows({ from, to }: Relocation): boolean {
    return this.#stores.has(from) && this.#stores.has(to)
  }

  /**
   * How many copies at once keep the stores' rates busy, at most `most`: as many as have their turn within half a second.
   * More would wait for longer than a call may take, and whoever writes meanwhile would wait behind them.
   */
  lanesMax(relocation: Relocation, most: number): number {
    const { from, to } = routeOf(relocation)
    const [source, target] = [from, to].map((name) => (name === LOCAL ? undefined : this.#stores.at(name)))
    const rates = [source?.readsPerSecond, target?.writesPerSecond, target?.readsPerSecond]
    const perSecond = Math.min(...rates.map((rate) => rate ?? Infinity))
    return Math.max(1, Math.min(most, Math.floor(perSecond / 2)))
  }

  /** Names the copy that is to replace one in this workspace. */
  name(relocation: Relocation, workspace: string): { id: string; ref?: string } {
    const id = this.#newId()
    const { to } = routeOf(relocation)
    return to === LOCAL ? { id } : { id, ref: `${this.#stores.at(to).prefix}/${workspace}/${id}` }
  }

  /** @throws VaultError `unavailable` where this process does not know the key yet */
  sealUnder(keyId: string): void {
    this.#sealer.sealUnder(keyId)
  }

  async carry(relocation: Relocation, claim: Claim, call: Call): Promise<CarryResult> {
    try {
      return await this.#carry(relocation, claim, call)
    } catch (error) {
      if (!(error instanceof VaultError)) throw error
      if (!LATER.includes(error.code)) return { stays: error.code, failed: true }
      return { later: error.code, ours: error.cause instanceof StoreRefusal }
    }
  }

  async #carry(
    relocation: Relocation,
    { copy, workspace, credential, pending }: Claim,
    call: Call,
  ): Promise<CarryResult> {
    const { to } = routeOf(relocation)
    const { value } = await this.#copies.read(workspace, copy, call, BY)
    if (value.bytes > this.#stores.valueBytesMax(to)) {
      // Rolled back means that all is as before: then what stays must be told.
      if (relocation.heading === 'back') return { stays: 'value_too_large', failed: true }
      return { stays: 'too_large', failed: false }
    }
    const carried = { copyId: copy.id, pendingId: pending.id }
    if (pending.ref !== undefined) {
      await this.#copies.keep(to, pending.ref, { workspace, credential }, value, call, BY)
      return { carried }
    }
    const { credentialId, version } = copy
    const place = { workspace, credentialId, version, copyId: pending.id }
    const { keyId, sealed } = this.#sealer.seal(place, value)
    // Read back as it will be read: what does not open now must not replace what does.
    const opened = this.#copies.open(workspace, { ...copy, id: pending.id, store: LOCAL, keyId, sealed })
    if (!opened.equals(value)) return { stays: 'copy_unreadable', failed: true }
    return { carried: { ...carried, sealed: { keyId, token: sealed } } }
  }
}
