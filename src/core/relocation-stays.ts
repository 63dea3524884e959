import type { ProblemCode } from './errors.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { CarryOutcome } from './relocation-carrier.ts'
import type { NotedStay, Relocation } from './relocation.ts'

/** Keeps why copies stay where they are; each that failed is an event. */
export async function recordStays(
  tx: LedgerTransaction,
  relocation: Relocation,
  outcomes: readonly CarryOutcome[],
): Promise<void> {
  if (outcomes.length === 0) return
  const stays = outcomes.map(({ claim, result }): NotedStay => {
    const { copy, workspace, credential } = claim
    const { credentialId, version } = copy
    const reason =
      'stays' in result ? result : { stays: 'later' in result ? result.later : 'internal', failed: true }
    const { stays: code, failed } = reason
    return { credentialId, workspace, credential, version, code, failed }
  })
  const detail = JSON.stringify({ store_migration: relocation.id })
  for (const { failed, code, workspace, credential, version } of await tx.recordStays(relocation.id, stays)) {
    if (!failed) continue
    tx.record({
      action: 'store-migration:move',
      outcome: 'failed',
      code: code as ProblemCode,
      workspace,
      credential,
      version,
      detail,
    })
  }
}
