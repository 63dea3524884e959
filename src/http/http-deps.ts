import type { FastifyBaseLogger } from 'fastify'
import type { AuditTrail } from '../core/audit-trail.ts'
import type { Keys } from '../core/keys.ts'
import type { Call, Caller, PresentedToken } from '../core/calls.ts'
import type { Credentials } from '../core/credentials.ts'
import type { HealthReport } from '../core/health.ts'
import type { Identities } from '../core/identities.ts'
import type { LeaseGrants } from '../core/lease-grants.ts'
import type { Leases } from '../core/leases.ts'
import type { Relocations } from '../core/relocations.ts'
import type { Roles } from '../core/roles.ts'
import type { Rotations } from '../core/rotations.ts'
import type { StoreReport } from '../core/store-report.ts'
import type { Values } from '../core/values.ts'
import type { Workspaces } from '../core/workspaces.ts'

/** What the two listeners need of the rest of the house. */
export interface HttpDeps {
  /** Who shows this token; undefined where nobody may. */
  authenticate(token: PresentedToken, deadlineAt: number): Promise<Caller | undefined>
  /** Told of each call whose token opens nothing. */
  onAuthenticationFailed(call: Call): void
  /** Told of each answer's operation (`none` where the path has none) and status, to count them. */
  onAnswered(operation: string, status: number): void
  /** Told of each authenticated call that was refused for its form: it is counted and no event. */
  onFormRefused(operation: string): void
  credentials: Credentials
  values: Values
  leases: Leases
  leaseGrants: LeaseGrants
  workspaces: Workspaces
  roles: Roles
  identities: Identities
  keys: Keys
  rotations: Rotations
  storeReport: StoreReport
  relocations: Relocations
  auditTrail: AuditTrail
  /** What the last check found, at most a second ago. */
  health(): Promise<HealthReport>
  /** What Prometheus reads. */
  metrics: { text(call: Call, caller: Caller): Promise<string> }
  log: Pick<FastifyBaseLogger, 'error' | 'warn'>
  deadlineSeconds: number
  /** How long an answer may lie in this process while its reader takes none of it, in milliseconds. */
  unreadMsMax: number
  /** Credentials a second for one token; 0 for no limit. */
  rateLimit: number
  /** Addresses and networks whose `x-forwarded-for` is believed. */
  trustedProxies?: string[] | undefined
  tls?: { cert: Buffer; key: Buffer; ca?: Buffer | undefined } | undefined
}
