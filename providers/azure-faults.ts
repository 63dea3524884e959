import type { StoreFault } from '../src/core/secret-store.ts'
import { StoreError } from '../src/core/secret-store.ts'

/** What a secret is while it is on its way into the recovery window. */
export const BEING_DELETED = 'ObjectIsBeingDeleted'

// The inner code where there is one, else the outer.
const FAULTS: Record<string, StoreFault> = {
  '401 Unauthorized': 'denied',
  '403 AccessDenied': 'denied',
  '403 Forbidden': 'denied',
  '403 ForbiddenByConnection': 'denied',
  '403 ForbiddenByFirewall': 'denied',
  '403 ForbiddenByPolicy': 'denied',
  '403 ForbiddenByRbac': 'denied',
  '403 SecretDisabled': 'denied',
  '404 SecretNotFound': 'not_found',
  '400 BadParameter': 'rejected',
  '400 NotSupported': 'rejected',
  // Worth repeating, and said by a vault that is well: nothing of it may count against the store.
  '409 Conflict': 'throttled',
  [`409 ${BEING_DELETED}`]: 'throttled',
  '409 ObjectIsBeingRecovered': 'throttled',
  '409 ObjectIsDeletedButRecoverable': 'rejected',
  '429 Throttled': 'throttled',
}

/** Names what went wrong in words that are ours: of the vendor's error only status and known codes are looked at. */
export function faultOf(error: unknown): { fault: StoreFault; detail: string } {
  if (error instanceof StoreError) return { fault: error.fault, detail: error.message }
  const { name, statusCode: status, code, details } = error as AzureError
  if (name === 'AbortError') return { fault: 'unavailable', detail: 'deadline' }
  if (status === undefined) return { fault: 'rejected', detail: 'an answer that cannot be read' }
  for (const known of [details?.error?.innerError?.code, code]) {
    const fault = FAULTS[`${status} ${known}`]
    if (fault) return { fault, detail: known! }
  }
  return { fault: faultOfStatus(status), detail: `status ${status}` }
}

function faultOfStatus(status: number): StoreFault {
  if (status === 401 || status === 403) return 'denied'
  if (status === 429) return 'throttled'
  return status >= 500 ? 'unavailable' : 'rejected'
}

interface AzureError {
  name?: string
  statusCode?: number
  code?: string
  details?: { error?: { innerError?: { code?: string } } }
}
