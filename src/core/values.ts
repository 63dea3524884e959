import type { Acts } from './acts.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import type { Copies } from './copies.ts'
import type { Written } from './credentials.ts'
import { Draft } from './draft.ts'
import type { ProblemCode } from './errors.ts'
import { VaultError, notFound, unknownName } from './errors.ts'
import { equalValues, VALUE_BYTES_MAX, mergePatch } from './json-value.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Link, NewVersion, Version, Workspace } from './records.ts'
import type { Access, Admitted } from './on-credential.ts'
import { onCredential } from './on-credential.ts'
import type { Sealer } from './sealer.ts'
import { Secret } from './secret.ts'
import type { StoreSet } from './store-set.ts'
import { LOCAL } from './store-set.ts'

const READING: Access = { action: 'credential:read' }
const WRITING: Access = { action: 'credential:write', lock: true }
const PURGING: Access = { action: 'credential:purge', lock: true }

/** Where values are kept. */
export interface ValuesOptions {
  /** Makes a UUID v7. */
  newId: () => string
  copies: Copies
  stores: StoreSet
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

  /** Keeps what an act does outside of its transaction, whichever store it turns out to need. */
  draft(call: Call): Draft {
    return new Draft(this.#options.copies, call, this.#options.newId())
  }

  #change(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    ifMatch: number | undefined,
    next: Next,
  ): Promise<Written> {
    const draft = this.draft(call)
    return onCredential(this.#acts, call, caller, { workspace, name }, WRITING, async (admitted) => {
      checkVersion(admitted.credential.version, ifMatch)
      return this.update(admitted, next, draft)
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
    const draft = this.draft(call)
    return onCredential(this.#acts, call, caller, { workspace, name }, WRITING, async (admitted) => {
      checkVersion(admitted.credential.version, ifMatch)
      if (admitted.credential.kind === 'link') throw linkNotChangeable()
      const kept = await this.#open(admitted, version, draft)
      return this.update(admitted, kept, draft)
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
      if (version < 1) throw notFound()
      entry.version = version
      if (version > credential.version) throw notFound()
      if (version === credential.version) {
        throw new VaultError('wrong_state', 'The current version cannot be deleted: put another value first')
      }
      if (!(await tx.dropVersion(credential.id, version))) throw versionGone(version)
    })
  }

  /** @throws VaultError `value_too_large` */
  checkSize(value: Secret, store: string): void {
    const most = this.#options.stores.valueBytesMax(store)
    if (value.bytes <= most) return
    const whose = most < VALUE_BYTES_MAX ? 'In this store a value' : 'A value'
    throw new VaultError('value_too_large', `${whose} is at most ${most} bytes of compact JSON`)
  }

  /** The store of a new credential: the request's, else the workspace's, else the default. */
  storeFor(asked: string | undefined, workspace: Workspace): string {
    return this.#options.stores.choose(asked, workspace)
  }

  /**
   * Judges where a link leads.
   *
   * @throws VaultError `unknown_name`, `link_refused`
   */
  checkLink(link: Link, workspace: string): void {
    if (!this.#options.stores.has(link.store))
      throw unknownName('/link/store', 'There is no store of this name')
    this.#options.stores.follow(link, workspace)
  }

  /**
   * Writes the next version, unless it is what is current already.
   *
   * @throws VaultError `copy_unreadable`, `store_not_found`, `store_rejected` where the next value is made of the current
   *   one, and that is lost; OutsideFirst where a store must be asked
   */
  async update(admitted: Admitted, next: Next, draft: Draft): Promise<Written> {
    const { credential, entry } = admitted
    if (credential.kind === 'link') throw linkNotChangeable()
    const current = await this.#current(admitted, next, draft)
    const value = next instanceof Secret ? next : next(current!)
    this.checkSize(value, credential.store)
    if (current && equalValues(JSON.parse(current.reveal()), JSON.parse(value.reveal())))
      return unchanged(admitted)
    const version = credential.version + 1
    await this.write(admitted, version, value, draft)
    entry.version = version
    return this.#written(admitted)
  }

  /** Points a link elsewhere, as a new version. */
  async relink(admitted: Admitted, link: Link): Promise<Written> {
    const { credential, entry } = admitted
    const { store, locator, field } = credential.link!
    if (link.store === store && link.locator === locator && link.field === field) return unchanged(admitted)
    const version = credential.version + 1
    await this.writeLink(admitted, version, link)
    entry.version = version
    return this.#written(admitted)
  }

  /**
   * Makes `value` the current version: sealed for its own place, or kept outside.
   *
   * @throws OutsideFirst where it must be put first
   */
  async write(at: Writing, version: number, value: Secret, draft: Draft): Promise<void> {
    const { tx, caller, credential } = at
    const { workspace, id: credentialId, name, store } = credential
    const made = { credentialId, version, createdBy: caller.identity }
    if (store === LOCAL) {
      const copyId = this.#options.newId()
      const content = this.#sealer.seal({ workspace, credentialId, version, copyId }, value)
      return this.#insert(tx, store, { ...made, copyId, content })
    }
    const order = { store, credentialId, version, owner: { workspace, credential: name }, value }
    const copyId = draft.written(order, caller.identity)
    return this.#insert(tx, store, { ...made, copyId, content: { named: true } })
  }

  /** Makes a link the current version. */
  writeLink({ tx, caller, credential }: Writing, version: number, link: Link): Promise<void> {
    const { id: credentialId, store } = credential
    const made = { credentialId, version, createdBy: caller.identity, copyId: this.#options.newId() }
    return this.#insert(tx, store, { ...made, content: { link } })
  }

  // What a store migration may yet bring back is judged by what every store keeps, not by what its target does.
  #insert(tx: LedgerTransaction, store: string, version: NewVersion): Promise<void> {
    const { stores } = this.#options
    return tx.insertVersion(version, stores.versionsKept(store), stores.versionsKept(LOCAL))
  }

  async #written({ tx, credential }: Admitted): Promise<Written> {
    const updated = await tx.credential(credential.workspaceId, credential.name)
    return { credential: updated!, changed: true, created: false }
  }

  /** The current value; undefined where it is lost and a whole new one takes its place. */
  async #current(admitted: Admitted, next: Next, draft: Draft): Promise<Secret | undefined> {
    try {
      return await this.#open(admitted, admitted.credential.version, draft)
    } catch (error) {
      const lost = error instanceof VaultError && LOST.includes(error.code)
      if (lost && next instanceof Secret) return undefined
      throw error
    }
  }

  async #open({ tx, caller, credential }: Admitted, version: number, draft: Draft): Promise<Secret> {
    if (version > credential.version || version < 1) throw notFound()
    const copy = await tx.copy(credential.id, version)
    if (!copy) throw versionGone(version)
    return draft.read(credential.workspace, copy, caller.identity)
  }
}

/** What a new version is written by, and of what. */
type Writing = Pick<Admitted, 'tx' | 'caller' | 'credential'>

const LOST: readonly ProblemCode[] = ['copy_unreadable', 'store_not_found', 'store_rejected']

function unchanged({ credential, entry }: Admitted): Written {
  entry.version = credential.version
  entry.mark = 'unchanged'
  return { credential, changed: false, created: false }
}

function linkNotChangeable(): VaultError {
  return new VaultError('not_changeable', 'This is a link: only PUT of the credential points it elsewhere')
}

/** @throws VaultError `version_mismatch` where `if-match` names another version than the current one. */
export function checkVersion(current: number | undefined, ifMatch: number | undefined): void {
  if (ifMatch === undefined || ifMatch === current) return
  throw new VaultError('version_mismatch', 'The current version is not the one that if-match names')
}

function versionGone(version: number): VaultError {
  return new VaultError('version_gone', `Version ${version} is no longer kept`)
}
