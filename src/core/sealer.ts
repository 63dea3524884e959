import { VaultError } from './errors.ts'
import type { Keyring } from './keyring.ts'
import type { Copy } from './ledger.ts'
import type { Place } from './sealing.ts'
import { open, seal } from './sealing.ts'
import type { Secret } from './secret.ts'

/** Seals under the key that the ledger names, and opens with any key of the ring. */
export class Sealer {
  #keyring: Keyring
  #sealingKeyId: string

  /** @param sealingKeyId The key that the ledger names; it must be on the ring. */
  constructor(keyring: Keyring, sealingKeyId: string) {
    this.#keyring = keyring
    this.#sealingKeyId = sealingKeyId
  }

  get keyring(): Keyring {
    return this.#keyring
  }

  get sealingKeyId(): string {
    return this.#sealingKeyId
  }

  /** @throws VaultError `unavailable` where this process does not know the key: it must not seal until it does. */
  sealUnder(keyId: string): void {
    if (!this.#keyring.has(keyId)) {
      throw new VaultError('unavailable', 'This process does not know the key that seals', {
        retryAfterSeconds: 1,
      })
    }
    this.#sealingKeyId = keyId
  }

  /** @param value JSON text. */
  seal(place: Place, value: Secret): { keyId: string; sealed: string } {
    const key = this.#keyring.get(this.#sealingKeyId)!
    return { keyId: key.id, sealed: seal(key, place, value, Math.floor(Date.now() / 1000)) }
  }

  /**
   * @returns JSON text.
   * @throws VaultError `copy_unreadable`
   */
  open(workspace: string, copy: Copy): Secret {
    const { credentialId, version, id: copyId } = copy
    return open(
      this.#keyring,
      copy.keyId ?? '',
      { workspace, credentialId, version, copyId },
      copy.sealed ?? '',
    )
  }
}
