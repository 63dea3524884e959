import { splitNumber } from 'lossless-json'
import { invalid } from '../core/errors.ts'

/** How many members a JSON text writes, repeated ones included, apart by whether they lie under `value`. */
export interface MemberCounts {
  /** Below the top-level member `value`. */
  underValue: number
  elsewhere: number
}

const QUOTE = 0x22
const MINUS = 0x2d
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const BRACKET_OPEN = 0x5b
const BACKSLASH = 0x5c
const BRACKET_CLOSE = 0x5d
const BRACE_OPEN = 0x7b
const BRACE_CLOSE = 0x7d
const NUMBER = /-?[0-9.eE+-]+/y

/**
 * Walks over a text that is known to be JSON, and judges what parsing it does not show: the depth of members that
 * a later one of the same name replaces, and numbers as they were written.
 *
 * A member is a colon outside of texts, so where fewer members come out of parsing, some had equal names.
 *
 * @throws VaultError `invalid_request`
 */
export function scanJson(text: string, depthMax: number): MemberCounts {
  const counts: MemberCounts = { underValue: 0, elsewhere: 0 }
  let depth = 0
  let pointer = ''
  let textStart = 0
  let textEnd = 0
  let at = 0
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      textStart = at
      at = textEnd = endOfText(text, at)
      continue
    }
    if (code === MINUS || (code >= ZERO && code <= NINE)) {
      at = endOfNumber(text, at, pointer)
      continue
    }
    if (code === COLON) {
      if (depth > 1 && pointer !== '') counts.underValue++
      else counts.elsewhere++
      if (depth === 1) pointer = pointerTo(text.slice(textStart, textEnd))
    } else if (code === BRACE_OPEN || code === BRACKET_OPEN) {
      if (++depth > depthMax) throw invalid(pointer, `A body nests at most ${depthMax} deep`)
    } else if (code === BRACE_CLOSE || code === BRACKET_CLOSE) depth--
    at++
  }
  return counts
}

/**
 * Whether a JSON number's decimal value and sign are still the same once parsed and written again.
 *
 * `1.0` and `1e2` are, `-0`, `1e400` and an integer of twenty significant digits are not.
 */
export function isExactNumber(source: string): boolean {
  const parsed = Number(source)
  const again = String(parsed)
  if (again === source) return true
  if (!Number.isFinite(parsed) || Object.is(parsed, -0)) return false
  if (isShort(source, parsed)) return true
  const before = splitNumber(source)
  const after = splitNumber(again)
  return before.sign === after.sign && before.digits === after.digits && before.exponent === after.exponent
}

// A double keeps any 15 decimal digits, unless the number is nearly too small for it. To take each number apart would let a
// body of `1.0,1.0,…` hold the thread for a third of a second.
function isShort(source: string, parsed: number): boolean {
  const zero = parsed === 0 && /^[0.]+(?:e|$)/i.test(source)
  return source.length <= 15 && (zero || Math.abs(parsed) > 1e-290)
}

/** A name may be spelled with escapes, and what a parser makes of it counts. */
function pointerTo(quotedName: string): string {
  return quotedName === '"value"' || JSON.parse(quotedName) === 'value' ? '/value' : ''
}

function endOfText(text: string, start: number): number {
  let end = text.indexOf('"', start + 1)
  while (isEscaped(text, end)) end = text.indexOf('"', end + 1)
  return end + 1
}

/** A quote belongs to the text when an odd number of backslashes stands before it. */
function isEscaped(text: string, quote: number): boolean {
  let first = quote
  while (text.charCodeAt(first - 1) === BACKSLASH) first--
  return (quote - first) % 2 === 1
}

function endOfNumber(text: string, start: number, pointer: string): number {
  NUMBER.lastIndex = start
  NUMBER.test(text)
  const end = NUMBER.lastIndex
  if (!isExactNumber(text.slice(start, end))) {
    throw invalid(pointer, 'A number is not exact: what cannot be kept as a number goes into a text')
  }
  return end
}
