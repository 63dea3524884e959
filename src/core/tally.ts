/**
 * Counts since the start, by labels from a small, closed set: never by a name that a caller chose. Cheap enough for
 * every request.
 */
export class Tally {
  readonly #counts = new Map<string, { labels: readonly string[]; count: number }>()

  add(...labels: string[]): void {
    const key = labels.join(' ')
    const known = this.#counts.get(key)
    if (known) known.count++
    else this.#counts.set(key, { labels, count: 1 })
  }

  /** Each combination of labels that was counted. */
  entries(): { labels: readonly string[]; count: number }[] {
    return [...this.#counts.values()]
  }
}
