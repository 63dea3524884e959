import type { FastifyPluginCallback } from 'fastify'
import type { Keys } from '../core/keys.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { NAME, page, pageAnswer, pageRequest } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { count, flag, listOf, open, ref, text, texts } from './schemas.ts'

/** What the route of keys answers. */
export const keyComponents: readonly Component[] = [
  {
    $id: 'Key',
    ...open({
      id: { ...text, description: 'The fingerprint.' },
      sealing: flag,
      copies: { ...count, description: 'How many copies it seals.' },
      processes: { ...texts, description: 'The running processes that know it.' },
    }),
  },
  listOf('KeyList', 'Key'),
]

/** The keys that the ledger names, for operators. */
export function keyRoutes({ keys }: { keys: Keys }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.get<{ Querystring: PageQuery }>(
      '/v1/admin/keys',
      operation({
        operationId: 'listKeys',
        tag: 'keys',
        summary: 'Keys, what they seal, and who knows them',
        query: page,
        answers: { 200: { description: 'A page of keys.', schema: ref('KeyList') } },
        codes: ['forbidden'],
      }),
      async (request) => {
        const found = await keys.list(callOf(request), callerOf(request), pageRequest(request.query, [NAME]))
        return pageAnswer(found, ({ id, sealing, copies, processes }) => ({ id, sealing, copies, processes }))
      },
    )
    done()
  }
}
