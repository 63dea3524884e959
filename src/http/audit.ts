import type { FastifyPluginCallback, FastifyRequest } from 'fastify'
import { demandAdmin } from '../core/access.ts'
import type { AuditEvent, AuditFilter, Outcome, StreamHead } from '../core/audit.ts'
import type { AuditTrail } from '../core/audit-trail.ts'
import type { StreamVerification } from '../core/audit-verify.ts'
import type { ProblemCode } from '../core/errors.ts'
import type { Gate } from './gate.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { page, pageAnswer, pageRequest, UUID } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import * as form from './schemas.ts'

const head = { stream: form.text, sequence: form.count, hash: form.text }
const event = {
  id: form.text,
  stream: form.text,
  sequence: form.count,
  recorded_at: { ...form.text, description: 'RFC 3339 with microseconds, as it went into the hash.' },
  identity: form.text,
  action: form.text,
  operation: form.text,
  outcome: { type: 'string', description: '`allowed`, `refused` or `failed`.' },
  code: form.text,
  workspace: form.text,
  credential: form.text,
  version: form.count,
  lease: form.text,
  run_id: form.text,
  reason: form.text,
  address: form.text,
  request_id: form.text,
  mark: form.text,
  detail: form.text,
  hash: form.text,
}
const always = ['id', 'stream', 'sequence', 'recorded_at', 'action', 'operation', 'outcome', 'hash']

/** What the routes of the audit trail take and answer. */
export const auditComponents: readonly Component[] = [
  {
    $id: 'AuditEvent',
    ...form.open(
      event,
      Object.keys(event).filter((name) => !always.includes(name)),
    ),
  },
  form.listOf('AuditEventList', 'AuditEvent'),
  { $id: 'StreamHead', ...form.open(head) },
  {
    $id: 'StreamVerification',
    ...form.open(
      {
        stream: form.text,
        events: form.count,
        head: form.ref('StreamHead'),
        valid: form.flag,
        first_bad: {
          ...form.count,
          description:
            'The sequence at which the chain first breaks; 0 for an event that stands before the first.',
        },
      },
      ['head', 'first_bad'],
    ),
  },
  {
    $id: 'AuditVerification',
    ...form.open({
      valid: form.flag,
      anchored: { ...form.flag, description: 'Heads were given and all of them hold.' },
      streams: { type: 'array', items: form.ref('StreamVerification') },
    }),
  },
  {
    $id: 'KnownHeads',
    ...form.closed(
      {
        heads: {
          type: 'array',
          maxItems: 5000,
          items: form.closed(
            {
              stream: { type: 'string', pattern: UUID.source },
              sequence: { type: 'integer', minimum: 1, maximum: Number.MAX_SAFE_INTEGER },
              hash: { type: 'string', pattern: '^[0-9a-f]{64}$' },
            },
            ['stream', 'sequence', 'hash'],
          ),
        },
      },
      ['heads'],
    ),
    examples: [{ heads: [] }],
  },
]

interface RangeQuery {
  from?: string
  to?: string
}
interface ListQuery extends PageQuery, RangeQuery {
  workspace?: string
  credential?: string
  identity?: string
  action?: string
  outcome?: Outcome
}

const tag = 'audit'
const range = { from: form.timestamp, to: form.timestamp }
const listQuery = {
  ...page,
  workspace: form.slug,
  credential: form.credentialName,
  identity: form.slug,
  action: { type: 'string', maxLength: 64, pattern: '^[a-z-]+(:[a-z-]+)?$' },
  outcome: { type: 'string', enum: ['allowed', 'refused', 'failed'] },
  ...range,
}
const verification = {
  tag,
  deadline: false,
  query: range,
  answers: { 200: { description: 'What was found.', schema: form.ref('AuditVerification') } },
  codes: ['forbidden', 'already_running'] as ProblemCode[],
}

/** The audit trail, for operators: read, and held against its own hashes. */
export function auditRoutes({ auditTrail }: { auditTrail: AuditTrail }, gate: Gate): FastifyPluginCallback {
  const verify = async (request: FastifyRequest, query: RangeQuery, heads: readonly StreamHead[]) => {
    const found = await auditTrail.verify(callOf(request), callerOf(request), rangeOf(query), heads)
    // It may have taken long: whether the caller may see it is asked anew.
    await gate.authenticateBefore(request, performance.now() + 1000)
    demandAdmin(callerOf(request), 'admin:audit')
    return { valid: found.valid, anchored: found.anchored, streams: found.streams.map(toStream) }
  }
  return (app, _options, done) => {
    app.get<{ Querystring: ListQuery }>(
      '/v1/admin/audit',
      operation({
        operationId: 'listAuditEvents',
        tag,
        summary: 'Audit events, newest first',
        query: listQuery,
        answers: { 200: { description: 'A page of events.', schema: form.ref('AuditEventList') } },
        codes: ['forbidden'],
      }),
      async (request) => {
        const wanted = pageRequest(request.query, [UUID])
        const { workspace, credential, identity, action, outcome } = request.query
        const filter: AuditFilter = {
          workspace,
          credential,
          identity,
          action,
          outcome,
          ...rangeOf(request.query),
        }
        return pageAnswer(await auditTrail.list(callOf(request), callerOf(request), filter, wanted), toEvent)
      },
    )
    app.get<{ Querystring: RangeQuery }>(
      '/v1/admin/audit/verify',
      operation({
        ...verification,
        operationId: 'verifyAudit',
        summary: 'Make every hash of the trail anew, and compare',
      }),
      (request) => verify(request, request.query, []),
    )
    app.post<{ Querystring: RangeQuery; Body: { heads: StreamHead[] } }>(
      '/v1/admin/audit/verify',
      operation({
        ...verification,
        operationId: 'verifyAuditHeads',
        summary: 'The same, held against heads that were kept elsewhere',
        body: 'KnownHeads',
      }),
      (request) => verify(request, request.query, request.body.heads),
    )
    done()
  }
}

function rangeOf({ from, to }: RangeQuery): { from?: Date | undefined; to?: Date | undefined } {
  return { from: form.timeAt('?from', from), to: form.timeAt('?to', to) }
}

function toStream({ stream, events, head, valid, firstBad }: StreamVerification) {
  return { stream, events, head, valid, first_bad: firstBad }
}

function toEvent(one: AuditEvent) {
  const { recordedAt, runId, requestId, ...same } = one
  return { ...same, recorded_at: recordedAt, run_id: runId, request_id: requestId }
}
