import type { FastifyPluginCallback } from 'fastify'
import type { Lease, LeaseFilter, LeaseState } from '../core/records.ts'
import type { Leases } from '../core/leases.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { claim, page, pageAnswer, pageRequest, UUID } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import * as form from './schemas.ts'

/** What the routes of leases take and answer. */
export const leaseComponents: readonly Component[] = [
  {
    $id: 'Lease',
    ...form.open(
      {
        id: form.text,
        workspace: form.text,
        credential: form.text,
        connector: form.text,
        version: form.count,
        identity: form.text,
        run_id: form.text,
        reason: form.text,
        state: {
          type: 'string',
          description: '`active`, `expired`, `revoked` or `failed`: its value never left.',
        },
        superseded: { type: 'boolean', description: 'There is a newer version.' },
        issued_at: form.time,
        expires_at: form.time,
        ttl_seconds: form.count,
        store_version: {
          ...form.text,
          description: 'Of a link: the version that was read, as its store names it.',
        },
        read_at: { ...form.time, description: 'Of a link.' },
      },
      ['run_id', 'reason', 'store_version', 'read_at'],
    ),
  },
  form.listOf('LeaseList', 'Lease'),
  { $id: 'RenewedLease', ...form.open({ lease: form.ref('Lease') }) },
  { $id: 'Renewal', ...form.closed({ ttl_seconds: form.ttlSeconds }), examples: [{ ttl_seconds: 900 }] },
]

interface Identified {
  id: string
}
interface ListQuery extends PageQuery {
  workspace?: string
  credential?: string
  identity?: string
  run_id?: string
  state?: LeaseState
  superseded?: 'true' | 'false'
}

const ONE = '/v1/leases/:id'
const tag = 'leases'

const listQuery = {
  ...page,
  workspace: form.slug,
  credential: form.credentialName,
  identity: form.slug,
  run_id: form.freeText(128),
  state: { type: 'string', enum: ['active', 'expired', 'revoked', 'failed'] },
  superseded: claim,
}

/** Leases after they were granted. Granting is in `lease-grants.ts`. */
export function leaseRoutes({ leases }: { leases: Leases }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.get<{ Querystring: ListQuery }>(
      '/v1/leases',
      operation({
        operationId: 'listLeases',
        tag,
        summary: 'Own leases and those that the caller may read, newest first',
        query: listQuery,
        answers: { 200: { description: 'A page of leases.', schema: form.ref('LeaseList') } },
      }),
      async (request) => {
        const wanted = pageRequest(request.query, [UUID])
        const found = await leases.list(callOf(request), callerOf(request), toFilter(request.query), wanted)
        return pageAnswer(found, toLease)
      },
    )
    app.get<{ Params: Identified }>(
      ONE,
      operation({
        operationId: 'getLease',
        tag,
        summary: 'One lease, never its value',
        answers: { 200: { description: 'The lease.', schema: form.ref('Lease') } },
        codes: ['forbidden', 'not_found'],
      }),
      async (request) => toLease(await leases.read(callOf(request), callerOf(request), request.params.id)),
    )
    app.post<{ Params: Identified; Body: { ttl_seconds?: number } }>(
      `${ONE}/renew`,
      operation({
        operationId: 'renewLease',
        tag,
        summary: 'Renew a lease from now on, judged as a new one would be',
        body: 'Renewal',
        answers: { 200: { description: 'The lease with its new end.', schema: form.ref('RenewedLease') } },
        codes: [
          'forbidden',
          'not_found',
          'credential_expired',
          'lease_superseded',
          'lease_ended',
          'version_gone',
          'link_refused',
          'store_unavailable',
          'leasing_halted',
        ],
      }),
      async (request) => {
        const { ttl_seconds: ttlSeconds } = request.body
        const lease = await leases.renew(callOf(request), callerOf(request), request.params.id, ttlSeconds)
        return { lease: toLease(lease) }
      },
    )
    app.delete<{ Params: Identified }>(
      ONE,
      operation({
        operationId: 'revokeLease',
        tag,
        summary: 'End a lease; again and again',
        answers: { 204: { description: 'It has ended.' } },
        codes: ['forbidden', 'not_found'],
      }),
      async (request, reply) => {
        await leases.revoke(callOf(request), callerOf(request), request.params.id)
        return reply.code(204).send()
      },
    )
    done()
  }
}

function toFilter(query: ListQuery): LeaseFilter {
  const { workspace, credential, identity, run_id: runId, state } = query
  const superseded = query.superseded === undefined ? undefined : query.superseded === 'true'
  return { workspace, credential, identity, runId, state, superseded }
}

/** A lease as it is answered. */
export function toLease(one: Lease) {
  return {
    id: one.id,
    workspace: one.workspace,
    credential: one.credential,
    connector: one.connector,
    version: one.version,
    identity: one.identity,
    run_id: one.runId,
    reason: one.reason,
    state: one.state,
    superseded: one.superseded,
    issued_at: one.issuedAt,
    expires_at: one.expiresAt,
    ttl_seconds: one.ttlSeconds,
    store_version: one.storeVersion,
    read_at: one.readAt,
  }
}
