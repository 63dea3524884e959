import type { FastifyPluginCallback } from 'fastify'
import type { Grant } from '../core/grants.ts'
import type { Role } from '../core/records.ts'
import type { Roles } from '../core/roles.ts'
import { newGrantComponent } from './grant-schemas.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { NAME, page, pageAnswer, pageRequest } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { closed, listOf, open, ref, text, time } from './schemas.ts'

/** What the routes of roles take and answer. */
export const roleComponents: readonly Component[] = [
  newGrantComponent,
  { $id: 'Role', ...open({ name: text, grants: { type: 'array', items: ref('Grant') }, created_at: time }) },
  listOf('RoleList', 'Role'),
  {
    $id: 'RoleInput',
    ...closed({ grants: { type: 'array', maxItems: 100, items: ref('NewGrant') } }, ['grants']),
    examples: [
      {
        grants: [
          {
            actions: ['lease:issue', 'credential:read'],
            workspaces: ['acme'],
            credentials: ['orders-*'],
            lease_ttl_seconds_max: 900,
          },
        ],
      },
    ],
  },
]

interface Named {
  role: string
}

const LIST = '/v1/admin/roles'
const ONE = `${LIST}/:role`
const tag = 'roles'
const answer = { description: 'The role.', schema: ref('Role') }

/** Roles, for operators. */
export function roleRoutes({ roles }: { roles: Roles }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.get<{ Querystring: PageQuery }>(
      LIST,
      operation({
        operationId: 'listRoles',
        tag,
        summary: 'Roles by name',
        query: page,
        answers: { 200: { description: 'A page of roles.', schema: ref('RoleList') } },
        codes: ['forbidden'],
      }),
      async (request) => {
        const wanted = pageRequest(request.query, [NAME])
        return pageAnswer(await roles.list(callOf(request), callerOf(request), wanted), toRole)
      },
    )
    app.get<{ Params: Named }>(
      ONE,
      operation({
        operationId: 'getRole',
        tag,
        summary: 'One role',
        answers: { 200: answer },
        codes: ['forbidden', 'not_found'],
      }),
      async (request) => toRole(await roles.read(callOf(request), callerOf(request), request.params.role)),
    )
    app.put<{ Params: Named; Body: { grants: Grant[] } }>(
      ONE,
      operation({
        operationId: 'putRole',
        tag,
        summary: 'Make a role, or make it so',
        description: 'Narrowing a role refuses new leases and renewals but ends none.',
        body: 'RoleInput',
        answers: { 200: answer, 201: { ...answer, description: 'It was made.', headers: ['location'] } },
        codes: ['forbidden', 'not_found', 'in_use'],
      }),
      async (request, reply) => {
        const { role: name } = request.params
        const { grants } = request.body
        const { role, created } = await roles.put(callOf(request), callerOf(request), name, grants)
        if (created) reply.code(201).header('location', `${LIST}/${name}`)
        return toRole(role)
      },
    )
    app.delete<{ Params: Named }>(
      ONE,
      operation({
        operationId: 'deleteRole',
        tag,
        summary: 'Delete a role that no identity has',
        answers: { 204: { description: 'It is deleted.' } },
        codes: ['forbidden', 'not_found', 'in_use'],
      }),
      async (request, reply) => {
        await roles.delete(callOf(request), callerOf(request), request.params.role)
        return reply.code(204).send()
      },
    )
    done()
  }
}

function toRole(one: Role) {
  return { name: one.name, grants: one.grants, created_at: one.createdAt }
}
