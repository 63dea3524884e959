import type { RouteShorthandOptions } from 'fastify'
import type { ProblemCode } from '../core/errors.ts'
import { codesByStatus, PROBLEM_TYPE } from './problems.ts'
import type { Schema } from './schemas.ts'
import { closed, ref } from './schemas.ts'

/**
 * Who gets in: `token`, whoever shows a good one; `lease` too, but the statement that grants leases judges it;
 * `open`, anybody.
 */
export type Access = 'token' | 'lease' | 'open'

/** What the hooks need to know of a route. */
export interface OperationConfig {
  access: Access
  operationId: string
  /** Answers 503 at the deadline. */
  deadline: boolean
  /**
   * The forms of the query and of the body, where the operation takes one. They stand here and not in Fastify's own
   * `schema`, since it would compile all of them at the start, which takes a fifth of the time that the start may take.
   */
  query: Schema | undefined
  body: Schema | undefined
  ifMatch: boolean
  /** Beside those that each operation of its method and listener has. */
  codes: readonly ProblemCode[]
}

/** One answer that is no problem; without a schema it has no body. */
export interface Answer {
  description: string
  schema?: Schema
  /** What the body is, if not JSON. */
  mediaType?: string
  /** Names of headers beside those that every answer has. */
  headers?: readonly ('etag' | 'location')[]
}

/** What a route says of itself. */
export interface Operation {
  operationId: string
  tag: string
  summary: string
  description?: string
  access?: Access
  deadline?: boolean
  query?: Record<string, Schema>
  /** A component's name. */
  body?: string
  /** Whether `if-match` is honoured. */
  ifMatch?: boolean
  answers: Record<number, Answer>
  /** Beside those that each route of its kind has. */
  codes?: readonly ProblemCode[]
}

const JSON_TYPE = 'application/json'

/** The `content-type` of an answer that is put together by hand; Fastify sets the same. */
export const JSON_TEXT = `${JSON_TYPE}; charset=utf-8`

const HEADERS = {
  'x-request-id': { type: 'string', description: 'Our own name for this request.' },
  etag: { type: 'string', description: 'The quoted version, for `if-match`.' },
  location: { type: 'string', description: 'The absolute path of what was made.' },
}

/** The options of the route that an operation describes. */
export function operation(one: Operation): RouteShorthandOptions {
  const { operationId, tag, summary, description, access = 'token', deadline = true, query, body } = one
  const codes: ProblemCode[] = ['invalid_request', 'internal', 'unavailable', ...(one.codes ?? [])]
  if (access !== 'open') codes.push('unauthenticated')
  const config: OperationConfig = {
    access,
    operationId,
    deadline,
    query: query && closed(query),
    body: body === undefined ? undefined : ref(body),
    ifMatch: one.ifMatch ?? false,
    codes,
  }
  const schema = {
    operationId,
    summary,
    tags: [tag],
    ...(description && { description }),
    security: access === 'open' ? [] : [{ token: [] }],
    response: responses(one.answers),
  }
  return { schema, config } as RouteShorthandOptions
}

/** The answers that problems with these codes are, by status. */
export function problemResponses(codes: readonly ProblemCode[]): Record<string, unknown> {
  const content = { [PROBLEM_TYPE]: { schema: ref('Problem') } }
  return Object.fromEntries(
    [...codesByStatus(codes)].map(([status, description]) => [status, { description, content }]),
  )
}

function responses(answers: Record<number, Answer>): Record<string, unknown> {
  const response: Record<string, unknown> = {}
  for (const [status, { description, schema, mediaType = JSON_TYPE, headers = [] }] of Object.entries(
    answers,
  )) {
    const shown = Object.fromEntries(
      (['x-request-id', ...headers] as const).map((name) => [name, HEADERS[name]]),
    )
    response[status] = schema
      ? { description, headers: shown, content: { [mediaType]: { schema } } }
      : { description, headers: shown, type: 'null' }
  }
  return response
}
