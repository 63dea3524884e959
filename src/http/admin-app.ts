import type { FastifyInstance } from 'fastify'
import { auditComponents, auditRoutes } from './audit.ts'
import { buildBaseApp } from './base-app.ts'
import { grantComponent } from './grant-schemas.ts'
import type { HttpDeps } from './http-deps.ts'
import { identityComponents, identityRoutes } from './identities.ts'
import { keyComponents, keyRoutes } from './keys.ts'
import { leaseRevocationComponents, leaseRevocationRoutes } from './lease-revocations.ts'
import { metricsComponents, metricsRoutes } from './metrics.ts'
import { rotationComponents, rotationRoutes } from './rotations.ts'
import { roleComponents, roleRoutes } from './roles.ts'
import { storeMigrationComponents, storeMigrationRoutes } from './store-migrations.ts'
import { storeComponents, storeRoutes } from './stores.ts'
import { tokenComponents, tokenRoutes } from './tokens.ts'
import { workspaceComponents, workspaceRoutes } from './workspaces.ts'

/** The app for operators (docs/api.md, "For operators"). It does not listen. */
export function buildAdminApp(deps: HttpDeps): FastifyInstance {
  return buildBaseApp(deps, {
    document: {
      description: 'Operates a vault for the credentials of data pipelines.',
      url: 'http://127.0.0.1:7401',
      tags: [
        { name: 'service', description: 'Of the process itself; needs no token.' },
        { name: 'workspaces', description: 'What isolates credentials from each other.' },
        { name: 'roles', description: 'Named lists of grants.' },
        { name: 'identities', description: 'Who may call, and with which tokens.' },
        { name: 'keys', description: 'What seals values.' },
        { name: 'stores', description: 'Where copies lie.' },
        { name: 'leases', description: 'Timed, recorded rights to one version of one credential.' },
        { name: 'health', description: 'The service in numbers.' },
        { name: 'audit', description: 'What was done, by whom, chained by hash.' },
      ],
      codes: [],
    },
    components: [
      grantComponent,
      ...workspaceComponents,
      ...roleComponents,
      ...identityComponents,
      ...tokenComponents,
      ...keyComponents,
      ...rotationComponents,
      ...storeComponents,
      ...storeMigrationComponents,
      ...leaseRevocationComponents,
      ...auditComponents,
      ...metricsComponents,
    ],
    rateLimit: 0,
    routes: ({ gate }) => [
      workspaceRoutes(deps),
      roleRoutes(deps),
      identityRoutes(deps),
      tokenRoutes(deps),
      keyRoutes(deps),
      rotationRoutes(deps),
      storeRoutes(deps),
      storeMigrationRoutes(deps),
      leaseRevocationRoutes(deps),
      auditRoutes(deps, gate),
      metricsRoutes(deps),
    ],
  })
}
