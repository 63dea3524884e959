import { isDeeperThan, isObject, VALUE_BYTES_MAX, VALUE_DEPTH_MAX } from './json-value.ts'
import { StoreError } from './secret-store.ts'
import { Secret } from './secret.ts'

/**
 * What a linked secret's text is as a value: a JSON object or array as it is, a member of one, and any other text as a
 * JSON string: the digits of a password are no number.
 *
 * @param field A top-level member of a JSON object.
 * @returns JSON text.
 * @throws StoreError `rejected` where it has no such member, or is longer or nests deeper than a value may.
 */
export function linkedValue(text: Secret, field: string | undefined): Secret {
  const plain = text.reveal()
  const parsed = parse(plain)
  if (isDeeperThan(parsed, VALUE_DEPTH_MAX))
    throw new StoreError('rejected', 'the secret nests deeper than a value may')
  let json: string
  if (field === undefined) {
    json = typeof parsed === 'object' && parsed !== null ? plain.trim() : JSON.stringify(plain)
  } else {
    if (!isObject(parsed) || !Object.hasOwn(parsed, field))
      throw new StoreError('rejected', 'the secret has no such member')
    json = memberOf(plain, field)
  }
  if (Buffer.byteLength(json) > VALUE_BYTES_MAX)
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

// Numbers stay as they are written, which may be with more digits than a number has here.
function memberOf(text: string, field: string): string {
  const whole = EXACT.parse(text, (_name, value, { source }) =>
    typeof value === 'number' ? EXACT.rawJSON(source!) : value,
  )
  return JSON.stringify((whole as Record<string, unknown>)[field])
}

// TypeScript's library does not have these yet.
const EXACT = JSON as unknown as {
  parse(
    text: string,
    revive: (name: string, value: unknown, context: { source?: string }) => unknown,
  ): unknown
  /** @see ECMA-262, JSON.rawJSON */
  rawJSON(text: string): unknown
}
