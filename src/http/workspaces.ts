import type { FastifyPluginCallback } from 'fastify'
import type { Workspace } from '../core/records.ts'
import type { Workspaces } from '../core/workspaces.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { NAME, page, pageAnswer, pageRequest } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { closed, listOf, open, ref, slug, text, time } from './schemas.ts'

/** What the routes of workspaces take and answer. */
export const workspaceComponents: readonly Component[] = [
  { $id: 'Workspace', ...open({ name: text, default_store: text, created_at: time }, ['default_store']) },
  listOf('WorkspaceList', 'Workspace'),
  { $id: 'WorkspaceInput', ...closed({ default_store: slug }), examples: [{ default_store: 'local' }, {}] },
]

interface Named {
  workspace: string
}

const LIST = '/v1/admin/workspaces'
const ONE = `${LIST}/:workspace`
const tag = 'workspaces'
const answer = { description: 'The workspace.', schema: ref('Workspace') }

/** Workspaces, for operators. */
export function workspaceRoutes({ workspaces }: { workspaces: Workspaces }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.get<{ Querystring: PageQuery }>(
      LIST,
      operation({
        operationId: 'listWorkspaces',
        tag,
        summary: 'Workspaces by name',
        query: page,
        answers: { 200: { description: 'A page of workspaces.', schema: ref('WorkspaceList') } },
        codes: ['forbidden'],
      }),
      async (request) => {
        const wanted = pageRequest(request.query, [NAME])
        return pageAnswer(await workspaces.list(callOf(request), callerOf(request), wanted), toWorkspace)
      },
    )
    app.get<{ Params: Named }>(
      ONE,
      operation({
        operationId: 'getWorkspace',
        tag,
        summary: 'One workspace',
        answers: { 200: answer },
        codes: ['forbidden', 'not_found'],
      }),
      async (request) => {
        return toWorkspace(
          await workspaces.read(callOf(request), callerOf(request), request.params.workspace),
        )
      },
    )
    app.put<{ Params: Named; Body: { default_store?: string } }>(
      ONE,
      operation({
        operationId: 'putWorkspace',
        tag,
        summary: 'Make a workspace, or make it so',
        body: 'WorkspaceInput',
        answers: { 200: answer, 201: { ...answer, description: 'It was made.', headers: ['location'] } },
        codes: ['unknown_name', 'forbidden', 'not_found'],
      }),
      async (request, reply) => {
        const { workspace: name } = request.params
        const { default_store: store } = request.body
        const { workspace, created } = await workspaces.put(callOf(request), callerOf(request), name, store)
        if (created) reply.code(201).header('location', `${LIST}/${name}`)
        return toWorkspace(workspace)
      },
    )
    app.delete<{ Params: Named }>(
      ONE,
      operation({
        operationId: 'deleteWorkspace',
        tag,
        summary: 'Delete a workspace without credentials',
        answers: { 204: { description: 'It is deleted.' } },
        codes: ['forbidden', 'not_found', 'in_use'],
      }),
      async (request, reply) => {
        await workspaces.delete(callOf(request), callerOf(request), request.params.workspace)
        return reply.code(204).send()
      },
    )
    done()
  }
}

function toWorkspace(one: Workspace) {
  return { name: one.name, default_store: one.defaultStore, created_at: one.createdAt }
}
