import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'
import type { HealthReport } from '../core/health.ts'
import type { HttpDeps } from './http-deps.ts'
import { JSON_TEXT, operation } from './operation.ts'
import type { Component } from './schemas.ts'
import { flag, open, ref } from './schemas.ts'

const checks = {
  type: 'object',
  additionalProperties: true,
  description: 'What was found, by what was looked at.',
}

/** What health answers. */
export const healthComponents: readonly Component[] = [{ $id: 'Health', ...open({ ready: flag, checks }) }]

const answers = {
  200: { description: 'Well.', schema: ref('Health') },
  503: { description: 'Not ready.', schema: ref('Health') },
}

/**
 * Whether the process lives, and whether it should be sent requests.
 *
 * @param onFirstReady Told, once the answer has left, of the first request that was told to send more.
 */
export function healthRoutes(
  { health }: Pick<HttpDeps, 'health'>,
  onFirstReady: (request: FastifyRequest) => void,
): FastifyPluginCallback {
  let told = false
  let last: HealthReport = { ready: false, checks: {} }
  const check = async (): Promise<HealthReport> => (last = await health())
  return (app, _options, done) => {
    app.get(
      '/health/live',
      operation({
        operationId: 'getLive',
        tag: 'service',
        summary: 'Whether the process lives, with what the last check found',
        access: 'open',
        answers: { 200: answers[200] },
      }),
      (_request, reply) => {
        // A process that waits for its database is alive: the check goes on without this answer.
        check().catch(() => (last = { ready: false, checks: {} }))
        answer(reply, 200, last)
      },
    )
    app.get(
      '/health/ready',
      operation({
        operationId: 'getReady',
        tag: 'service',
        summary: 'Whether this process can serve requests now',
        access: 'open',
        answers,
      }),
      async (request, reply) => {
        const found = await check()
        if (found.ready && !told) {
          told = true
          setImmediate(onFirstReady, request)
        }
        return answer(reply, found.ready ? 200 : 503, found)
      },
    )
    done()
  }
}

function answer(reply: FastifyReply, status: number, found: HealthReport): FastifyReply {
  return reply.code(status).header('content-type', JSON_TEXT).serializer(write).send(found)
}

// The component lets everything in `checks` through anyway, and whoever waits for the start waits for this answer.
function write({ ready, checks }: HealthReport): string {
  return JSON.stringify({ ready, checks })
}
