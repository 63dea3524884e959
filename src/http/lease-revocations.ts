import type { FastifyPluginCallback } from 'fastify'
import { invalid } from '../core/errors.ts'
import type { LeaseScope } from '../core/records.ts'
import type { Leases } from '../core/leases.ts'
import { operation } from './operation.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { closed, count, credentialName, open, ref, slug } from './schemas.ts'

/** What the route that revokes many leases takes and answers. */
export const leaseRevocationComponents: readonly Component[] = [
  {
    $id: 'LeaseScope',
    ...closed({ workspace: slug, credential: credentialName, identity: slug }),
    minProperties: 1,
    description: 'What is given must all match; `credential` needs `workspace`.',
    examples: [{ workspace: 'acme', credential: 'orders-db' }],
  },
  {
    $id: 'Revocation',
    ...open({ revoked: { ...count, description: 'How many leases were active.' } }),
  },
]

/** Leases ended in bulk, for operators. */
export function leaseRevocationRoutes({ leases }: { leases: Leases }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.post<{ Body: LeaseScope }>(
      '/v1/admin/leases/revoke',
      operation({
        operationId: 'revokeLeases',
        tag: 'leases',
        summary: 'End all leases of a workspace, a credential or an identity',
        body: 'LeaseScope',
        answers: { 200: { description: 'They have ended.', schema: ref('Revocation') } },
        codes: ['unknown_name', 'forbidden'],
      }),
      async (request) => {
        const { workspace, credential } = request.body
        if (credential !== undefined && workspace === undefined)
          throw invalid('/workspace', 'This is required')
        const revoked = await leases.revokeMany(callOf(request), callerOf(request), request.body)
        return { revoked }
      },
    )
    done()
  }
}
