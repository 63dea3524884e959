import type Http from 'node:http'
import { createRequire } from 'node:module'
import type { FormFault, ProblemCode } from '../core/errors.ts'
import { VaultError } from '../core/errors.ts'

// Not imported: that asks for every export of node:http, and one of them loads the whole of fetch.
const { STATUS_CODES } = createRequire(import.meta.url)('node:http') as typeof Http

/** What a code is answered as. `retrySeconds` marks what is worth repeating, and when. */
export interface ProblemRow {
  status: number
  title: string
  retrySeconds?: number
}

/** Every code with its status and title (docs/api.md, "Errors"). The compiler refuses a code without a row. */
export const PROBLEMS: Readonly<Record<ProblemCode, ProblemRow>> = {
  invalid_request: { status: 400, title: 'The request does not have the form that is documented' },
  unknown_name: { status: 400, title: 'The request names what does not exist' },
  nothing_to_keep: { status: 400, title: 'There is no stored secret that could be kept' },
  reference_refused: { status: 400, title: 'A reference is not allowed here' },
  spec_refused: { status: 400, title: 'The spec cannot be used' },
  unauthenticated: { status: 401, title: 'No valid token was shown' },
  forbidden: { status: 403, title: 'The caller lacks a permission' },
  secret_required: { status: 403, title: 'Keeping a secret here needs the right to lease it' },
  link_refused: { status: 403, title: 'The store does not open this place to the workspace' },
  not_found: { status: 404, title: 'Not found' },
  name_taken: { status: 409, title: 'The name is in use' },
  not_changeable: { status: 409, title: 'This cannot be changed' },
  credential_expired: { status: 409, title: 'The credential has expired' },
  lease_superseded: { status: 409, title: 'There is a newer version' },
  in_use: { status: 409, title: 'This is still in use' },
  already_running: { status: 409, title: 'This is running already' },
  wrong_state: { status: 409, title: 'The present state does not allow this' },
  key_not_everywhere: { status: 409, title: 'A running process does not know the key' },
  lease_ended: { status: 410, title: 'The lease has ended' },
  version_gone: { status: 410, title: 'The version is no longer kept' },
  version_mismatch: { status: 412, title: 'The current version is another one' },
  value_too_large: { status: 413, title: 'The value is too large' },
  body_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body is not said to be JSON' },
  rate_limited: { status: 429, title: 'Too many requests', retrySeconds: 1 },
  internal: { status: 500, title: 'Internal error' },
  copy_unreadable: { status: 500, title: 'The stored copy cannot be opened' },
  store_not_found: { status: 502, title: 'The store does not have the copy' },
  store_denied: { status: 502, title: 'The store denied access' },
  store_rejected: { status: 502, title: 'The store rejected the request' },
  unavailable: { status: 503, title: 'Not available at the moment', retrySeconds: 1 },
  overloaded: { status: 503, title: 'Too much is waiting', retrySeconds: 1 },
  leasing_halted: { status: 503, title: 'Leasing is halted', retrySeconds: 10 },
  store_throttled: { status: 503, title: 'The store is throttling', retrySeconds: 5 },
  store_unavailable: { status: 503, title: 'The store is not available', retrySeconds: 5 },
}

/** Every code, in the table's order. */
export const PROBLEM_CODES = Object.keys(PROBLEMS) as ProblemCode[]

/** The media type of {@link Problem}. */
export const PROBLEM_TYPE = 'application/problem+json'

/** A problem as RFC 9457 has it. */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  instance: string
  code: ProblemCode
  errors?: FormFault[]
  store?: string
}

/** The body that answers `fault`. */
export function problemOf(fault: VaultError, requestId: string): Problem {
  const { status, title } = PROBLEMS[fault.code]
  const problem: Problem = {
    type: `/problems/${fault.code}`,
    title,
    status,
    detail: fault.message,
    instance: `/requests/${requestId}`,
    code: fault.code,
  }
  if (status === 400) problem.errors = fault.errors ?? [{ pointer: '', detail: fault.message }]
  if (fault.store !== undefined) problem.store = fault.store
  return problem
}

/** After how many seconds repeating is worth it; undefined where it is not. */
export function retryAfterOf(fault: VaultError): number | undefined {
  const { retrySeconds } = PROBLEMS[fault.code]
  return retrySeconds === undefined ? undefined : (fault.retryAfterSeconds ?? retrySeconds)
}

/** What is nobody's business but the log's. */
export function internalError(cause: unknown): VaultError {
  return new VaultError('internal', 'Something went wrong here: the log knows it by this request', { cause })
}

/** Descriptions of the answers that these codes have, by status. */
export function codesByStatus(codes: readonly ProblemCode[]): Map<number, string> {
  const texts = new Map<number, string>()
  for (const code of PROBLEM_CODES.filter((one) => codes.includes(one))) {
    const { status, retrySeconds } = PROBLEMS[code]
    const text = `\`${code}\`${retrySeconds === undefined ? '' : ' (worth repeating)'}`
    const before = texts.get(status)
    texts.set(status, before === undefined ? `${STATUS_CODES[status]}: ${text}` : `${before}, ${text}`)
  }
  return texts
}

/** The whole answer where there is no response to write it to, as it goes over the wire. */
export function problemText(
  fault: VaultError,
  requestId: string,
  headers: Readonly<Record<string, string>>,
): string {
  const problem = problemOf(fault, requestId)
  const body = JSON.stringify(problem)
  const lines = Object.entries({
    ...headers,
    'x-request-id': requestId,
    'content-type': PROBLEM_TYPE,
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  }).map(([name, value]) => `${name}: ${value}`)
  return `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\n${lines.join('\r\n')}\r\n\r\n${body}`
}
