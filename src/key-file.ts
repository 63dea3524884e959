import { readFile } from 'node:fs/promises'
import { Keyring, parseKeyLines } from './core/keyring.ts'
import type { Secret } from './core/secret.ts'

/**
 * The ring as the keys' file has it, read again when its text changes. The text is compared and not the file's dates: a
 * mounted Kubernetes secret changes by a link that is swapped under the directory.
 */
export class KeyFile {
  readonly #path: string
  #text: string

  /** @param keys The keys as they were read at the start. */
  constructor(path: string, keys: readonly Secret[]) {
    this.#path = path
    this.#text = keys.map((key) => key.reveal()).join('\n')
  }

  /**
   * @returns the ring and its keys' texts where they are not those of last time
   * @throws KeyringError, or the file system's error
   */
  async changed(): Promise<{ keyring: Keyring; keyTexts: string[]; accept: () => void } | undefined> {
    const keyTexts = parseKeyLines(await readFile(this.#path, 'utf8'))
    const text = keyTexts.join('\n')
    if (text === this.#text) return undefined
    return { keyring: Keyring.parse(keyTexts), keyTexts, accept: () => void (this.#text = text) }
  }
}
