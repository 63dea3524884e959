import type { FastifyPluginCallback } from 'fastify'
import type { Version } from '../core/records.ts'
import type { Values } from '../core/values.ts'
import { sendWritten, writeAnswer } from './credential-answers.ts'
import { ifMatchOf } from './gate.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { NUMBER, page, pageAnswer, pageRequest } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import * as form from './schemas.ts'

/** What the routes of values take and answer. */
export const valueComponents: readonly Component[] = [
  {
    $id: 'ValueInput',
    ...form.closed({ value: form.value }, ['value']),
    examples: [
      { value: { host: 'db.internal', port: 5432, username: 'reader', password: 'battery staple' } },
    ],
  },
  {
    $id: 'ValuePatch',
    ...form.closed({ value: { description: 'JSON Merge Patch (RFC 7396) of the current value.' } }, [
      'value',
    ]),
    examples: [{ value: { password: 'battery staple', port: null } }],
  },
  {
    $id: 'Version',
    ...form.open(
      {
        version: form.count,
        state: { type: 'string', description: '`current` or `kept`.' },
        store: form.text,
        key_id: { ...form.text, description: 'The key that sealed it.' },
        created_at: form.time,
        created_by: form.text,
      },
      ['key_id'],
    ),
  },
  form.listOf('VersionList', 'Version'),
]

interface Named {
  workspace: string
  name: string
}
interface Numbered extends Named {
  version: string
}
interface ValueBody {
  value: unknown
}

const CREDENTIAL = '/v1/workspaces/:workspace/credentials/:name'
const VALUE = `${CREDENTIAL}/value`
const VERSIONS = `${CREDENTIAL}/versions`
const tag = 'values'

/** Values and their versions: a value comes in here and leaves in `lease-grants.ts` only. */
export function valueRoutes({ values }: { values: Values }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.put<{ Params: Named; Body: ValueBody }>(
      VALUE,
      operation({
        operationId: 'putValue',
        tag,
        summary: 'Replace the value; an equal one makes no version',
        body: 'ValueInput',
        ifMatch: true,
        answers: { 200: writeAnswer.answer },
        codes: writeAnswer.codes,
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const value = form.valueOf(request.body)
        const ifMatch = ifMatchOf(request)
        const written = await values.put(callOf(request), callerOf(request), workspace, name, value, ifMatch)
        return sendWritten(reply, written)
      },
    )
    app.patch<{ Params: Named; Body: ValueBody }>(
      VALUE,
      operation({
        operationId: 'patchValue',
        tag,
        summary: 'Change a part of the value',
        body: 'ValuePatch',
        ifMatch: true,
        answers: { 200: writeAnswer.answer },
        codes: writeAnswer.codes,
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const patch = form.valueOf(request.body)
        const ifMatch = ifMatchOf(request)
        const written = await values.patch(
          callOf(request),
          callerOf(request),
          workspace,
          name,
          patch,
          ifMatch,
        )
        return sendWritten(reply, written)
      },
    )
    app.get<{ Params: Named; Querystring: PageQuery }>(
      VERSIONS,
      operation({
        operationId: 'listVersions',
        tag,
        summary: 'The versions that are kept, newest first',
        query: page,
        answers: { 200: { description: 'A page of versions.', schema: form.ref('VersionList') } },
        codes: ['forbidden', 'not_found'],
      }),
      async (request) => {
        const { workspace, name } = request.params
        const wanted = pageRequest(request.query, [NUMBER])
        const found = await values.versions(callOf(request), callerOf(request), workspace, name, wanted)
        return pageAnswer(found, toVersion)
      },
    )
    app.post<{ Params: Numbered }>(
      `${VERSIONS}/:version/promote`,
      operation({
        operationId: 'promoteVersion',
        tag,
        summary: 'Make the value of a kept version a new version',
        ifMatch: true,
        answers: { 200: writeAnswer.answer },
        codes: [...writeAnswer.codes, 'version_gone'],
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const version = versionOf(request.params)
        const ifMatch = ifMatchOf(request)
        const written = await values.promote(
          callOf(request),
          callerOf(request),
          workspace,
          name,
          version,
          ifMatch,
        )
        return sendWritten(reply, written)
      },
    )
    app.delete<{ Params: Numbered }>(
      `${VERSIONS}/:version`,
      operation({
        operationId: 'deleteVersion',
        tag,
        summary: 'Destroy a kept version for good',
        answers: { 204: { description: 'It is gone for good.' } },
        codes: ['forbidden', 'not_found', 'wrong_state', 'version_gone'],
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const version = versionOf(request.params)
        await values.purge(callOf(request), callerOf(request), workspace, name, version)
        return reply.code(204).send()
      },
    )
    done()
  }
}

/** What cannot be the number of a version is 0, which none has. */
function versionOf({ version }: Numbered): number {
  return NUMBER.test(version) ? Number(version) : 0
}

function toVersion(one: Version) {
  return {
    version: one.version,
    state: one.state,
    store: one.store,
    key_id: one.keyId,
    created_at: one.createdAt,
    created_by: one.createdBy,
  }
}
