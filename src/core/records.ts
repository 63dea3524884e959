import type { ProblemCode } from './errors.ts'
import type { Grant } from './grants.ts'

export interface Workspace {
  id: string
  name: string
  defaultStore?: string | undefined
  createdAt: Date
}

export interface Role {
  name: string
  grants: Grant[]
  createdAt: Date
}

export interface Identity {
  id: string
  name: string
  roles: string[]
  createdAt: Date
}

export interface TokenRecord {
  id: string
  createdAt: Date
  expiresAt: Date
  lastUsedAt?: Date | undefined
}

export type CredentialState = 'active' | 'deleted'

export interface Credential {
  id: string
  workspaceId: string
  workspace: string
  name: string
  connector: string
  kind: 'stored' | 'link'
  store: string
  version: number
  state: CredentialState
  labels: Record<string, string>
  createdAt: Date
  createdBy: string
  updatedAt: Date
  expiresAt?: Date | undefined
  purgeAt?: Date | undefined
  deletedAt?: Date | undefined
  lastLeasedAt?: Date | undefined
}

export interface CredentialFilter {
  connector?: string | undefined
  store?: string | undefined
  labels: { key: string; value: string }[]
  namePrefix?: string | undefined
  expiresBefore?: Date | undefined
  state: 'active' | 'deleted'
}

export interface Version {
  version: number
  state: 'current' | 'kept'
  store: string
  keyId?: string | undefined
  createdAt: Date
  createdBy: string
}

/** A copy that can be read: `sealed` is a local copy's Fernet token. */
export interface Copy {
  id: string
  credentialId: string
  version: number
  store: string
  keyId?: string | undefined
  sealed?: string | undefined
}

export type LeaseState = 'active' | 'expired' | 'revoked' | 'failed'

export interface Lease {
  id: string
  workspace: string
  credential: string
  credentialId: string
  connector: string
  version: number
  identity: string
  runId?: string | undefined
  reason?: string | undefined
  state: LeaseState
  superseded: boolean
  issuedAt: Date
  expiresAt: Date
  ttlSeconds: number
}

export interface LeaseFilter {
  workspace?: string | undefined
  credential?: string | undefined
  identity?: string | undefined
  runId?: string | undefined
  state?: LeaseState | undefined
  superseded?: boolean | undefined
}

export interface KeyRecord {
  id: string
  sealing: boolean
  copies: number
  processes: string[]
}

export interface LeaseScope {
  workspace?: string | undefined
  credential?: string | undefined
  identity?: string | undefined
}

export interface RotationFailure {
  workspace: string
  credential: string
  version: number
  code: ProblemCode
}

export interface Rotation {
  id: string
  state: 'running' | 'done' | 'failed' | 'cancelled'
  toKey: string
  total: number
  moved: number
  skipped: number
  failed: number
  startedAt: Date
  startedBy: string
  finishedAt?: Date | undefined
  /** The first 100. */
  failures: RotationFailure[]
}

export interface NewCredential {
  id: string
  workspaceId: string
  name: string
  connector: string
  store: string
  labels: Record<string, string>
  createdBy: string
  expiresAt?: Date | undefined
  purgeAt?: Date | undefined
}

/** `null` takes a time away; what is left out stays. */
export interface CredentialChange {
  labels?: Record<string, string>
  expiresAt?: Date | null
}

export interface NewVersion {
  copyId: string
  credentialId: string
  version: number
  createdBy: string
  keyId: string
  sealed: string
}
