import type { FastifyRequest } from 'fastify'
import type { Call, Caller, PresentedToken } from '../core/calls.ts'

/** Who calls, and since when: the only thing that is hung on a request. */
export interface RequestCaller {
  readonly call: Call
  /** Undefined where none was shown that could be one. */
  readonly token: PresentedToken | undefined
  /** Undefined until the token is judged; for leases it is judged with them. */
  known: Caller | undefined
  /** When judging the token began, on the clock of `performance.now()`, in milliseconds. */
  judgedAt: number
  /** Answers 503 when the deadline comes first. */
  timer: NodeJS.Timeout | undefined
}

/** Null before the first hook and where there is no route. */
export function requestCallerOf(request: FastifyRequest): RequestCaller | null {
  return (request as unknown as { caller: RequestCaller | null }).caller
}

/** Sets what {@link requestCallerOf} reads. */
export function setRequestCaller(request: FastifyRequest, caller: RequestCaller): void {
  ;(request as unknown as { caller: RequestCaller }).caller = caller
}

/** The call of a request that has a route. */
export function callOf(request: FastifyRequest): Call {
  return requestCallerOf(request)!.call
}

/** The caller of a request whose token is known to be good. */
export function callerOf(request: FastifyRequest): Caller {
  return requestCallerOf(request)!.known!
}
