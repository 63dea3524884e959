import type { FastifyPluginCallback } from 'fastify'
import type { Identities } from '../core/identities.ts'
import type { Identity } from '../core/records.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { NAME, page, pageAnswer, pageRequest } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { closed, listOf, open, ref, slug, text, texts, time } from './schemas.ts'

/** What the routes of identities take and answer. */
export const identityComponents: readonly Component[] = [
  { $id: 'Identity', ...open({ name: text, roles: texts, created_at: time }) },
  listOf('IdentityList', 'Identity'),
  {
    $id: 'IdentityInput',
    ...closed({ roles: { type: 'array', maxItems: 100, uniqueItems: true, items: slug } }, ['roles']),
    examples: [{ roles: ['orders-worker'] }],
  },
]

interface Named {
  identity: string
}

const LIST = '/v1/admin/identities'
const ONE = `${LIST}/:identity`
const tag = 'identities'
const answer = { description: 'The identity.', schema: ref('Identity') }

/** Identities, for operators. */
export function identityRoutes({ identities }: { identities: Identities }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.get<{ Querystring: PageQuery }>(
      LIST,
      operation({
        operationId: 'listIdentities',
        tag,
        summary: 'Identities by name',
        query: page,
        answers: { 200: { description: 'A page of identities.', schema: ref('IdentityList') } },
        codes: ['forbidden'],
      }),
      async (request) => {
        const wanted = pageRequest(request.query, [NAME])
        return pageAnswer(await identities.list(callOf(request), callerOf(request), wanted), toIdentity)
      },
    )
    app.get<{ Params: Named }>(
      ONE,
      operation({
        operationId: 'getIdentity',
        tag,
        summary: 'One identity',
        answers: { 200: answer },
        codes: ['forbidden', 'not_found'],
      }),
      async (request) => {
        return toIdentity(await identities.read(callOf(request), callerOf(request), request.params.identity))
      },
    )
    app.put<{ Params: Named; Body: { roles: string[] } }>(
      ONE,
      operation({
        operationId: 'putIdentity',
        tag,
        summary: 'Make an identity, or make it so',
        description: 'Nobody changes his own roles.',
        body: 'IdentityInput',
        answers: { 200: answer, 201: { ...answer, description: 'It was made.', headers: ['location'] } },
        codes: ['unknown_name', 'forbidden', 'not_found', 'in_use'],
      }),
      async (request, reply) => {
        const { identity: name } = request.params
        const { roles } = request.body
        const { identity, created } = await identities.put(callOf(request), callerOf(request), name, roles)
        if (created) reply.code(201).header('location', `${LIST}/${name}`)
        return toIdentity(identity)
      },
    )
    app.delete<{ Params: Named }>(
      ONE,
      operation({
        operationId: 'deleteIdentity',
        tag,
        summary: 'Delete an identity and revoke its tokens and leases',
        answers: { 204: { description: 'It is deleted.' } },
        codes: ['forbidden', 'not_found', 'in_use'],
      }),
      async (request, reply) => {
        await identities.delete(callOf(request), callerOf(request), request.params.identity)
        return reply.code(204).send()
      },
    )
    done()
  }
}

function toIdentity(one: Identity) {
  return { name: one.name, roles: one.roles, created_at: one.createdAt }
}
