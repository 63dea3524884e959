import { Secret } from '../core/secret.ts'
import type { UnmovedCopy } from './copy-list.ts'
import type { ServiceClient } from './service-client.ts'

/** A rotation as the service answers it. */
export interface Run {
  id: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  to_key: string
  total: number
  moved: number
  skipped: number
  failed: number
  started_at: string
  finished_at?: string
  /** The first 100. */
  failures: UnmovedCopy[]
}

/** A key as the service answers it. */
export interface KeyAnswer {
  id: string
  sealing: boolean
  copies: number
  processes: string[]
}

/** Calls the service about keys and rotations. */
export class RotationClient {
  readonly #admin: ServiceClient

  constructor(admin: ServiceClient) {
    this.#admin = admin
  }

  /** All keys that the ledger names. */
  async keys(): Promise<KeyAnswer[]> {
    const keys: KeyAnswer[] = []
    let after = ''
    for (;;) {
      const { body } = await this.#admin.call('GET', `/v1/admin/keys?limit=500${after}`)
      const { items, next } = body as { items: KeyAnswer[]; next: string | null }
      keys.push(...items)
      if (next === null) return keys
      after = `&after=${encodeURIComponent(next)}`
    }
  }

  /** @param toKey Left out, the service decides. @throws ServiceProblem */
  async start(toKey: string | undefined): Promise<Run> {
    const body = new Secret(JSON.stringify({ to_key: toKey }))
    return (await this.#admin.call('POST', '/v1/admin/rotations', body)).body as Run
  }

  /** @throws ServiceProblem */
  async read(id: string): Promise<Run> {
    return (await this.#admin.call('GET', `/v1/admin/rotations/${id}`)).body as Run
  }

  /** The rotation that runs, if one does. */
  async running(): Promise<Run | undefined> {
    const { body } = await this.#admin.call('GET', '/v1/admin/rotations?limit=1')
    const [newest] = (body as { items: Run[] }).items
    return newest?.state === 'running' ? newest : undefined
  }
}

/** The names of the living processes that know at least one of the keys, each once. */
export function processesOf(keys: readonly KeyAnswer[]): string[] {
  return [...new Set(keys.flatMap((key) => key.processes))]
}
