/** What the server answers: a status and a JSON body, or none. */
export interface VaultReply {
  status: number
  body?: object
}

interface Version {
  data: unknown
  createdAt: string
  deletedAt: string
}

interface Entry {
  versions: Version[]
  custom: unknown
}

/** An answer as the product writes them. */
export function ok(part: object): VaultReply {
  const frame = { request_id: 'a', lease_id: '', renewable: false, lease_duration: 0, data: null, auth: null }
  return { status: 200, body: { ...frame, ...part, wrap_info: null, warnings: null } }
}

/** A refusal as the product writes them. */
export function refuse(status: number, ...errors: string[]): VaultReply {
  return { status, body: { errors } }
}

/** The KV engine, version 2, in memory. */
export class KvEngine {
  readonly entries = new Map<string, Entry>()

  reply(method: string, part: string, path: string, body: Record<string, unknown>): VaultReply {
    if (part === 'data' && method === 'GET') return this.#get(path)
    if (part === 'data' && method === 'POST') return this.#put(path, body)
    if (part === 'metadata' && method === 'POST') return this.#describe(path, body['custom_metadata'])
    if (part === 'metadata' && method === 'DELETE') {
      this.entries.delete(path)
      return { status: 204 }
    }
    return refuse(405, '1 error occurred:\n\t* unsupported operation\n\n')
  }

  /** Marks the newest version as deleted, as an operator does who does not know of the metadata. */
  mark(path: string): void {
    this.entries.get(path)!.versions.at(-1)!.deletedAt = new Date().toISOString()
  }

  /** The paths whose newest version can be read; or those where it could be brought back. */
  paths(readable: boolean): string[] {
    const found = [...this.entries].filter(([, { versions }]) => {
      const newest = versions.at(-1)
      return newest && (newest.deletedAt === '') === readable
    })
    return found.map(([path]) => path)
  }

  #get(path: string): VaultReply {
    const entry = this.entries.get(path)
    const version = entry?.versions.at(-1)
    if (!entry || !version) return refuse(404)
    const metadata = this.#metadata(entry)
    if (version.deletedAt) return { ...ok({ data: { data: null, metadata } }), status: 404 }
    return ok({ data: { data: version.data, metadata } })
  }

  #put(path: string, { options, data }: Record<string, unknown>): VaultReply {
    if (typeof data !== 'object' || data === null) return refuse(400, 'no data provided')
    const entry = this.entries.get(path) ?? { versions: [], custom: null }
    const cas = (options as { cas?: number } | undefined)?.cas
    if (cas !== undefined && cas !== entry.versions.length)
      return refuse(400, 'check-and-set parameter did not match the current version')
    entry.versions.push({ data, createdAt: new Date().toISOString(), deletedAt: '' })
    this.entries.set(path, entry)
    return ok({ data: this.#metadata(entry) })
  }

  #describe(path: string, custom: unknown): VaultReply {
    const texts = Object.entries((custom ?? {}) as Record<string, unknown>)
    const fits = ([key, text]: [string, unknown]): boolean =>
      key.length <= 128 && typeof text === 'string' && text.length >= 1 && Buffer.byteLength(text) <= 512
    if (texts.length > 64 || !texts.every(fits)) return refuse(400, 'invalid custom_metadata')
    const entry = this.entries.get(path) ?? { versions: [], custom: null }
    entry.custom = custom
    this.entries.set(path, entry)
    return { status: 204 }
  }

  #metadata({ versions, custom }: Entry): object {
    const { createdAt, deletedAt } = versions.at(-1)!
    const version = versions.length
    return {
      created_time: createdAt,
      custom_metadata: custom,
      deletion_time: deletedAt,
      destroyed: false,
      version,
    }
  }
}
