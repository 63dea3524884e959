import type { FastifyBaseLogger, FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { invalid, notFound, VaultError } from '../core/errors.ts'
import { internalError, PROBLEM_TYPE, PROBLEMS, problemOf, retryAfterOf } from './problems.ts'
import { requestCallerOf } from './request-caller.ts'

/** What went wrong, as a caller may know it. */
export function faultOf(error: unknown): VaultError {
  if (error instanceof VaultError) return error
  const { code, statusCode } = error as Partial<FastifyError>
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new VaultError('body_too_large', 'A body is at most 1 MiB')
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_ERR_ROUTE_MISSING_CONTENT_TYPE':
      return unsupportedMediaType()
    case 'FST_ERR_BAD_URL':
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return notFound()
  }
  // Reading the body failed: the caller hung up, or sent less than he said.
  if (statusCode === 400) return invalid('', 'The body ended too early')
  return internalError(error)
}

/** A body that is not said to be JSON. */
export function unsupportedMediaType(): VaultError {
  return new VaultError('unsupported_media_type', 'A body is sent as content-type: application/json')
}

/** Whether the fault is in the form of the body or the query, which is judged after the token. */
export function isFormFault(fault: VaultError): boolean {
  return ['invalid_request', 'body_too_large', 'unsupported_media_type'].includes(fault.code)
}

/** Answers `fault` as RFC 9457 says. */
export function sendProblem(request: FastifyRequest, reply: FastifyReply, fault: VaultError): FastifyReply {
  const problem = problemOf(fault, request.id)
  for (const name of ['etag', 'location']) reply.removeHeader(name)
  // Fastify closes where a body was refused, since more of it may be on its way; but here all of it has come.
  if (request.raw.complete) reply.removeHeader('connection')
  const retryAfterSeconds = retryAfterOf(fault)
  if (retryAfterSeconds !== undefined) reply.header('retry-after', String(retryAfterSeconds))
  if (fault.code === 'unauthenticated') reply.header('www-authenticate', 'Bearer')
  return reply.code(problem.status).header('content-type', PROBLEM_TYPE).send(JSON.stringify(problem))
}

/**
 * Writes down what a caller is not told: class, code and frames of each error in the chain, but no message, since
 * those of parsers and databases quote what they were given.
 */
export function logFault(
  log: Pick<FastifyBaseLogger, 'error' | 'warn'>,
  request: FastifyRequest,
  fault: VaultError,
): void {
  if (PROBLEMS[fault.code].status < 500 || (fault.code !== 'internal' && fault.cause === undefined)) return
  const operation = requestCallerOf(request)?.call.operation
  const causes: { name: string; code?: string; frames?: string[] }[] = []
  for (let error = fault.cause; error instanceof Error && causes.length < 5; error = error.cause) {
    const { code } = error as { code?: unknown }
    const frames = (error.stack ?? '').split('\n').filter((line) => /^ {4}at /.test(line))
    const name = error.constructor.name
    causes.push({
      name,
      ...(typeof code === 'string' && { code }),
      frames: frames.map((line) => line.trim()),
    })
  }
  const store = fault.store !== undefined && { store: fault.store }
  const fields = { request_id: request.id, operation, code: fault.code, ...store, causes }
  if (fault.code === 'internal') log.error(fields, 'a request failed')
  else log.warn(fields, 'a request failed')
}
