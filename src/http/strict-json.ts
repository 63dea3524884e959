import { invalid, type VaultError } from '../core/errors.ts'
import { isObject, BODY_DEPTH_MAX } from '../core/json-value.ts'
import { scanJson } from './json-scan.ts'

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
  const written = scanJson(text, BODY_DEPTH_MAX)
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
