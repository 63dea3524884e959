import type { FastifyInstance } from 'fastify'
import { buildBaseApp } from './base-app.ts'
import { credentialComponents } from './credential-answers.ts'
import { credentialInputComponents, credentialRoutes } from './credentials.ts'
import { grantComponent } from './grant-schemas.ts'
import type { HttpDeps } from './http-deps.ts'
import { leaseGrantComponents, leaseGrantRoutes } from './lease-grants.ts'
import { leaseComponents, leaseRoutes } from './leases.ts'
import { valueComponents, valueRoutes } from './values.ts'
import { whoAmIComponents, whoAmIRoutes } from './whoami.ts'

/** The app for workers and pipelines (docs/api.md). It does not listen. */
export function buildServiceApp(deps: HttpDeps): FastifyInstance {
  return buildBaseApp(deps, {
    document: {
      description: 'Keeps the credentials of data pipelines and leases them to workers.',
      url: 'http://127.0.0.1:7400',
      tags: [
        { name: 'service', description: 'Of the process itself; needs no token.' },
        { name: 'caller', description: 'Who calls.' },
        { name: 'credentials', description: 'What a pipeline needs, by name in a workspace.' },
        { name: 'values', description: 'The content of credentials, in numbered versions.' },
        { name: 'leases', description: 'Timed, recorded rights to one version of one credential.' },
      ],
      codes: ['rate_limited'],
    },
    components: [
      grantComponent,
      ...whoAmIComponents,
      ...credentialComponents,
      ...credentialInputComponents,
      ...valueComponents,
      ...leaseComponents,
      ...leaseGrantComponents,
    ],
    rateLimit: deps.rateLimit,
    routes: ({ serializers }) => [
      whoAmIRoutes,
      credentialRoutes(deps),
      valueRoutes(deps),
      leaseGrantRoutes(deps, serializers),
      leaseRoutes(deps),
    ],
  })
}
