import { VaultError } from './errors.ts'
import { FernetError, type FernetKey } from './fernet.ts'
import type { Keyring } from './keyring.ts'
import { Secret } from './secret.ts'

/** Where a copy belongs. Stands inside its Fernet token and is compared with the row it was read through. */
export interface Place {
  workspace: string
  /** The credential's id, not its name: another credential of the same name is another place. */
  credentialId: string
  version: number
  copyId: string
}

const PLACE = /^[^/\s]+\/[^/\s]+\/[0-9]+\/[^/\s]+$/

/**
 * Seals a value for one place.
 *
 * @param value The value's compact JSON text.
 * @param now Unix time in whole seconds; stands in the Fernet token in clear text and is never judged.
 */
export function seal(key: FernetKey, place: Place, value: Secret, now: number): string {
  return key.seal(placeLine(place) + value.reveal(), now)
}

/**
 * Opens what {@link seal} made for the same place.
 *
 * The key that the row names is tried first, then the others of the ring: a restored ledger may name a key wrongly.
 *
 * @returns The value's JSON text.
 * @throws VaultError `copy_unreadable` when no key opens it or it belongs elsewhere.
 */
export function open(keyring: Keyring, keyId: string, place: Place, token: string): Secret {
  const bytes = openWithAnyKey(keyring, keyId, token)
  const text = bytes.toString('utf8')
  bytes.fill(0)
  // Fernet has no associated data, so the place is sealed inside: what is moved to another row does not open.
  const line = placeLine(place)
  if (!text.startsWith(line)) {
    throw new VaultError('copy_unreadable', 'The stored copy belongs to another place than it was read from')
  }
  return new Secret(text.slice(line.length))
}

function openWithAnyKey(keyring: Keyring, keyId: string, token: string): Buffer {
  const named = keyring.get(keyId)
  const others = keyring.keys.filter((key) => key !== named)
  let cause: FernetError | undefined
  for (const key of named === undefined ? others : [named, ...others]) {
    try {
      return key.open(token)
    } catch (error) {
      if (!(error instanceof FernetError)) throw error
      cause = error
      if (error.code !== 'wrong_signature') break
    }
  }
  throw new VaultError('copy_unreadable', 'No key of the keyring opens the stored copy', { cause })
}

/** No part may hold a separator, so that equal lines mean that each part is equal. */
function placeLine(place: Place): string {
  const { workspace, credentialId, version, copyId } = place
  const line = `${workspace}/${credentialId}/${version}/${copyId}`
  if (!PLACE.test(line)) throw new TypeError('A part of the place is not a slug, an id or a version')
  return `${line}\n`
}
