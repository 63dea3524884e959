/** Every code that a caller can be answered with, a closed set; docs/api.md, "Errors", has those of this version. */
export type ProblemCode =
  | 'invalid_request'
  | 'unknown_name'
  | 'nothing_to_keep'
  | 'reference_refused'
  | 'spec_refused'
  | 'unauthenticated'
  | 'forbidden'
  | 'secret_required'
  | 'link_refused'
  | 'not_found'
  | 'name_taken'
  | 'not_changeable'
  | 'credential_expired'
  | 'lease_superseded'
  | 'in_use'
  | 'already_running'
  | 'wrong_state'
  | 'key_not_everywhere'
  | 'lease_ended'
  | 'version_gone'
  | 'version_mismatch'
  | 'value_too_large'
  | 'body_too_large'
  | 'unsupported_media_type'
  | 'rate_limited'
  | 'internal'
  | 'copy_unreadable'
  | 'store_not_found'
  | 'store_denied'
  | 'store_rejected'
  | 'unavailable'
  | 'overloaded'
  | 'leasing_halted'
  | 'store_throttled'
  | 'store_unavailable'

/** One fault in the form of a request: where it is and what to change. Never repeats what the caller sent. */
export interface FormFault {
  /** JSON Pointer into the body, `?name` for a query parameter, or the name of a header. */
  pointer: string
  detail: string
}

/** What an error carries beside its code and its detail. */
export interface VaultErrorContext {
  /** For `invalid_request` and its kin: each fault in the form. */
  errors?: FormFault[]
  /** The store whose fault this is. */
  store?: string
  /** Whole seconds after which repeating is worth it. */
  retryAfterSeconds?: number
  cause?: unknown
}

/**
 * What goes wrong for a caller. The core names the reason; `src/http/problems.ts` gives it a status.
 *
 * `message` becomes the problem's `detail`: it tells this caller what to change, and holds names and limits
 * but never values.
 */
export class VaultError extends Error {
  readonly code: ProblemCode
  readonly errors: FormFault[] | undefined
  readonly store: string | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ProblemCode, detail: string, context: VaultErrorContext = {}) {
    super(detail, context.cause === undefined ? undefined : { cause: context.cause })
    this.name = 'VaultError'
    this.code = code
    this.errors = context.errors
    this.store = context.store
    this.retryAfterSeconds = context.retryAfterSeconds
  }
}

/** The form of a request is wrong at one place. */
export function invalid(pointer: string, detail: string): VaultError {
  return new VaultError('invalid_request', 'The request does not have the form that is documented', {
    errors: [{ pointer, detail }],
  })
}

/** Who lacks an action on what he may know of. */
export function forbidden(action: string): VaultError {
  return new VaultError('forbidden', `This needs the action ${action}`)
}

/** The same for what is missing and for what the caller may not know of. */
export function notFound(): VaultError {
  return new VaultError('not_found', 'There is nothing here, or nothing that you may know of')
}

/** The same for every token that does not open the door. */
export function unauthenticated(): VaultError {
  return new VaultError('unauthenticated', 'This needs a valid token: authorization: Bearer srt_…')
}

/** The deadline of a call has passed before there was anything to answer. */
export function deadlinePassed(cause?: unknown): VaultError {
  return new VaultError('unavailable', 'The deadline of this request has passed', {
    retryAfterSeconds: 1,
    cause,
  })
}

/** A name in a body that names nothing. */
export function unknownName(pointer: string, detail: string): VaultError {
  return new VaultError('unknown_name', detail, { errors: [{ pointer, detail }] })
}

/** What a fault is called in the ledger and for the caller. */
export function codeOf(error: unknown): ProblemCode {
  return error instanceof VaultError ? error.code : 'internal'
}
