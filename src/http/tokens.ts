import type { FastifyPluginCallback } from 'fastify'
import type { Identities } from '../core/identities.ts'
import type { TokenRecord } from '../core/records.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { NAME, page, pageAnswer, pageRequest } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { closed, listOf, open, ref, text, time } from './schemas.ts'

const EXPIRES_IN_SECONDS_MAX = 365 * 24 * 3600

/** What the routes of tokens take and answer. */
export const tokenComponents: readonly Component[] = [
  {
    $id: 'IssuedToken',
    ...open({ id: text, token: { ...text, description: 'Shown this once.' }, expires_at: time }),
  },
  {
    $id: 'Token',
    ...open({ id: text, created_at: time, expires_at: time, last_used_at: time }, ['last_used_at']),
  },
  listOf('TokenList', 'Token'),
  {
    $id: 'TokenRequest',
    ...closed({
      expires_in_seconds: {
        type: 'integer',
        minimum: 1,
        maximum: EXPIRES_IN_SECONDS_MAX,
        description: '90 days where it is left out.',
      },
    }),
    examples: [{ expires_in_seconds: 86_400 }],
  },
]

interface Named {
  identity: string
}

const LIST = '/v1/admin/identities/:identity/tokens'
const tag = 'identities'

/** The tokens of identities, for operators. */
export function tokenRoutes({ identities }: { identities: Identities }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.post<{ Params: Named; Body: { expires_in_seconds?: number } }>(
      LIST,
      operation({
        operationId: 'issueToken',
        tag,
        summary: 'Make a token, shown this once',
        body: 'TokenRequest',
        answers: { 201: { description: 'The token.', schema: ref('IssuedToken'), headers: ['location'] } },
        codes: ['forbidden', 'not_found'],
      }),
      async (request, reply) => {
        const { identity } = request.params
        const { expires_in_seconds: seconds } = request.body
        const issued = await identities.issueToken(callOf(request), callerOf(request), identity, seconds)
        const { id, expiresAt } = issued.record
        reply.code(201).header('location', `/v1/admin/identities/${identity}/tokens/${id}`)
        return { id, token: issued.token.reveal(), expires_at: expiresAt }
      },
    )
    app.get<{ Params: Named; Querystring: PageQuery }>(
      LIST,
      operation({
        operationId: 'listTokens',
        tag,
        summary: 'The tokens of an identity, by id',
        query: page,
        answers: { 200: { description: 'A page of tokens.', schema: ref('TokenList') } },
        codes: ['forbidden', 'not_found'],
      }),
      async (request) => {
        const wanted = pageRequest(request.query, [NAME])
        const { identity } = request.params
        return pageAnswer(
          await identities.tokens(callOf(request), callerOf(request), identity, wanted),
          toToken,
        )
      },
    )
    app.delete<{ Params: Named & { token: string } }>(
      `${LIST}/:token`,
      operation({
        operationId: 'revokeToken',
        tag,
        summary: 'End a token and its leases',
        answers: { 204: { description: 'It has ended.' } },
        codes: ['forbidden', 'not_found'],
      }),
      async (request, reply) => {
        const { identity, token } = request.params
        await identities.revokeToken(callOf(request), callerOf(request), identity, token)
        return reply.code(204).send()
      },
    )
    done()
  }
}

function toToken(one: TokenRecord) {
  return { id: one.id, created_at: one.createdAt, expires_at: one.expiresAt, last_used_at: one.lastUsedAt }
}
