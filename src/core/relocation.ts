import type { ProblemCode } from './errors.ts'
import type { Copy } from './records.ts'

// A store migration is called a relocation in code: a migration is a numbered SQL file there.

/** `running` until it has moved what it can; unfinished until it is rolled back or finalized. */
export type RelocationState = 'running' | 'done' | 'failed' | 'cancelled' | 'rolled_back' | 'finalized'

/** What a running one does: it moves copies over, or back, or drops their sources. */
export type Heading = 'over' | 'back' | 'closing'

/** A copy that was not moved, by its credential. */
export interface Stay {
  workspace: string
  credential: string
  version: number
  /** Why: a code, or a reason to skip it. */
  code: ProblemCode | SkipReason
}

/** A copy that was not moved, as it is kept. */
export interface NotedStay extends Stay {
  credentialId: string
  failed: boolean
}

/** Why a copy stays where it is without anything having failed. */
export type SkipReason = 'too_large' | 'other_migration' | 'link'

/** How many copies were not moved for the same reason. */
export interface StayCount {
  code: ProblemCode | SkipReason
  failed: boolean
  copies: number
}

/** A run that moves copies from one store to another, and can be undone. */
export interface Relocation {
  id: string
  state: RelocationState
  heading: Heading
  from: string
  to: string
  /** All where it is left out. */
  workspaces?: string[] | undefined
  /** Copies that it was to move when it began. */
  total: number
  /** Copies that stand at the target now because of it. */
  moved: number
  /** Copies that it has moved over and back in all. */
  movedOver: number
  movedBack: number
  /** For how long it has moved over and back; undefined of one that is older than the ledger's memory of that. */
  overSeconds?: number | undefined
  backSeconds?: number | undefined
  skipped: number
  failed: number
  /** How often a store asked for patience. */
  throttled: number
  startedAt: Date
  startedBy: string
  finishedAt?: Date | undefined
  /** The first 100 of each. */
  failures: Stay[]
  stays: Stay[]
}

/** What moves, and where. */
export interface Route {
  from: string
  to: string
  workspaces?: string[] | undefined
}

/** A copy that one process has taken to move, with the pending copy that is to replace it. */
export interface Claim {
  copy: Copy
  workspace: string
  credential: string
  pending: { id: string; ref?: string | undefined }
}

/** How claims are made. */
export interface Claiming {
  /** For so long no other process takes the same copy. */
  claimSeconds: number
  limit: number
  /** Only copies with a later id, for whoever has been through those before: to pass over them each time costs more. */
  after?: string | undefined
  /** Names the copy that is to replace one in this workspace; without a ref in the ledger's own store. */
  name: (workspace: string) => { id: string; ref?: string | undefined }
}

/** A claim whose new copy is written: sealed here, or kept outside under the pending copy's ref. */
export interface Carried {
  copyId: string
  pendingId: string
  sealed?: { keyId: string; token: string } | undefined
}

/** What a plan counts for one connector of one workspace. */
export interface PlannedGroup {
  workspace: string
  connector: string
  copies: number
  /** About how long the values are together; left out where only the store knows. */
  bytes?: number | undefined
}

/** What would stay, and why. */
export interface PlannedStay {
  reason: SkipReason
  copies: number
}

/** What a store migration would do. */
export interface RelocationPlan extends Route {
  copies: number
  bytes?: number | undefined
  groups: PlannedGroup[]
  stays: PlannedStay[]
  /** Under the target's own limit of writes; left out where it has none. */
  seconds?: number | undefined
}

/** Where copies go from and to, as it is heading now. */
export function routeOf({ heading, from, to }: Pick<Relocation, 'heading' | 'from' | 'to'>): Route {
  return heading === 'back' ? { from: to, to: from } : { from, to }
}

/** Its state or heading was changed while a step was under way: the step is taken back. */
export class RelocationEnded extends Error {
  override name = 'RelocationEnded'
}
