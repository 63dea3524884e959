import { JUDGEMENT_MS_MAX } from './core/calls.ts'

/** What waits, and how much may wait: an operator has no use for these, tests do. */
export interface Tuning {
  sweepEveryMs: number
  /** For so long one sweep has external stores delete. */
  externalSweepMs: number
  headsEveryMs: number
  /** How often the keys' file is read and the process registered. */
  aliveEveryMs: number
  rotationEveryMs: number
  rotationBatch: number
  rotationLanes: number
  relocationEveryMs: number
  relocationBatch: number
  relocationLanes: number
  /** A store out of reach for longer ends a store migration as failed. */
  relocationGiveUpMs: number
  lastUseEveryMs: number
  storeCheckEveryMs: number
  healthMaxAgeMs: number
  /** How long a deleted credential can be restored. */
  recoverySeconds: number
  copyGraceSeconds: number
  leaseRetentionSeconds: number
  versionsKept: number
  leaseLanes: number
  leaseLineMax: number
  leaseBatchMax: number
  judgementMsMax: number
  unreadMsMax: number
  settleEveryMs: number
}

/** As the service runs. */
export const TUNING: Tuning = {
  sweepEveryMs: 60_000,
  externalSweepMs: 30_000,
  headsEveryMs: 60_000,
  aliveEveryMs: 1_000,
  rotationEveryMs: 500,
  rotationBatch: 500,
  rotationLanes: 2,
  relocationEveryMs: 500,
  relocationBatch: 64,
  relocationLanes: 16,
  relocationGiveUpMs: 600_000,
  lastUseEveryMs: 1_000,
  storeCheckEveryMs: 15_000,
  healthMaxAgeMs: 1_000,
  recoverySeconds: 7 * 24 * 3600,
  copyGraceSeconds: 60,
  leaseRetentionSeconds: 3600,
  versionsKept: 10,
  leaseLanes: 2,
  leaseLineMax: 4096,
  leaseBatchMax: 256,
  judgementMsMax: JUDGEMENT_MS_MAX,
  unreadMsMax: 30_000,
  settleEveryMs: 1_000,
}
