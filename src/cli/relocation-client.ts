import { Secret } from '../core/secret.ts'
import type { UnmovedCopy } from './copy-list.ts'
import type { LongRun } from './run-progress.ts'
import type { ServiceClient } from './service-client.ts'

/** What moves, and where. */
export interface Route {
  from: string
  to: string
  /** All where it is left out. */
  workspaces?: string[] | undefined
}

/** How fast copies were moved in one direction; left out where nobody can tell. */
export interface Speed {
  duration_seconds?: number
  rate_per_second?: number
}

/** A store migration as the service answers it; its own speed is that of the way over. */
export interface Relocation extends LongRun, Route, Speed {
  state: 'running' | 'done' | 'failed' | 'cancelled' | 'rolled_back' | 'finalized'
  heading: 'over' | 'back' | 'closing'
  total: number
  /** Copies that stand at the target now because of it. */
  moved: number
  /** Those that went back included. */
  moved_over: number
  /** Of one that was rolled back, or is. */
  rollback?: Speed & { moved: number }
  skipped: number
  failed: number
  throttled: number
  /** The first 100 of each. */
  failures: UnmovedCopy[]
  stays: UnmovedCopy[]
}

/** A plan as the service answers it. */
export interface Plan extends Route {
  copies: number
  /** Left out where only the store knows. */
  bytes?: number
  /** Left out where the target has no limit. */
  seconds?: number
  groups: { workspace: string; connector: string; copies: number; bytes?: number }[]
  stays: { reason: string; copies: number }[]
}

/** What can be asked of a store migration that there is. */
export type Change = 'resume' | 'rollback' | 'finalize' | 'cancel'

const ALL = '/v1/admin/store-migrations'

/** Calls the service about store migrations. */
export class RelocationClient {
  readonly #admin: ServiceClient

  constructor(admin: ServiceClient) {
    this.#admin = admin
  }

  /** After the target has taken a trial value. @throws ServiceProblem */
  async plan(route: Route): Promise<Plan> {
    return ((await this.#order({ ...route, dry_run: true })) as { plan: Plan }).plan
  }

  /** @throws ServiceProblem */
  async start(route: Route): Promise<Relocation> {
    return (await this.#order(route)) as Relocation
  }

  /** @throws ServiceProblem */
  async read(id: string): Promise<Relocation> {
    return (await this.#admin.call('GET', `${ALL}/${id}`)).body as Relocation
  }

  /** @throws ServiceProblem */
  async change(id: string, change: Change): Promise<Relocation> {
    return (await this.#admin.call('POST', `${ALL}/${id}/${change}`)).body as Relocation
  }

  /** Those that are neither rolled back nor finalized, newest first. */
  async unfinished(): Promise<Relocation[]> {
    const found: Relocation[] = []
    let after = ''
    // Few at a time: each may list 200 copies.
    for (;;) {
      const { body } = await this.#admin.call('GET', `${ALL}?limit=50${after}`)
      const { items, next } = body as { items: Relocation[]; next: string | null }
      found.push(...items.filter(({ state }) => state !== 'rolled_back' && state !== 'finalized'))
      if (next === null) return found
      after = `&after=${encodeURIComponent(next)}`
    }
  }

  async #order(order: object): Promise<unknown> {
    return (await this.#admin.call('POST', ALL, new Secret(JSON.stringify(order)))).body
  }
}

/** Whether both move the same: the order in which workspaces are named does not matter. */
export function sameRoute(one: Route, other: Route): boolean {
  const told = ({ from, to, workspaces }: Route): string =>
    JSON.stringify([from, to, workspaces && [...new Set(workspaces)].toSorted()])
  return told(one) === told(other)
}
