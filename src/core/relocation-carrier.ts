import type { Call } from './calls.ts'
import type { Copies } from './copies.ts'
import type { ProblemCode } from './errors.ts'
import { VaultError } from './errors.ts'
import type { Carried, Claim, Relocation, SkipReason } from './relocation.ts'
import { routeOf } from './relocation.ts'
import type { Sealer } from './sealer.ts'
import type { StoreSet } from './store-set.ts'
import { LOCAL } from './store-set.ts'

/** What became of one copy: written at the target, to be tried later, or it stays. */
export type CarryResult =
  { carried: Carried } | { later: ProblemCode } | { stays: ProblemCode | SkipReason; failed: boolean }

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
    const { to } = routeOf(relocation)
    try {
      return await this.#carry(to, claim, call)
    } catch (error) {
      if (!(error instanceof VaultError)) throw error
      return LATER.includes(error.code) ? { later: error.code } : { stays: error.code, failed: true }
    }
  }

  async #carry(
    to: string,
    { copy, workspace, credential, pending }: Claim,
    call: Call,
  ): Promise<CarryResult> {
    const { value } = await this.#copies.read(workspace, copy, call, BY)
    if (value.bytes > this.#stores.valueBytesMax(to)) return { stays: 'too_large', failed: false }
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
