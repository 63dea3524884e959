import type { Call } from './calls.ts'
import type { Copies, CopyOrder } from './copies.ts'
import { VaultError } from './errors.ts'
import type { Copy } from './records.ts'
import type { Secret } from './secret.ts'

/**
 * An act cannot go on before something is done that no transaction may wait for. Its transaction is rolled back, `work` is
 * done, and the act runs again.
 */
export class OutsideFirst extends Error {
  readonly work: () => Promise<void>

  constructor(work: () => Promise<void>) {
    super('Something outside of the transaction comes first')
    this.name = 'OutsideFirst'
    this.work = work
  }
}

/** What one act has done outside of its transaction, for when it runs again. */
export class Draft {
  readonly #copies: Copies
  readonly #call: Call
  /** Of a credential that is being made: the same in each run. */
  readonly credentialId: string
  readonly #read = new Map<string, Secret | VaultError>()
  #written: { copyId: string; order: CopyOrder } | undefined

  /** @param credentialId For a credential that the act may make. */
  constructor(copies: Copies, call: Call, credentialId: string) {
    this.#copies = copies
    this.#call = call
    this.credentialId = credentialId
  }

  /**
   * The value of a copy.
   *
   * @throws OutsideFirst where a store must be asked; afterwards VaultError where that failed
   */
  read(workspace: string, copy: Copy, by: string): Secret {
    if (copy.ref === undefined) return this.#copies.open(workspace, copy)
    const known = this.#read.get(copy.id)
    if (known instanceof VaultError) throw known
    if (known) return known
    throw new OutsideFirst(async () => {
      const read = this.#copies.read(workspace, copy, this.#call, by)
      this.#read.set(copy.id, await read.then(({ value }) => value, passOn))
    })
  }

  /**
   * The id of a copy that keeps this value for this credential outside. Its version may have become another one meanwhile:
   * the ledger says which it is when the copy becomes current.
   *
   * @throws OutsideFirst where it is not written yet
   */
  written(order: CopyOrder, by: string): string {
    const done = this.#written
    const same =
      done?.order.store === order.store &&
      done.order.credentialId === order.credentialId &&
      done.order.value.equals(order.value)
    if (same) return done.copyId
    throw new OutsideFirst(async () => {
      this.#written = { copyId: await this.#copies.write(order, this.#call, by), order }
    })
  }
}

function passOn(error: unknown): VaultError {
  if (error instanceof VaultError) return error
  throw error
}
