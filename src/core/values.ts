import type { Acts } from './acts.ts'
import type { AuditEntry } from './audit.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import type { Written } from './credentials.ts'
import { VaultError, notFound, unknownName } from './errors.ts'
import { equalValues, MAX_VALUE_BYTES, mergePatch } from './json-value.ts'
import type { LedgerTransaction } from './ledger.ts'
import type { Credential, Version, Workspace } from './records.ts'
import type { Access } from './on-credential.ts'
import { onCredential } from './on-credential.ts'
import type { Sealer } from './sealer.ts'
import { Secret } from './secret.ts'

const READING: Access = { action: 'credential:read' }
const WRITING: Access = { action: 'credential:write', lock: true }
const PURGING: Access = { action: 'credential:purge', lock: true }

/** Where values are kept, and how many versions of each. */
export interface ValuesOptions {
  /** Makes a UUID v7. */
  newId: () => string
  /** The newest versions that are kept, the current one among them. */
  versionsKept: number
  /** The names of the stores that a credential can be kept in. */
  stores: readonly string[]
  /** The store where neither the request nor the workspace names one. */
  defaultStore: string
}

/** The next value, as JSON text; or how it is made of the current one. */
type Next = Secret | ((current: Secret) => Secret)

/** The values of credentials: every change of one is a new version with a copy of its own. */
export class Values {
  readonly #acts: Acts
  readonly #sealer: Sealer
  readonly #options: ValuesOptions

  constructor(acts: Acts, sealer: Sealer, options: ValuesOptions) {
    this.#acts = acts
    this.#sealer = sealer
    this.#options = options
  }

  /** Replaces the value. An equal one, order of members aside, makes no version. */
  put(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    value: Secret,
    ifMatch: number | undefined,
  ): Promise<Written> {
    return this.#change(call, caller, workspace, name, ifMatch, value)
  }

  /** Applies a merge patch (RFC 7396), given as JSON text, to the current value. */
  patch(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    patch: Secret,
    ifMatch: number | undefined,
  ): Promise<Written> {
    return this.#change(call, caller, workspace, name, ifMatch, (current) => {
      const patched = mergePatch(JSON.parse(current.reveal()), JSON.parse(patch.reveal()))
      return new Secret(JSON.stringify(patched))
    })
  }

  #change(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    ifMatch: number | undefined,
    next: Next,
  ): Promise<Written> {
    return onCredential(this.#acts, call, caller, { workspace, name }, WRITING, async (admitted) => {
      checkVersion(admitted.credential.version, ifMatch)
      return this.update(admitted.tx, admitted.caller, admitted.credential, next, admitted.entry)
    })
  }

  /** Makes a kept version's value a new version. @throws VaultError `version_gone` */
  promote(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    version: number,
    ifMatch: number | undefined,
  ): Promise<Written> {
    return onCredential(this.#acts, call, caller, { workspace, name }, WRITING, async (admitted) => {
      const { tx, credential, entry } = admitted
      checkVersion(credential.version, ifMatch)
      const kept = await this.#open(tx, credential, version)
      return this.update(tx, admitted.caller, credential, kept, entry)
    })
  }

  /** The versions that are kept, newest first. */
  versions(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    page: PageRequest,
  ): Promise<Page<Version>> {
    return onCredential(this.#acts, call, caller, { workspace, name }, READING, ({ tx, credential }) =>
      tx.versions(credential.id, page),
    )
  }

  /** A kept version is gone for good. @throws VaultError `wrong_state` for the current one */
  purge(call: Call, caller: Caller, workspace: string, name: string, version: number): Promise<void> {
    return onCredential(this.#acts, call, caller, { workspace, name }, PURGING, async (admitted) => {
      const { tx, credential, entry } = admitted
      entry.version = version
      if (version > credential.version || version < 1) throw notFound()
      if (version === credential.version) {
        throw new VaultError('wrong_state', 'The current version cannot be deleted: put another value first')
      }
      if (!(await tx.dropVersion(credential.id, version))) throw versionGone(version)
    })
  }

  /** @throws VaultError `value_too_large` */
  checkSize(value: Secret): void {
    if (Buffer.byteLength(value.reveal()) > MAX_VALUE_BYTES) {
      throw new VaultError('value_too_large', `A value is at most ${MAX_VALUE_BYTES} bytes of compact JSON`)
    }
  }

  /** The store of a new credential: the request's, else the workspace's, else the default. */
  storeFor(asked: string | undefined, workspace: Workspace): string {
    const store = asked ?? workspace.defaultStore ?? this.#options.defaultStore
    if (!this.#options.stores.includes(store)) throw unknownName('/store', 'There is no store of this name')
    return store
  }

  /**
   * Writes the next version, unless it is what is current already.
   *
   * @throws VaultError `copy_unreadable` where the next value is made of the current one, and no key opens that
   */
  async update(
    tx: LedgerTransaction,
    caller: Caller,
    credential: Credential,
    next: Next,
    entry: AuditEntry,
  ): Promise<Written> {
    const current = await this.#current(tx, credential, next)
    const value = next instanceof Secret ? next : next(current!)
    this.checkSize(value)
    if (current && equalValues(JSON.parse(current.reveal()), JSON.parse(value.reveal()))) {
      entry.version = credential.version
      entry.mark = 'unchanged'
      return { credential, changed: false, created: false }
    }
    const version = credential.version + 1
    await this.write(tx, caller, credential, version, value)
    entry.version = version
    const updated = await tx.credential(credential.workspaceId, credential.name)
    return { credential: updated!, changed: true, created: false }
  }

  /** Seals `value` for its own place and makes it the current version. */
  async write(
    tx: LedgerTransaction,
    caller: Caller,
    credential: Credential,
    version: number,
    value: Secret,
  ): Promise<void> {
    const copyId = this.#options.newId()
    const { workspace, id: credentialId } = credential
    const { keyId, sealed } = this.#sealer.seal({ workspace, credentialId, version, copyId }, value)
    const row = { copyId, credentialId, version, createdBy: caller.identity, keyId, sealed }
    await tx.insertVersion(row, this.#options.versionsKept)
  }

  /** The current value; undefined where no key opens it and a whole new one takes its place. */
  async #current(tx: LedgerTransaction, credential: Credential, next: Next): Promise<Secret | undefined> {
    try {
      return await this.#open(tx, credential, credential.version)
    } catch (error) {
      const unreadable = error instanceof VaultError && error.code === 'copy_unreadable'
      if (unreadable && next instanceof Secret) return undefined
      throw error
    }
  }

  async #open(tx: LedgerTransaction, credential: Credential, version: number): Promise<Secret> {
    if (version > credential.version || version < 1) throw notFound()
    const copy = await tx.copy(credential.id, version)
    if (!copy) throw versionGone(version)
    return this.#sealer.open(credential.workspace, copy)
  }
}

/** @throws VaultError `version_mismatch` where `if-match` names another version than the current one. */
export function checkVersion(current: number | undefined, ifMatch: number | undefined): void {
  if (ifMatch === undefined || ifMatch === current) return
  throw new VaultError('version_mismatch', 'The current version is not the one that if-match names')
}

function versionGone(version: number): VaultError {
  return new VaultError('version_gone', `Version ${version} is no longer kept`)
}
