import { VaultError } from './errors.ts'
import type { Keyring } from './keyring.ts'
import type { Copy } from './records.ts'
import type { Place } from './sealing.ts'
import { open, seal } from './sealing.ts'
import type { Secret } from './secret.ts'

/** Seals under the key that the ledger names, and opens with any key of the ring. */
export class Sealer {
  #keyring: Keyring
  #sealingKeyId: string
  #unknownKeyId: string | undefined
  readonly #onUnknownKey: (id: string) => void

  /**
   * @param sealingKeyId The key that the ledger names; it must be on the ring.
   * @param onUnknownKey Told of a key that is met and is not on the ring, to have the ring read again.
   */
  constructor(keyring: Keyring, sealingKeyId: string, onUnknownKey: (id: string) => void) {
    this.#keyring = keyring
    this.#sealingKeyId = sealingKeyId
    this.#onUnknownKey = onUnknownKey
  }

  get keyring(): Keyring {
    return this.#keyring
  }

  get sealingKeyId(): string {
    return this.#sealingKeyId
  }

  /** The key that this process met and does not know; while there is one, it is not ready. */
  get unknownKeyId(): string | undefined {
    return this.#unknownKeyId
  }

  /** @throws VaultError `unavailable` where this process does not know the key: it must not seal until it does. */
  sealUnder(keyId: string): void {
    if (!this.#keyring.has(keyId)) throw this.#meetUnknown(keyId)
    this.#sealingKeyId = keyId
  }

  /**
   * Goes on with a ring that the ledger was asked about just now: it has every key that is needed. Reads and seals that
   * are under way end with the old one.
   */
  useKeyring(keyring: Keyring, sealingKeyId: string): void {
    this.#keyring = keyring
    this.#sealingKeyId = sealingKeyId
    this.#unknownKeyId = undefined
  }

  #meetUnknown(keyId: string): VaultError {
    const met = this.#unknownKeyId === keyId
    this.#unknownKeyId = keyId
    // Under load thousands meet it at once: one is enough, for the ring is read again every second anyway.
    if (!met) this.#onUnknownKey(keyId)
    return unknownKey()
  }

  /** @param value JSON text. */
  seal(place: Place, value: Secret): { keyId: string; sealed: string } {
    const key = this.#keyring.get(this.#sealingKeyId)!
    return { keyId: key.id, sealed: seal(key, place, value, Math.floor(Date.now() / 1000)) }
  }

  /**
   * @returns JSON text.
   * @throws VaultError `copy_unreadable`; `unavailable` where the ledger names a key that this process does not know
   */
  open(workspace: string, copy: Copy): Secret {
    const { credentialId, version, id: copyId, keyId = '', sealed = '' } = copy
    try {
      return open(this.#keyring, keyId, { workspace, credentialId, version, copyId }, sealed)
    } catch (error) {
      // The copy is well: this process was frozen or cut off while others began to seal under a new key.
      if (error instanceof VaultError && keyId !== '' && !this.#keyring.has(keyId))
        throw this.#meetUnknown(keyId)
      throw error
    }
  }
}

function unknownKey(): VaultError {
  return new VaultError('unavailable', 'This process does not know the key yet: it reads its keys again', {
    retryAfterSeconds: 1,
  })
}
