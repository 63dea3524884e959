import { invalid } from './errors.ts'

/** A value's compact JSON text is no longer than this, in bytes of UTF-8. */
export const VALUE_BYTES_MAX = 32_768

/** How deep arrays and objects of a value may nest: a scalar has depth 0, `[]` has 1. */
export const VALUE_DEPTH_MAX = 64

/** The same for a whole body, which holds a value somewhere inside. */
export const BODY_DEPTH_MAX = VALUE_DEPTH_MAX + 8

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
  if (depth >= BODY_DEPTH_MAX) throw invalid('', `A patch nests at most ${BODY_DEPTH_MAX} deep`)
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

/** Whether arrays and objects nest deeper than `limit`. */
export function isDeeperThan(value: unknown, limit: number): boolean {
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

/** Whether this is a JSON object: neither an array nor `null`. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return isContainer(value) && !Array.isArray(value)
}
