import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { invalid, notFound, VaultError } from '../core/errors.ts'
import { problemText } from './problems.ts'

/** What an answer that does not come from a route needs to look like the others. */
export interface OwnAnswers {
  newRequestId: () => string
  headers: Readonly<Record<string, string>>
}

/** Answers what is not even HTTP. */
export function answerNoHttp(socket: Socket, { newRequestId, headers }: OwnAnswers): void {
  if (socket.destroyed) return
  const fault = new VaultError('invalid_request', 'This is not HTTP/1.1 as it is understood here')
  if (!socket.writable) socket.destroy()
  else socket.end(problemText(fault, newRequestId(), headers))
}

/** Takes from Node what it would answer by itself: bare, and with codes that nobody documents. */
export function answerForNode({ server }: FastifyInstance, { newRequestId, headers }: OwnAnswers): void {
  // RFC 9110, section 10.1.1: an expectation that is not known may be ignored.
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    server.emit('request', request, response)
  })
  server.on('connect', (_request: IncomingMessage, socket: Socket) => {
    // Node looks after this socket no more: its errors are ours, and nobody else would close it.
    socket.on('error', () => socket.destroy())
    socket.resume()
    socket.write(problemText(notFound(), newRequestId(), headers))
    socket.destroySoon()
  })
}

/** @see RFC 9112, section 3.2: HTTP/1.1 without a host is 400, whatever else is asked. */
export function hostFault({ raw }: FastifyRequest): VaultError | undefined {
  if (raw.headers.host !== undefined || raw.httpVersion !== '1.1') return undefined
  return invalid('host', 'HTTP/1.1 says whom it asks: host')
}
