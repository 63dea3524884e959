import type { FastifyPluginCallback } from 'fastify'
import type { Rotation } from '../core/records.ts'
import type { Rotations } from '../core/rotations.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { page, pageAnswer, pageRequest, UUID } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { closed, count, listOf, open, ref, text, time } from './schemas.ts'

/** What the routes of rotations take and answer. */
export const rotationComponents: readonly Component[] = [
  {
    $id: 'RotationOrder',
    ...closed({ to_key: { type: 'string', pattern: '^[0-9a-f]{32}$', description: 'A fingerprint.' } }),
    examples: [{}],
  },
  { $id: 'MoveFailure', ...open({ workspace: text, credential: text, version: count, code: text }) },
  {
    $id: 'Rotation',
    ...open(
      {
        id: text,
        state: { type: 'string', description: '`running`, `done`, `failed` or `cancelled`.' },
        to_key: { ...text, description: 'The fingerprint of the key that seals from its start on.' },
        total: { ...count, description: 'Copies under other keys when it began.' },
        moved: count,
        skipped: { ...count, description: 'Changed by somebody else meanwhile, who sealed them anew.' },
        failed: count,
        started_at: time,
        started_by: text,
        finished_at: time,
        failures: { type: 'array', items: ref('MoveFailure'), description: 'The first 100.' },
      },
      ['finished_at'],
    ),
  },
  listOf('RotationList', 'Rotation'),
]

interface Identified {
  id: string
}

const ALL = '/v1/admin/rotations'
const tag = 'keys'

/** Key rotations, for operators. */
export function rotationRoutes({ rotations }: { rotations: Rotations }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.post<{ Body: { to_key?: string } }>(
      ALL,
      operation({
        operationId: 'startRotation',
        tag,
        summary: 'Move every sealed copy onto another key',
        body: 'RotationOrder',
        answers: { 202: { description: 'The run.', schema: ref('Rotation'), headers: ['location'] } },
        codes: ['forbidden', 'unknown_name', 'already_running', 'key_not_everywhere'],
      }),
      async (request, reply) => {
        const begun = await rotations.start(callOf(request), callerOf(request), request.body.to_key)
        return reply.code(202).header('location', `${ALL}/${begun.id}`).send(toAnswer(begun))
      },
    )
    app.get<{ Querystring: PageQuery }>(
      ALL,
      operation({
        operationId: 'listRotations',
        tag,
        summary: 'Rotations, newest first',
        query: page,
        answers: { 200: { description: 'A page of rotations.', schema: ref('RotationList') } },
        codes: ['forbidden'],
      }),
      async (request) => {
        const found = await rotations.list(
          callOf(request),
          callerOf(request),
          pageRequest(request.query, [UUID]),
        )
        return pageAnswer(found, toAnswer)
      },
    )
    app.get<{ Params: Identified }>(
      `${ALL}/:id`,
      operation({
        operationId: 'getRotation',
        tag,
        summary: 'One rotation, and how far it is',
        answers: { 200: { description: 'The run.', schema: ref('Rotation') } },
        codes: ['forbidden', 'not_found'],
      }),
      async (request) =>
        toAnswer(await rotations.read(callOf(request), callerOf(request), request.params.id)),
    )
    app.post<{ Params: Identified }>(
      `${ALL}/:id/cancel`,
      operation({
        operationId: 'cancelRotation',
        tag,
        summary: 'Stop moving; copies stay under the key that they are under',
        answers: { 200: { description: 'The run.', schema: ref('Rotation') } },
        codes: ['forbidden', 'not_found', 'wrong_state'],
      }),
      async (request) =>
        toAnswer(await rotations.cancel(callOf(request), callerOf(request), request.params.id)),
    )
    done()
  }
}

function toAnswer(rotation: Rotation): Record<string, unknown> {
  const { id, state, total, moved, skipped, failed, failures } = rotation
  return {
    id,
    state,
    to_key: rotation.toKey,
    total,
    moved,
    skipped,
    failed,
    started_at: rotation.startedAt.toISOString(),
    started_by: rotation.startedBy,
    finished_at: rotation.finishedAt?.toISOString(),
    failures,
  }
}
