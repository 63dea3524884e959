const SEGMENT = /^[A-Za-z0-9_.-]+$/
const LENGTH_MAX = 512

/**
 * Where a linked secret lies: segments joined by `/`. Another type than a ref, so that none is ever taken for the other;
 * only {@link Locator.parse} makes one.
 */
export class Locator {
  readonly segments: readonly string[]

  private constructor(segments: readonly string[]) {
    this.segments = segments
  }

  /** Undefined for what has an empty segment, `.`, `..`, a scheme or anything else that a store could read otherwise. */
  static parse(text: string): Locator | undefined {
    const segments = text.split('/')
    const sound = segments.every((segment) => SEGMENT.test(segment) && segment !== '.' && segment !== '..')
    return sound && text.length <= LENGTH_MAX ? new Locator(segments) : undefined
  }

  /** Whether it lies under a prefix that ends in `/`. */
  isUnder(prefix: string): boolean {
    return this.toString().startsWith(prefix)
  }

  toString(): string {
    return this.segments.join('/')
  }
}
