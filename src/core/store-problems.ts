import type { ProblemCode } from './errors.ts'
import { VaultError } from './errors.ts'
import type { StoreFault } from './secret-store.ts'
import { StoreError } from './secret-store.ts'

/** What each fault of a store is for a caller. Five different things: none is ever told as another. */
export const CODE_OF_FAULT: Readonly<Record<StoreFault, ProblemCode>> = {
  not_found: 'store_not_found',
  denied: 'store_denied',
  throttled: 'store_throttled',
  unavailable: 'store_unavailable',
  rejected: 'store_rejected',
}

const DETAIL_OF_FAULT: Readonly<Record<StoreFault, string>> = {
  not_found: 'The store does not have what the ledger names there',
  denied: 'The store refuses Strongroom the access: its operator must grant it',
  throttled: 'The store takes no more requests at the moment',
  unavailable: 'The store did not answer in time',
  rejected: 'The store does not take this, or what it keeps cannot be used',
}

/** What a caller is told of a store's fault: which store and which of the five. Anything else stays what it is. */
export function storeProblem(store: string, error: unknown): unknown {
  if (!(error instanceof StoreError)) return error
  const { fault } = error
  return new VaultError(CODE_OF_FAULT[fault], DETAIL_OF_FAULT[fault], { store, cause: error })
}
