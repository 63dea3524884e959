import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import { VaultError, notFound, unknownName } from './errors.ts'
import type { Rotation } from './records.ts'
import type { Sealer } from './sealer.ts'

const ACTION = 'admin:keys'

/** Key rotations, for operators: begun, seen, cancelled. The work is `RotationWorker`'s. */
export class Rotations {
  readonly #acts: Acts
  readonly #sealer: Sealer

  constructor(acts: Acts, sealer: Sealer) {
    this.#acts = acts
    this.#sealer = sealer
  }

  /**
   * From now on every process seals under the key, and every sealed copy is moved onto it.
   *
   * @param toKey A key's id; left out, the first key of this process's ring.
   * @throws VaultError `already_running`; `key_not_everywhere` while a living process does not know the key;
   *   `unknown_name` where this one does not.
   */
  start(call: Call, caller: Caller, toKey: string | undefined): Promise<Rotation> {
    const keyId = toKey ?? this.#sealer.keyring.first.id
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({
        rotation: 'start',
        to_key: this.#sealer.keyring.has(keyId) ? keyId : undefined,
      })
      demandAdmin(judged, ACTION)
      if (!this.#sealer.keyring.has(keyId))
        throw unknownName('/to_key', 'This process knows no key of this id')
      const begun = await tx.beginRotation(keyId, judged.identity)
      if (begun === 'already_running')
        throw new VaultError(begun, 'A rotation is running: follow or cancel that one')
      if ('ignorant' in begun) {
        const names = begun.ignorant.join(', ')
        throw new VaultError('key_not_everywhere', `These processes do not know the key yet: ${names}`)
      }
      entry.detail = JSON.stringify({
        rotation: begun.id,
        state: 'running',
        to_key: keyId,
        total: begun.total,
      })
      return begun
    })
  }

  /** Newest first. */
  list(call: Call, caller: Caller, page: PageRequest): Promise<Page<Rotation>> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      return tx.rotations(page)
    })
  }

  /** @throws VaultError `not_found` */
  read(call: Call, caller: Caller, id: string): Promise<Rotation> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      const rotation = await tx.rotation(id)
      if (!rotation) throw notFound()
      return rotation
    })
  }

  /** Copies stay under the key that they are under; a later rotation goes on, or back. Again the same answer. */
  cancel(call: Call, caller: Caller, id: string): Promise<Rotation> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      demandAdmin(judged, ACTION)
      const rotation = await tx.rotation(id, true)
      if (!rotation) throw notFound()
      if (rotation.state === 'cancelled') {
        entry.mark = 'unchanged'
        return rotation
      }
      if (rotation.state !== 'running')
        throw new VaultError('wrong_state', `The rotation is ${rotation.state} already`)
      entry.detail = JSON.stringify({ rotation: id, state: 'cancelled' })
      await tx.endRotation(id, 'cancelled')
      return (await tx.rotation(id))!
    })
  }
}
