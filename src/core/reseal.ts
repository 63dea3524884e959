import { VaultError } from './errors.ts'
import type { Keyring } from './keyring.ts'
import type { Place } from './sealing.ts'
import { open, seal } from './sealing.ts'

/** A copy that a rotation moves: its token as it is, and the id of the copy that replaces it. */
export interface Resealing {
  keyId: string
  sealed: string
  place: Place
  newCopyId: string
}

/** The new copy's token, or the code of why there is none. */
export type Resealed = { sealed: string } | { code: 'copy_unreadable' }

/**
 * Seals what each token holds for the copy that replaces it, and opens the new token again to compare.
 *
 * @param toKeyId A key of the ring.
 */
export function reseal(keyring: Keyring, toKeyId: string, copies: readonly Resealing[]): Resealed[] {
  const key = keyring.get(toKeyId)!
  const now = Math.floor(Date.now() / 1000)
  return copies.map(({ keyId, sealed, place, newCopyId }) => {
    const newPlace = { ...place, copyId: newCopyId }
    try {
      const value = open(keyring, keyId, place, sealed)
      const resealed = seal(key, newPlace, value, now)
      const same = open(keyring, toKeyId, newPlace, resealed).reveal() === value.reveal()
      return same ? { sealed: resealed } : { code: 'copy_unreadable' }
    } catch (error) {
      if (!(error instanceof VaultError)) throw error
      return { code: 'copy_unreadable' }
    }
  })
}
