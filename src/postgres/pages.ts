import type { Page } from '../core/calls.ts'

/**
 * A page of the first `limit` items of `found`, which was asked for one more to know whether there is a next page.
 *
 * @param keyOf What tells an item's place in the list: it goes into the cursor.
 */
export function pageOf<T>(found: T[], limit: number, keyOf: (item: T) => string[]): Page<T> {
  const items = found.slice(0, limit)
  return found.length > limit ? { items, next: keyOf(items.at(-1)!) } : { items }
}
