import type { FastifyPluginCallback } from 'fastify'
import type { StoreReport } from '../core/store-report.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { NAME, page, pageAnswer, pageRequest } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { count, flag, listOf, open, ref, text } from './schemas.ts'

/** What the route of stores answers. */
export const storeComponents: readonly Component[] = [
  {
    $id: 'Store',
    ...open({
      name: text,
      provider: text,
      default: { ...flag, description: 'New credentials go here where nobody names a store.' },
      reachable: {
        ...flag,
        description: 'Whether its last call was answered, as far as this process knows.',
      },
      breaker: { ...text, description: '`closed`, `open` (calls fail at once) or `half_open`.' },
      copies: {
        type: 'object',
        additionalProperties: count,
        description: 'How many copies lie there, by state.',
      },
    }),
  },
  listOf('StoreList', 'Store'),
]

/** The stores, for operators. */
export function storeRoutes({ storeReport }: { storeReport: StoreReport }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.get<{ Querystring: PageQuery }>(
      '/v1/admin/stores',
      operation({
        operationId: 'listStores',
        tag: 'stores',
        summary: 'Stores, whether they are well, and what they keep',
        query: page,
        answers: { 200: { description: 'A page of stores.', schema: ref('StoreList') } },
        codes: ['forbidden'],
      }),
      async (request) => {
        const wanted = pageRequest(request.query, [NAME])
        const found = await storeReport.list(callOf(request), callerOf(request), wanted)
        return pageAnswer(found, (store) => store)
      },
    )
    done()
  }
}
