import { FernetError, FernetKey } from './fernet.ts'

/** Why a keyring is refused. The set is closed. */
export type KeyringFault = 'no_key' | 'malformed_key' | 'duplicate_key'

/** The configured keys are no keyring. Says which key of the list is at fault, never its text. */
export class KeyringError extends Error {
  readonly code: KeyringFault
  /** Counted from 1 in the order of the list; absent for `no_key`. */
  readonly position: number | undefined

  constructor(code: KeyringFault, detail: string, position?: number) {
    super(detail)
    this.name = 'KeyringError'
    this.code = code
    this.position = position
  }
}

/** Fernet keys: every one opens; which one seals is for the ledger to say. */
export class Keyring {
  /** In the order in which they were configured. */
  readonly keys: readonly FernetKey[]
  /** The key that a rotation moves to unless told otherwise. */
  readonly first: FernetKey
  readonly #byId: Map<string, FernetKey>

  private constructor(first: FernetKey, byId: Map<string, FernetKey>) {
    this.keys = [...byId.values()]
    this.first = first
    this.#byId = byId
  }

  /**
   * Reads the keys' texts, as {@link parseKeyLines} gives them.
   *
   * @throws KeyringError on no key, a malformed one, or the same one twice.
   */
  static parse(texts: readonly string[]): Keyring {
    const byId = new Map<string, FernetKey>()
    for (const [index, text] of texts.entries()) {
      const position = index + 1
      const key = parseKey(text, position)
      if (byId.has(key.id)) {
        throw new KeyringError('duplicate_key', `Key ${position} of the keyring stands there twice`, position)
      }
      byId.set(key.id, key)
    }
    const [first] = byId.values()
    if (first === undefined) throw new KeyringError('no_key', 'The keyring has no key')
    return new Keyring(first, byId)
  }

  get(id: string): FernetKey | undefined {
    return this.#byId.get(id)
  }

  has(id: string): boolean {
    return this.#byId.has(id)
  }

  ids(): string[] {
    return [...this.#byId.keys()]
  }
}

/** The keys' texts in a variable or a file: by comma or one a line; from `#` to the end of a line is a comment. */
export function parseKeyLines(text: string): string[] {
  return text
    .split(/\r?\n/)
    .flatMap((line) => line.replace(/#.*$/, '').split(','))
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

function parseKey(text: string, position: number): FernetKey {
  try {
    return FernetKey.parse(text)
  } catch (error) {
    if (!(error instanceof FernetError)) throw error
    throw new KeyringError('malformed_key', `Key ${position} of the keyring is not a Fernet key`, position)
  }
}
