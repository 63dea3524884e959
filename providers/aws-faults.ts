import type { StoreFault } from '../src/core/secret-store.ts'
import { StoreError } from '../src/core/secret-store.ts'

const NAMES: Record<StoreFault, string> = {
  not_found: 'ResourceNotFoundException',
  // A key that is switched off or not granted is for its administrator, like a policy.
  denied: `AccessDeniedException AccessDenied NotAuthorized OptInRequired MissingAuthenticationTokenException
    MissingAuthenticationToken IncompleteSignatureException IncompleteSignature InvalidSignatureException
    SignatureDoesNotMatch UnrecognizedClientException InvalidClientTokenId ExpiredTokenException ExpiredToken
    RequestExpired InvalidIdentityTokenException InvalidIdentityToken CredentialsProviderError TokenProviderError
    DecryptionFailure EncryptionFailure KMSAccessDeniedException KMSDisabledException KMSInvalidStateException`,
  throttled: `ThrottlingException Throttling ThrottledException TooManyRequestsException RequestLimitExceeded
    RequestThrottled RequestThrottledException SlowDown LimitExceededException`,
  unavailable: `InternalServiceError InternalServiceErrorException InternalServerError InternalFailure
    ServiceUnavailable ServiceUnavailableException RequestTimeout RequestTimeoutException TimeoutError AbortError
    IDPCommunicationErrorException IDPCommunicationError`,
  rejected: `InvalidParameterException InvalidRequestException ResourceExistsException ValidationException
    ValidationError PreconditionNotMetException MalformedPolicyDocumentException PublicPolicyException
    SerializationException UnknownOperationException KMSNotFoundException AnswerTooLong EndpointError`,
}
const FAULT_OF_NAME = new Map(
  Object.entries(NAMES).flatMap(([fault, names]) =>
    names.split(/\s+/).map((name) => [name, fault as StoreFault] as const),
  ),
)
/** Node's own codes, such as ECONNREFUSED and ERR_TLS_CERT_ALTNAME_INVALID. */
const NODE_CODE = /^[A-Z][A-Z0-9_]{2,63}$/

/** Whether a store's error is the one that AWS calls so. */
export function isNamed(error: unknown, name: string): boolean {
  return error instanceof StoreError && error.message === name
}

/** Names what went wrong in words that are ours: of the SDK's error only name, code and status are looked at. */
export function storeErrorOf(error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const {
    name,
    code,
    $metadata: about,
  } = Object(error) as Record<'name' | 'code', unknown> & {
    $metadata?: { httpStatusCode?: number; clockSkewCorrected?: boolean }
  }
  // The SDK has set its clock by this answer, so that the next try may well succeed.
  if (about?.clockSkewCorrected === true) return new StoreError('unavailable', 'clock skew')
  const fault = FAULT_OF_NAME.get(String(name))
  if (fault !== undefined) return new StoreError(fault, String(name))
  const status = about?.httpStatusCode
  if (status === undefined) {
    return new StoreError('unavailable', NODE_CODE.test(String(code)) ? String(code) : 'no answer')
  }
  const refused = status >= 300 && status < 500
  return new StoreError(refused ? 'rejected' : 'unavailable', `status ${status} without a known name`)
}
