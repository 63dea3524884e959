import type { ProblemCode } from './errors.ts'
import { VaultError, forbidden, notFound, unauthenticated } from './errors.ts'

/** The error for a code that the ledger's statement judged. */
export function refusal(code: ProblemCode): VaultError {
  switch (code) {
    case 'unauthenticated':
      return unauthenticated()
    case 'not_found':
      return notFound()
    case 'forbidden':
      return forbidden('lease:issue')
    case 'credential_expired':
      return new VaultError(code, 'The credential has expired: somebody must renew it')
    case 'version_gone':
      return new VaultError(code, 'This version is no longer kept')
    case 'leasing_halted':
      return new VaultError(code, 'An operator has halted leasing', { retryAfterSeconds: 10 })
    case 'lease_ended':
      return new VaultError(code, 'The lease has ended: lease again')
    default:
      return new VaultError(code, 'The lease was refused')
  }
}
