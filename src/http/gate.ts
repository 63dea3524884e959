import type {
  FastifyReply,
  FastifyRequest,
  onRequestHookHandler,
  onSendHookHandler,
  RouteOptions,
} from 'fastify'
import { createRequire } from 'node:module'
import { Socket } from 'node:net'
import type * as RateLimiters from 'rate-limiter-flexible'
import type { Call, PresentedToken } from '../core/calls.ts'
import { JUDGEMENT_MS_MAX } from '../core/calls.ts'
import { VaultError, deadlinePassed, invalid, unauthenticated } from '../core/errors.ts'
import { parseToken } from '../core/token.ts'
import { demandForm } from './forms.ts'
import type { HttpDeps } from './http-deps.ts'
import type { OperationConfig } from './operation.ts'
import type { RequestCaller } from './request-caller.ts'
import { callOf, requestCallerOf, setRequestCaller } from './request-caller.ts'

// The one limiter that is used: the package's own entry loads those for a dozen databases too.
const RateLimiterMemory = createRequire(import.meta.url)(
  'rate-limiter-flexible/lib/RateLimiterMemory.js',
) as typeof RateLimiters.RateLimiterMemory

type Done = (error?: Error) => void
type Hook = (request: FastifyRequest, reply: FastifyReply, done: Done) => void

const GENUINE_MAX = 10_000
const BEARER = /^bearer +(\S+)$/i

/** What stands before every route: when the call must be answered, who calls, how often he may. */
export class Gate {
  readonly #deps: HttpDeps
  readonly #deadlineMs: number
  readonly #limiter: RateLimiters.RateLimiterMemory | undefined
  readonly #limit: number
  /** Digests of tokens that were genuine when they were last asked for; the judgement is the statement's all the same. */
  readonly #genuine = new Set<string>()

  /** @param limit Credentials a second for one token; 0 for none. */
  constructor(deps: HttpDeps, limit: number) {
    this.#deps = deps
    this.#deadlineMs = deps.deadlineSeconds * 1000
    this.#limit = limit
    this.#limiter = limit > 0 ? new RateLimiterMemory({ points: limit, duration: 1 }) : undefined
  }

  /** Puts the hooks before a route that its access asks for. */
  guard(route: RouteOptions): void {
    const config = route.config as unknown as OperationConfig
    const { access, operationId, deadline } = config
    const onRequest: onRequestHookHandler[] = [this.#arrive(operationId, deadline)]
    if (access === 'token') onRequest.push(this.#demandCaller as onRequestHookHandler)
    if (access === 'lease') onRequest.push(this.#demandToken as onRequestHookHandler)
    const limited = access !== 'open' && this.#limiter !== undefined
    if (limited) onRequest.push(this.#limitCalls)
    route.onRequest = onRequest
    route.preValidation = demandForm(config)
    route.preHandler = limited ? [this.#limitCredentials] : []
  }

  /** The moment from which the deadline runs. */
  #arrive(operation: string, deadline: boolean): Hook {
    return (request, reply, done) => {
      const now = performance.now()
      const call: Call = {
        requestId: request.id,
        address: request.ip,
        operation,
        deadlineAt: now + this.#deadlineMs,
      }
      const authorization = request.headers.authorization
      const shown = authorization === undefined ? null : BEARER.exec(authorization)
      const token = shown ? parseToken(shown[1]!) : undefined
      const timer = deadline ? setTimeout(expire, this.#deadlineMs, reply) : undefined
      setRequestCaller(request, { call, token, known: undefined, judgedAt: now, timer })
      if (reply.raw.socket) done()
      else awaitTurn(request, reply, timer, done)
    }
  }

  readonly #demandCaller = async (request: FastifyRequest): Promise<void> => {
    const caller = requestCallerOf(request)!
    caller.judgedAt = performance.now()
    caller.known = await this.#who(caller, caller.call.deadlineAt)
  }

  /** For an answer that took so long that the first judgement is stale. */
  async #judgeAgain(request: FastifyRequest): Promise<void> {
    const caller = requestCallerOf(request)!
    const before = caller.known!
    await this.authenticateBefore(request, caller.call.deadlineAt)
    if (caller.known!.policyVersion !== before.policyVersion) {
      throw new VaultError('unavailable', 'The policy has changed meanwhile: ask again', {
        retryAfterSeconds: 1,
      })
    }
  }

  /** Asks who calls, and waits for the answer until `deadlineAt` whatever hangs. */
  async authenticateBefore(request: FastifyRequest, deadlineAt: number): Promise<void> {
    const caller = requestCallerOf(request)!
    const judgedAt = performance.now()
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => late.reject(deadlinePassed()), Math.max(0, deadlineAt - judgedAt))
    try {
      caller.known = await Promise.race([this.#who(caller, deadlineAt), late.promise])
      caller.judgedAt = judgedAt
    } finally {
      clearTimeout(timer)
    }
  }

  async #who(caller: RequestCaller, deadlineAt: number) {
    const known = caller.token && (await this.#deps.authenticate(caller.token, deadlineAt))
    if (!known) throw unauthenticated()
    return known
  }

  /** The last thing before an answer leaves. */
  readonly release: onSendHookHandler = (request, reply, payload, done) => {
    const caller = requestCallerOf(request)
    const leave = (): void => {
      this.#deps.onAnswered(caller?.call.operation ?? 'none', reply.statusCode)
      const { socket } = reply.raw
      done(null, payload)
      // Whoever does not read would keep his answer here, and its values, for as long as he likes.
      if (socket instanceof Socket && socket.writableLength > 0) socket.setTimeout(this.#deps.unreadMsMax)
    }
    if (!caller) return leave()
    clearTimeout(caller.timer)
    // What was changed was judged by the transaction that changed it: to answer it otherwise would be to deny it.
    const read = request.method === 'GET' && caller.known
    const stale = read && performance.now() - caller.judgedAt > JUDGEMENT_MS_MAX
    if (!stale || reply.statusCode >= 400) return leave()
    this.#judgeAgain(request).then(leave, done)
  }

  /**
   * For leases the statement judges the token. One that no statement or query has taken yet is asked for first: whoever
   * makes tokens up gets neither a place in the line nor a body read.
   */
  readonly #demandToken: Hook = (request, _reply, done) => {
    const caller = requestCallerOf(request)!
    if (!caller.token) return done(unauthenticated())
    const key = caller.token.digest.toString('base64')
    if (this.#genuine.has(key)) return done()
    this.#who(caller, caller.call.deadlineAt).then(() => {
      if (this.#genuine.size >= GENUINE_MAX) this.#genuine.clear()
      this.#genuine.add(key)
      done()
    }, done)
  }

  /** The token opens nothing any more. */
  forget(token: PresentedToken): void {
    this.#genuine.delete(token.digest.toString('base64'))
  }

  /** Before the body is read: what is wrong in it costs us no less. */
  readonly #limitCalls: Hook = (request, _reply, done) => this.#take(request, 1, done)

  readonly #limitCredentials: Hook = (request, _reply, done) => {
    const { credentials } = (request.body ?? {}) as { credentials?: unknown[] }
    // What is more than a second's worth would never get in: it takes a whole second. One is taken already.
    const more = Math.min(credentials?.length ?? 1, this.#limit) - 1
    if (more > 0) this.#take(request, more, done)
    else done()
  }

  #take(request: FastifyRequest, points: number, done: Done): void {
    const key = requestCallerOf(request)!.token!.digest.toString('base64')
    this.#limiter!.consume(key, points).then(
      () => done(),
      () => done(this.#limited()),
    )
  }

  #limited(): VaultError {
    const detail = `One token gets at most ${this.#limit} credentials a second`
    return new VaultError('rate_limited', detail, { retryAfterSeconds: 1 })
  }
}

function expire(reply: FastifyReply): void {
  if (!reply.sent) reply.send(deadlinePassed())
}

/**
 * Node holds an answer back until those of the same connection that were asked for before it have left: what was judged
 * meanwhile would leave long after its judgement. So a request that was sent ahead waits for its turn, and its deadline
 * runs on.
 */
function awaitTurn(
  request: FastifyRequest,
  reply: FastifyReply,
  timer: NodeJS.Timeout | undefined,
  done: Done,
): void {
  const gone = (): void => clearTimeout(timer)
  request.raw.once('close', gone)
  reply.raw.once('socket', () => {
    request.raw.off('close', gone)
    if (!reply.sent) done()
  })
}

const IF_MATCH = /^"([1-9][0-9]{0,8})"$/

/** The version that `if-match` names. @throws VaultError for any other form of it. */
export function ifMatchOf(request: FastifyRequest): number | undefined {
  const header = request.headers['if-match']
  if (header === undefined) return undefined
  const quoted = IF_MATCH.exec(header)
  if (!quoted) throw invalid('if-match', `${callOf(request).operation} takes one quoted version, such as "3"`)
  return Number(quoted[1])
}
