import type { Locator } from '../src/core/locator.ts'
import type { LinkedSecret, LinkReader, SecretStore, StoreKind } from '../src/core/secret-store.ts'
import { StoreError } from '../src/core/secret-store.ts'

/** What the tests give such a store. */
export interface MemorySettings {
  /** Where the copies lie, by ref: outlives the store, as a secret manager does. */
  kept?: Map<string, string>
}

/** Keeps copies in this process only: for tests, and no stores file can ask for it. */
export const memory: StoreKind<MemorySettings> = {
  provider: 'memory',
  settings: { properties: {} },
  valueBytesMax: 32_768,
  open: async ({ kept = new Map<string, string>() }, { prefix }) => new MemoryStore(kept, prefix),
}

class MemoryStore implements SecretStore, LinkReader {
  readonly #kept: Map<string, string>
  readonly #prefix: string

  constructor(kept: Map<string, string>, prefix: string) {
    this.#kept = kept
    this.#prefix = prefix
  }

  async put(ref: string, value: string): Promise<void> {
    this.#kept.set(ref, value)
  }

  async get(ref: string): Promise<string> {
    const value = this.#kept.get(ref)
    if (value === undefined) throw new StoreError('not_found', 'nothing is kept there')
    return value
  }

  async read(locator: Locator): Promise<LinkedSecret> {
    if (locator.isUnder(`${this.#prefix}/`)) throw new StoreError('rejected', 'a copy, no link')
    return { text: await this.get(locator.toString()) }
  }

  async delete(ref: string): Promise<void> {
    this.#kept.delete(ref)
  }

  async check(): Promise<void> {}

  async close(): Promise<void> {}
}
