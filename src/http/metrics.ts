import type { FastifyPluginCallback } from 'fastify'
import type { HttpDeps } from './http-deps.ts'
import { operation } from './operation.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { ref } from './schemas.ts'

/** What metrics answer. */
export const metricsComponents: readonly Component[] = [
  {
    $id: 'Metrics',
    type: 'string',
    description: 'Metrics of this process and of the ledger, in Prometheus’ text format.',
  },
]

/** The form that `prom-client` writes. */
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** The service in numbers, for Prometheus. */
export function metricsRoutes({ metrics }: Pick<HttpDeps, 'metrics'>): FastifyPluginCallback {
  return (app, _options, done) => {
    app.get(
      '/metrics',
      operation({
        operationId: 'getMetrics',
        tag: 'health',
        summary: 'The service in numbers, for Prometheus',
        answers: {
          200: { description: 'Prometheus text.', schema: ref('Metrics'), mediaType: 'text/plain' },
        },
        codes: ['forbidden'],
      }),
      async (request, reply) => {
        const text = await metrics.text(callOf(request), callerOf(request))
        return reply.header('content-type', CONTENT_TYPE).send(text)
      },
    )
    done()
  }
}
