import { isObject, MAX_VALUE_BYTES } from './json-value.ts'
import { StoreError } from './secret-store.ts'
import { Secret } from './secret.ts'

/**
 * What a linked secret's text is as a value: a JSON object or array as it is, a member of one, and any other text as a
 * JSON string: the digits of a password are no number.
 *
 * @param field A top-level member of a JSON object.
 * @returns JSON text.
 * @throws StoreError `rejected` where it has no such member, or is longer than a value may be.
 */
export function linkedValue(text: Secret, field: string | undefined): Secret {
  const plain = text.reveal()
  const parsed = parse(plain)
  let json: string
  if (field === undefined) {
    json = typeof parsed === 'object' && parsed !== null ? plain.trim() : JSON.stringify(plain)
  } else {
    if (!isObject(parsed) || !Object.hasOwn(parsed, field))
      throw new StoreError('rejected', 'the secret has no such member')
    json = JSON.stringify(parsed[field])
  }
  if (Buffer.byteLength(json) > MAX_VALUE_BYTES)
    throw new StoreError('rejected', 'the secret is longer than a value may be')
  return new Secret(json)
}

/** A parser's error quotes the text, so only that there is none is kept. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
