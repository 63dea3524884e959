import type { FastifyPluginCallback } from 'fastify'
import { operation } from './operation.ts'
import { callerOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { open, ref, text, texts, time } from './schemas.ts'

/** What `whoami` answers. */
export const whoAmIComponents: readonly Component[] = [
  {
    $id: 'WhoAmI',
    ...open(
      { identity: text, roles: texts, grants: { type: 'array', items: ref('Grant') }, expires_at: time },
      ['expires_at'],
    ),
  },
]

/** Who the token belongs to, and what it may. */
export const whoAmIRoutes: FastifyPluginCallback = (app, _options, done) => {
  app.get(
    '/v1/whoami',
    operation({
      operationId: 'whoAmI',
      tag: 'caller',
      summary: 'Who the token belongs to, and what it may',
      answers: { 200: { description: 'The caller.', schema: ref('WhoAmI') } },
    }),
    async (request) => {
      const { identity, roles, grants, expiresAt } = callerOf(request)
      return { identity, roles, grants, expires_at: expiresAt }
    },
  )
  done()
}
