import { invalid, VaultError } from './errors.ts'
import { scanJson } from './json-scan.ts'
import { Secret } from './secret.ts'

/** A value's compact JSON text is no longer than this, in bytes of UTF-8. */
export const MAX_VALUE_BYTES = 32_768

/** How deep arrays and objects of a value may nest: a scalar has depth 0, `[]` has 1. */
export const MAX_VALUE_DEPTH = 64

/** The same for a whole body, which holds a value somewhere inside. */
export const MAX_BODY_DEPTH = MAX_VALUE_DEPTH + 8

// A byte order mark is kept, so that JSON.parse refuses it.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Reads a request's body and refuses what parsing and writing again would change: a number that is not exact,
 * a lone surrogate, the member name `__proto__`, equal member names.
 *
 * @throws VaultError `invalid_request`, pointing at `/value` for what lies under the body's member `value` and at
 *   the whole body otherwise, since other names are the caller's own.
 */
export function parseStrictJson(bytes: Buffer): unknown {
  const text = decodeUtf8(bytes)
  const body = parseJson(text)
  // JSON.parse does not recurse, and what it drops (earlier members of an equal name) the scan has seen.
  const written = scanJson(text, MAX_BODY_DEPTH)
  // With one member at most there are no equal names, and without an escape or the name there is no more to find.
  const atMostOne = written.elsewhere + written.underValue <= 1
  if (atMostOne && !text.includes('\\u') && !text.includes('__proto__')) return body
  const elsewhere = judgeMembers(body, '', 'value')
  if (elsewhere !== written.elsewhere) throw equalNames('')
  if (isObject(body) && Object.hasOwn(body, 'value')) {
    if (judgeMembers(body['value'], '/value') !== written.underValue) throw equalNames('/value')
  }
  return body
}

/**
 * The compact JSON text of a value.
 *
 * @throws VaultError `value_too_large` above {@link MAX_VALUE_BYTES}, `invalid_request` above {@link MAX_VALUE_DEPTH}.
 */
export function valueText(value: unknown): Secret {
  if (value === undefined) throw invalid('/value', 'A value is missing')
  if (isDeeperThan(value, MAX_VALUE_DEPTH)) {
    throw invalid('/value', `A value nests at most ${MAX_VALUE_DEPTH} deep`)
  }
  const text = JSON.stringify(value)
  if (Buffer.byteLength(text) > MAX_VALUE_BYTES) {
    throw new VaultError('value_too_large', `A value is at most ${MAX_VALUE_BYTES} bytes as compact JSON`)
  }
  return new Secret(text)
}

/** Whether two JSON values are the same, the order of members aside. */
export function equalValues(a: unknown, b: unknown): boolean {
  const pairs: [unknown, unknown][] = [[a, b]]
  for (let pair = pairs.pop(); pair !== undefined; pair = pairs.pop()) {
    const [left, right] = pair
    if (left === right) continue
    if (!isContainer(left) || !isContainer(right)) return false
    if (Array.isArray(left) !== Array.isArray(right)) return false
    const names = Object.keys(left)
    if (names.length !== Object.keys(right).length) return false
    for (const name of names) {
      if (!Object.hasOwn(right, name)) return false
      pairs.push([left[name], right[name]])
    }
  }
  return true
}

/**
 * Applies a JSON Merge Patch and leaves both arguments as they are.
 *
 * @throws VaultError `invalid_request` for a patch that no body could hold.
 * @see RFC 7396, section 2
 */
export function mergePatch(target: unknown, patch: unknown): unknown {
  return mergeAt(0, target, patch)
}

function mergeAt(depth: number, target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  if (depth >= MAX_BODY_DEPTH) throw invalid('', `A patch nests at most ${MAX_BODY_DEPTH} deep`)
  // A spread defines members and never assigns them, so none of them can be taken for the prototype.
  const merged: Record<string, unknown> = isObject(target) ? { ...target } : {}
  for (const [name, part] of Object.entries(patch)) {
    if (part === null) {
      Reflect.deleteProperty(merged, name)
      continue
    }
    const before = Object.hasOwn(merged, name) ? merged[name] : undefined
    const value = mergeAt(depth + 1, before, part)
    Object.defineProperty(merged, name, { value, writable: true, enumerable: true, configurable: true })
  }
  return merged
}

function decodeUtf8(bytes: Buffer): string {
  try {
    return utf8.decode(bytes)
  } catch {
    throw invalid('', 'The body is not UTF-8')
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The message of a SyntaxError quotes the text, so it goes no further.
    throw invalid('', 'The body is not JSON')
  }
}

/** Counts the members below `root` and judges each name and text. `omitted` is a member of the root not looked into. */
function judgeMembers(root: unknown, pointer: string, omitted?: string): number {
  let members = 0
  const waiting: unknown[] = [root]
  while (waiting.length > 0) {
    const node = waiting.pop()
    if (typeof node === 'string') judgeText(node, pointer)
    else if (Array.isArray(node)) for (const item of node) waiting.push(item)
    else if (isObject(node)) {
      for (const name of Object.keys(node)) {
        members++
        judgeText(name, pointer)
        if (name === '__proto__') throw invalid(pointer, 'A member cannot be named __proto__')
        if (node !== root || name !== omitted) waiting.push(node[name])
      }
    }
  }
  return members
}

function judgeText(text: string, pointer: string): void {
  if (!text.isWellFormed()) throw invalid(pointer, 'A text has half of a surrogate pair')
}

function equalNames(pointer: string): VaultError {
  return invalid(pointer, 'Two members of one object have equal names')
}

function isDeeperThan(value: unknown, limit: number): boolean {
  let level = [value].filter(isContainer)
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > limit) return true
    level = level.flatMap((container) => Object.values(container).filter(isContainer))
  }
  return false
}

function isContainer(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function isObject(value: unknown): value is Record<string, unknown> {
  return isContainer(value) && !Array.isArray(value)
}
