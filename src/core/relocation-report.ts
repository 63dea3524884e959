import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Relocation, RelocationState, StayCount } from './relocation.ts'

/** How fast copies were moved in one direction; left out where nobody can tell. */
interface Speed {
  /** Whole seconds that it has moved; not those that it stood still. */
  duration_seconds?: number
  /** Copies in each of them. */
  rate_per_second?: number
}

/** What a store migration has done, as operators and the audit trail are told; its own speed is that of the way over. */
export interface RelocationReport extends Speed {
  /** Copies that stand at the target now because of it. */
  moved: number
  /** Copies that it has moved over in all, those that went back included. */
  moved_over: number
  skipped: number
  failed: number
  /** How often a store asked for patience. */
  throttled: number
  /** Its way back, if it went there. */
  rollback?: Speed & { moved: number }
}

/** The report as it is now; that of one that has ended says the same for good. */
export function reportOf(relocation: Relocation): RelocationReport {
  const { moved, movedOver, movedBack, skipped, failed, throttled, overSeconds, backSeconds } = relocation
  const wentBack = relocation.heading === 'back' || movedBack > 0 || (backSeconds ?? 0) > 0
  return {
    moved,
    moved_over: movedOver,
    skipped,
    failed,
    throttled,
    ...speedOf(movedOver, overSeconds),
    ...(wentBack && { rollback: { moved: movedBack, ...speedOf(movedBack, backSeconds) } }),
  }
}

/** Ends what a running one does, and records what it has done. */
export async function endRelocation(
  tx: LedgerTransaction,
  id: string,
  state: RelocationState,
): Promise<void> {
  await tx.endRelocation(id, state)
  const relocation = (await tx.relocation(id))!
  const { heading, from, to, total } = relocation
  const counts = await tx.stayCounts(id)
  const codes = { failed_codes: codesOf(counts, true), skipped_codes: codesOf(counts, false) }
  const detail = { store_migration: id, state, heading, from, to, total, ...reportOf(relocation), ...codes }
  tx.record({
    action: 'store-migration:end',
    outcome: state === 'failed' ? 'failed' : 'allowed',
    detail: JSON.stringify(detail),
  })
}

/** To a tenth: some stores take less than one a second. */
function speedOf(copies: number, seconds: number | undefined): Speed {
  if (seconds === undefined) return {}
  const rate = seconds > 0 && { rate_per_second: Math.round((copies / seconds) * 10) / 10 }
  return { duration_seconds: Math.round(seconds), ...rate }
}

function codesOf(counts: readonly StayCount[], failed: boolean): Record<string, number> {
  const of = counts.filter((count) => count.failed === failed)
  return Object.fromEntries(of.map(({ code, copies }) => [code, copies]))
}
