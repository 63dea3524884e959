import type { FastifyPluginCallback, FastifyReply } from 'fastify'
import type { Call } from '../core/calls.ts'
import type { ProblemCode } from '../core/errors.ts'
import { VaultError } from '../core/errors.ts'
import type { Granted, LeaseGrants } from '../core/lease-grants.ts'
import { ofStores } from './credential-answers.ts'
import { toLease } from './leases.ts'
import { JSON_TEXT, operation } from './operation.ts'
import { problemOf } from './problems.ts'
import { requestCallerOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import * as form from './schemas.ts'
import type { Serialize, Serializers } from './serializers.ts'

const about = {
  ttl_seconds: {
    ...form.ttlSeconds,
    description: '900 where it is left out; what is not allowed is shortened.',
  },
  run_id: form.freeText(128, 'Goes into the audit trail.'),
  reason: form.freeText(200, 'Goes into the audit trail.'),
}
const leased = { lease: form.ref('Lease'), value: form.value }

/** What the routes that grant leases take and answer. */
export const leaseGrantComponents: readonly Component[] = [
  {
    $id: 'LeaseRequest',
    ...form.closed({ ...about, version: { type: 'integer', minimum: 1, maximum: 999_999_999 } }),
    examples: [{ ttl_seconds: 900, run_id: 'orders-2030-01-01', reason: 'nightly load' }],
  },
  {
    $id: 'LeaseBatch',
    ...form.closed(
      {
        credentials: {
          type: 'array',
          minItems: 1,
          maxItems: 100,
          uniqueItems: true,
          items: form.credentialName,
        },
        ...about,
      },
      ['credentials'],
    ),
    examples: [{ credentials: ['orders-db'], ttl_seconds: 900, run_id: 'orders-2030-01-01' }],
  },
  { $id: 'GrantedLease', ...form.open(leased) },
  { $id: 'LeaseGranted', ...form.open({ credential: form.text, ...leased }) },
  { $id: 'LeaseRefused', ...form.open({ credential: form.text, problem: form.ref('Problem') }) },
  { $id: 'LeaseResult', oneOf: [form.ref('LeaseGranted'), form.ref('LeaseRefused')] },
  { $id: 'LeaseResults', ...form.open({ results: { type: 'array', items: form.ref('LeaseResult') } }) },
]

interface LeaseBody {
  ttl_seconds?: number
  version?: number
  run_id?: string
  reason?: string
}
interface BatchBody extends LeaseBody {
  credentials: string[]
}

const tag = 'leases'
const refusals: ProblemCode[] = [
  'forbidden',
  'not_found',
  'credential_expired',
  'version_gone',
  'copy_unreadable',
  'link_refused',
  ...ofStores,
  'overloaded',
  'leasing_halted',
]

/**
 * Leases are granted: the only answers that carry a value.
 *
 * They are put together by hand, since a value is JSON text already, and parsing it to write it again would be half
 * of the work.
 */
export function leaseGrantRoutes(
  { leaseGrants }: { leaseGrants: LeaseGrants },
  serializers: Serializers,
): FastifyPluginCallback {
  const writeLease = serializers.of('Lease')
  const demandPresent = (reply: FastifyReply, call: Call, granted: readonly Granted[]): void => {
    if (!isGone(reply)) return
    leaseGrants.undelivered(call, granted)
    throw new VaultError('unavailable', 'Whoever asked for this has hung up')
  }
  return (app, _options, done) => {
    app.post<{ Params: { workspace: string; name: string }; Body: LeaseBody }>(
      '/v1/workspaces/:workspace/credentials/:name/leases',
      operation({
        operationId: 'leaseCredential',
        tag,
        summary: 'Lease a credential: the answer carries its value',
        access: 'lease',
        body: 'LeaseRequest',
        answers: {
          201: {
            description: 'The lease and the value.',
            schema: form.ref('GrantedLease'),
            headers: ['location'],
          },
        },
        codes: refusals,
      }),
      async (request, reply) => {
        const { call, token } = requestCallerOf(request)!
        const { workspace, name: credential } = request.params
        const { ttl_seconds: ttlSeconds, version, run_id: runId, reason } = request.body
        const asked = { workspace, credential, version, ttlSeconds, runId, reason }
        const granted = await leaseGrants.lease(call, token!, asked)
        demandPresent(reply, call, [granted])
        reply.code(201).header('location', `/v1/leases/${granted.lease.id}`).header('content-type', JSON_TEXT)
        return `{${leaseAndValue(granted, writeLease)}}`
      },
    )
    app.post<{ Params: { workspace: string }; Body: BatchBody }>(
      '/v1/workspaces/:workspace/leases',
      operation({
        operationId: 'leaseCredentials',
        tag,
        summary: 'Lease many credentials, each judged alone',
        access: 'lease',
        body: 'LeaseBatch',
        answers: { 200: { description: 'A result for each, in order.', schema: form.ref('LeaseResults') } },
        codes: ['not_found', 'overloaded'],
      }),
      async (request, reply) => {
        const { call, token } = requestCallerOf(request)!
        const { workspace } = request.params
        const { credentials, ttl_seconds: ttlSeconds, run_id: runId, reason } = request.body
        const asked = credentials.map((credential) => ({ workspace, credential, ttlSeconds, runId, reason }))
        const outcomes = await leaseGrants.leaseMany(call, token!, asked)
        const granted = outcomes.filter((outcome): outcome is Granted => !(outcome instanceof VaultError))
        demandPresent(reply, call, granted)
        const results = outcomes.map((outcome, index) => {
          const name = JSON.stringify(credentials[index])
          if (!(outcome instanceof VaultError))
            return `{"credential":${name},${leaseAndValue(outcome, writeLease)}}`
          return `{"credential":${name},"problem":${JSON.stringify(problemOf(outcome, call.requestId))}}`
        })
        reply.header('content-type', JSON_TEXT)
        return `{"results":[${results.join(',')}]}`
      },
    )
    done()
  }
}

/** Whether nothing of an answer leaves any more: it was answered at the deadline, or the connection has ended. */
function isGone({ sent, raw }: FastifyReply): boolean {
  return sent || raw.destroyed || raw.socket?.writable === false
}

function leaseAndValue({ lease, value }: Granted, writeLease: Serialize): string {
  return `"lease":${writeLease(toLease(lease))},"value":${value.reveal()}`
}
