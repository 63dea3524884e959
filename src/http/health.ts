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

const LIVE_WAIT_MS_MAX = 500
const NOT_KNOWN: HealthReport = {
  ready: false,
  checks: { database: 'unknown', schema: 'unknown', keys: 'unknown' },
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
  return (app, _options, done) => {
    app.get(
      '/health/live',
      operation({
        operationId: 'getLive',
        tag: 'service',
        summary: 'Whether the process lives, with what a check finds now',
        access: 'open',
        deadline: false,
        answers: { 200: answers[200] },
      }),
      async (_request, reply) => answer(reply, 200, await soon(health())),
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
        const found = await health()
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

/** A process that waits for its database is alive: it says that nothing is known, never what was known before. */
async function soon(check: Promise<HealthReport>): Promise<HealthReport> {
  const late = Promise.withResolvers<HealthReport>()
  const timer = setTimeout(late.resolve, LIVE_WAIT_MS_MAX, NOT_KNOWN)
  try {
    return await Promise.race([check, late.promise])
  } catch {
    return NOT_KNOWN
  } finally {
    clearTimeout(timer)
  }
}

function answer(reply: FastifyReply, status: number, found: HealthReport): FastifyReply {
  return reply.code(status).header('content-type', JSON_TEXT).serializer(write).send(found)
}

// The component lets everything in `checks` through anyway, and whoever waits for the start waits for this answer.
function write({ ready, checks }: HealthReport): string {
  return JSON.stringify({ ready, checks })
}
