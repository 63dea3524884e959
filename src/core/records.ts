import type { ProblemCode } from './errors.ts'
import type { Grant } from './grants.ts'

/** The isolation boundary of credentials and leases. */
export interface Workspace {
  id: string
  name: string
  defaultStore?: string | undefined
  createdAt: Date
}

/** A named list of grants. */
export interface Role {
  name: string
  grants: Grant[]
  createdAt: Date
}

/** Who a caller is, with the names of its roles. */
export interface Identity {
  id: string
  name: string
  roles: string[]
  createdAt: Date
}

/** A token as the ledger knows it: never its text. */
export interface TokenRecord {
  id: string
  createdAt: Date
  expiresAt: Date
  lastUsedAt?: Date | undefined
}

/** A deleted credential can be restored; one that is purged is no more. */
export type CredentialState = 'active' | 'deleted'

/** What a pipeline needs, by name in a workspace; its value is in its versions' copies. */
export interface Credential {
  id: string
  workspaceId: string
  workspace: string
  name: string
  connector: string
  kind: 'stored' | 'link'
  store: string
  /** Where a link points to. */
  link?: Link | undefined
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

/** What a list of credentials is narrowed by; each that is given must hold. */
export interface CredentialFilter {
  connector?: string | undefined
  store?: string | undefined
  labels: { key: string; value: string }[]
  namePrefix?: string | undefined
  expiresBefore?: Date | undefined
  state: 'active' | 'deleted'
}

/** A version that is kept. */
export interface Version {
  version: number
  state: 'current' | 'kept'
  store: string
  keyId?: string | undefined
  createdAt: Date
  createdBy: string
}

/** A pointer to a secret that somebody else keeps in an external store. */
export interface Link {
  store: string
  /** As the caller wrote it: `Locator.parse` judges it. */
  locator: string
  /** A top-level member of a JSON secret. */
  field?: string | undefined
}

/** A copy that can be read: `sealed` is a local copy's Fernet token, `ref` an external one's; a link has neither. */
export interface Copy {
  id: string
  credentialId: string
  version: number
  store: string
  keyId?: string | undefined
  sealed?: string | undefined
  ref?: string | undefined
  link?: Link | undefined
}

/** Another copy with the same value. */
export interface OtherCopy extends Copy {
  /** Whether an unfinished store migration has moved it elsewhere. */
  isSource: boolean
}

/** `failed`: its value never left. */
export type LeaseState = 'active' | 'expired' | 'revoked' | 'failed'

/** A worker's timed, recorded right to one version of one credential. */
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
  /** Of a link: the store's own name of the version that was read. */
  storeVersion?: string | undefined
  /** Of a link: when it was read. */
  readAt?: Date | undefined
}

/** What a list of leases is narrowed by; each that is given must hold. */
export interface LeaseFilter {
  workspace?: string | undefined
  credential?: string | undefined
  identity?: string | undefined
  runId?: string | undefined
  state?: LeaseState | undefined
  superseded?: boolean | undefined
}

/** A key by its fingerprint: how many copies it seals, and which living processes know it. */
export interface KeyRecord {
  id: string
  sealing: boolean
  copies: number
  processes: string[]
}

/** Which leases a revocation ends: each name that is given must match. */
export interface LeaseScope {
  workspace?: string | undefined
  credential?: string | undefined
  identity?: string | undefined
}

/** A copy that could not be moved, by its credential. */
export interface RotationFailure {
  workspace: string
  credential: string
  version: number
  code: ProblemCode
}

/** A run that moves every sealed copy onto `toKey`. */
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

/** A credential that is being made. */
export interface NewCredential {
  id: string
  workspaceId: string
  name: string
  connector: string
  kind: 'stored' | 'link'
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

/** A version that is being made, with its only copy: sealed here, kept outside and named already, or a link. */
export interface NewVersion {
  copyId: string
  credentialId: string
  version: number
  createdBy: string
  content: { keyId: string; sealed: string } | { named: true } | { link: Link }
}

/** A copy that is named before its store is asked to keep it. */
export interface NamedCopy {
  id: string
  credentialId: string
  version: number
  store: string
  ref: string
}

/** A dropped copy whose store is to be asked to forget it. */
export interface DroppedCopy {
  id: string
  store: string
  ref: string
  /** Without the store's own recovery window, where it can. */
  forGood: boolean
}

/** How many copies a store keeps, by state. */
export interface StoreCopies {
  store: string
  state: string
  copies: number
}

/** Whether this ledger is in the database that its external copies belong to. */
export type LedgerHome = 'here' | 'elsewhere' | 'held'
