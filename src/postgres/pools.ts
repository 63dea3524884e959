import type { Secret } from '../core/secret.ts'
import { Connections } from './connections.ts'
import { LEASE_SETTINGS } from './lease-sql.ts'
import { Writers } from './writers.ts'

/** How many connections, and for how long. */
export interface PoolOptions {
  databaseUrl: Secret
  deadlineSeconds: number
  leaseLanes: number
  rotationLanes: number
  /** Makes a UUID v7. */
  newId: () => string
  /** Told of connections that break while nobody uses them. */
  onError: (error: unknown) => void
}

/** All connections of one process, by what they are for: none waits for another. */
export type Pools = ReturnType<typeof openPools>

/** So much longer than the deadline is waited for a database that hangs, where this process is to end. */
const HANGING_MS = 2_000

/** Opens no connection yet. */
export function openPools({ databaseUrl, onError, newId, ...options }: PoolOptions) {
  const requestMs = options.deadlineSeconds * 1000
  const connect = (max: number, settings: string[] = [], statementTimeoutMs = requestMs + 500) =>
    new Connections({ databaseUrl, max, settings, statementTimeoutMs, onError })
  const pools = {
    readers: connect(4),
    /** For what has no deadline of a request. */
    upkeep: connect(2 + options.rotationLanes, [], 0),
    writers: new Writers(connect(4), newId),
    leaseWriters: new Writers(connect(options.leaseLanes, LEASE_SETTINGS), newId),
  }
  const all = Object.values(pools)
  return {
    ...pools,
    /** From a while after the deadline on nothing is waited for any more: said before all that must end is ended. */
    giveUpSoon(): void {
      // Whoever has ended by then needs no help, but connections that were closed politely: they keep the process until
      // the database has heard of it.
      setTimeout(() => all.forEach((each) => each.giveUp()), requestMs + HANGING_MS).unref()
    },
    close: () => Promise.all(all.map((each) => each.close())),
  }
}
