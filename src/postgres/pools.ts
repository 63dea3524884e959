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

/** What is under way has so much more than a request's time: most of it has no deadline of a request. */
const HANGING_MS = 2_000

/** All connections of one process, by what they are for: none waits for another. Opens none yet. */
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
    /** Said before all is ended: nothing is waited for any more for as long as a database may hang. */
    hurry(): void {
      for (const each of all) each.hurry(requestMs + HANGING_MS, requestMs)
    },
    close: () => Promise.all(all.map((each) => each.close())),
  }
}
