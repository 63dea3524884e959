import { inspect } from 'node:util'

/**
 * A text that must not be seen: a value, a token's secret part, a Fernet key's text.
 *
 * Wrapped where it enters and revealed where it leaves. Everything that prints, logs or serializes it
 * by accident writes `[secret]`. `test/tidy.test.ts` lists who may call {@link Secret.reveal}.
 */
export class Secret {
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  /** The text itself. */
  reveal(): string {
    return this.#text
  }

  /** Whether both hold the same text. Both are ours: what a caller guesses is never compared here. */
  equals(other: Secret): boolean {
    return this.#text === other.#text
  }

  /** Length in bytes of UTF-8; for limits only. */
  get bytes(): number {
    return Buffer.byteLength(this.#text)
  }

  /** Length in UTF-16 units; for limits only. */
  get length(): number {
    return this.#text.length
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [Symbol.toPrimitive](): string {
    return '[secret]'
  }

  [inspect.custom](): string {
    return '[secret]'
  }
}
