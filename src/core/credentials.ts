import { admitToWorkspace, demand, findActive, isActive, lockKnown, subjectOf } from './access.ts'
import type { Acts } from './acts.ts'
import type { AuditEntry } from './audit.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import type { Draft } from './draft.ts'
import { forbidden, invalid, notFound, VaultError } from './errors.ts'
import type { Subject } from './grants.ts'
import { allows, hasAction, mayKnow, newlyLeasable } from './grants.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import type { Credential, CredentialChange, CredentialFilter, Link, Workspace } from './records.ts'
import { LABELS_MAX, patchLabels, sameLabels } from './labels.ts'
import { askedCredentialName, isCredentialName } from './names.ts'
import { onCredential } from './on-credential.ts'
import type { Secret } from './secret.ts'
import type { Values } from './values.ts'
import { checkVersion } from './values.ts'

/** What a credential is made of. */
export interface CredentialInput {
  connector: string
  /** JSON text. */
  content: { value: Secret } | { link: Link }
  store?: string | undefined
  labels?: Record<string, string> | undefined
  expiresAt?: Date | undefined
  /** Only at creation: the sweep purges the credential then. */
  purgeAt?: Date | undefined
}

/** `null` takes away; what is left out stays (RFC 7396). */
export interface CredentialPatch {
  labels?: Record<string, string | null> | null | undefined
  expiresAt?: Date | null | undefined
}

/** `changed` is false when all was so already. */
export interface Written {
  credential: Credential
  changed: boolean
  created: boolean
}

/** One run of a write, and what it did before outside of its transaction. */
interface Act {
  tx: LedgerTransaction
  caller: Caller
  entry: AuditEntry
  draft: Draft
}

const WRITE = 'credential:write'

/** Keeps credentials: what they are called, whom they are for, and that they are gone. Their values are in `Values`. */
export class Credentials {
  readonly #acts: Acts
  readonly #values: Values

  constructor(acts: Acts, values: Values) {
    this.#acts = acts
    this.#values = values
  }

  /** @throws VaultError `name_taken`, `unknown_name`, `value_too_large` */
  create(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    input: CredentialInput,
  ): Promise<Written> {
    const target = { workspace, credential: name }
    const draft = this.#values.draft(call)
    return this.#acts.perform(call, caller, WRITE, target, async (tx, judged, entry) => {
      const place = await admitToWorkspace(tx, judged, workspace)
      demand(judged, WRITE, subjectOfInput(place, name, input))
      const created = await this.#create({ tx, caller: judged, entry, draft }, place, name, input)
      if (!created) throw nameTaken()
      return created
    })
  }

  /** Makes it, or makes it so. @throws VaultError `not_changeable`, `version_mismatch`, `name_taken` */
  put(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    input: CredentialInput,
    ifMatch: number | undefined,
  ): Promise<Written> {
    const draft = this.#values.draft(call)
    return this.#acts.perform(
      call,
      caller,
      WRITE,
      { workspace, credential: name },
      async (tx, judged, entry) => {
        const act = { tx, caller: judged, entry, draft }
        const place = await admitToWorkspace(tx, judged, workspace)
        let existing = await findActive(tx, judged, place.id, askedCredentialName(name))
        if (!isCredentialName(name)) throw notFound()
        const wanted = subjectOfInput(place, name, input)
        if (!existing) {
          demand(judged, WRITE, wanted)
          checkVersion(undefined, ifMatch)
          const created = await this.#create(act, place, name, input)
          if (created) return created
          // Somebody else made it meanwhile: of two writers the later wins, and both are versions.
          existing = await findActive(tx, judged, place.id, name)
          if (!existing) throw nameTaken()
        }
        if (!mayKnow(judged.grants, subjectOf(existing))) {
          // Judged exactly as if it were missing; only who could have taken the name is told that it is taken.
          demand(judged, WRITE, wanted)
          checkVersion(undefined, ifMatch)
          throw nameTaken()
        }
        demand(judged, WRITE, subjectOf(existing))
        demandChange(judged, existing, { ...wanted, connector: existing.connector })
        checkVersion(existing.version, ifMatch)
        return this.#replace(act, existing, input)
      },
    )
  }

  /** @returns undefined where the name is taken. */
  async #create(act: Act, workspace: Workspace, name: string, input: CredentialInput) {
    const { tx, caller, entry, draft } = act
    const { connector, content, labels = {}, expiresAt, purgeAt } = input
    const kind = 'link' in content ? 'link' : 'stored'
    const store = 'link' in content ? content.link.store : this.#values.storeFor(input.store, workspace)
    if ('link' in content) this.#values.checkLink(content.link, workspace.name)
    else this.#values.checkSize(content.value, store)
    const row = { id: draft.credentialId, workspaceId: workspace.id, name, connector, kind, store } as const
    const described = { labels, expiresAt, purgeAt, createdBy: caller.identity }
    const made = await tx.insertCredential({ ...row, ...described })
    if (!made) return undefined
    const at = { tx, caller, credential: made }
    if ('link' in content) await this.#values.writeLink(at, 1, content.link)
    else await this.#values.write(at, 1, content.value, draft)
    entry.version = 1
    const credential = 'link' in content ? { ...made, link: content.link } : made
    return { credential, changed: true, created: true }
  }

  async #replace(act: Act, existing: Credential, input: CredentialInput): Promise<Written> {
    const { tx, caller, entry, draft } = act
    const { connector, content, purgeAt } = input
    if (connector !== existing.connector) throw notChangeable('connector')
    if ('link' in content !== (existing.kind === 'link')) throw notChangeable('kind')
    const store = 'link' in content ? content.link.store : input.store
    if (store !== undefined && store !== existing.store) throw notChangeable('store')
    if (purgeAt && purgeAt.getTime() !== existing.purgeAt?.getTime()) throw notChangeable('purge_at')
    if ('link' in content) this.#values.checkLink(content.link, existing.workspace)
    const described = await describe(tx, existing, input.labels ?? {}, input.expiresAt ?? null)
    const admitted = { tx, caller, credential: described.credential, entry }
    const written = await ('link' in content
      ? this.#values.relink(admitted, content.link)
      : this.#values.update(admitted, content.value, draft))
    const changed = described.changed || written.changed
    entry.mark = changed ? undefined : 'unchanged'
    return { credential: written.credential, changed, created: false }
  }

  /** @throws VaultError `not_found` */
  read(call: Call, caller: Caller, workspace: string, name: string): Promise<Credential> {
    const reading = { action: 'credential:read' } as const
    return onCredential(
      this.#acts,
      call,
      caller,
      { workspace, name },
      reading,
      async ({ credential, entry }) => {
        entry.version = credential.version
        return credential
      },
    )
  }

  /** Those that the caller may `credential:read`, by name. @throws VaultError `forbidden` */
  list(
    call: Call,
    caller: Caller,
    workspace: string,
    filter: CredentialFilter,
    page: PageRequest,
  ): Promise<Page<Credential>> {
    return this.#acts.perform(call, caller, 'credential:read', { workspace }, async (tx, judged) => {
      const place = await admitToWorkspace(tx, judged, workspace)
      if (!hasAction(judged.grants, 'credential:read', workspace)) throw forbidden('credential:read')
      return tx.credentials(judged.identityId, place.id, filter, page)
    })
  }

  /** Labels and expiry, by RFC 7396; no new version. */
  patch(
    call: Call,
    caller: Caller,
    workspace: string,
    name: string,
    patch: CredentialPatch,
  ): Promise<Written> {
    const writing = { action: WRITE, lock: true } as const
    return onCredential(this.#acts, call, caller, { workspace, name }, writing, async (admitted) => {
      const { tx, caller: judged, credential: existing, entry } = admitted
      const labels = patchLabels(existing.labels, patch.labels)
      demandChange(judged, existing, { ...subjectOf(existing), labels })
      if (Object.keys(labels).length > LABELS_MAX) {
        throw invalid('/labels', `A credential has at most ${LABELS_MAX} labels`)
      }
      const expiresAt = patch.expiresAt === undefined ? (existing.expiresAt ?? null) : patch.expiresAt
      const described = await describe(tx, existing, labels, expiresAt)
      entry.version = existing.version
      entry.mark = described.changed ? undefined : 'unchanged'
      return { ...described, created: false }
    })
  }

  /** Recoverable for 7 days; with `purge`, whatever has or had this name is gone for good. Leases end. */
  delete(call: Call, caller: Caller, workspace: string, name: string, purge: boolean): Promise<void> {
    const target = { workspace, credential: name }
    const action = purge ? 'credential:purge' : 'credential:delete'
    return this.#acts.perform(call, caller, action, target, async (tx, judged, entry) => {
      const place = await admitToWorkspace(tx, judged, workspace)
      const isMeant = purge ? () => true : isActive
      const named = (await tx.credentialsNamed(place.id, askedCredentialName(name))).filter(isMeant)
      const doomed = (await lockKnown(tx, judged, named)).filter(isMeant)
      if (doomed.length === 0) throw notFound()
      for (const one of doomed) {
        demand(judged, 'credential:delete', subjectOf(one))
        if (purge) demand(judged, 'credential:purge', subjectOf(one))
      }
      for (const one of doomed) {
        await tx.revokeLeases({ credentialId: one.id })
        await (purge ? tx.purgeCredential(one.id) : tx.deleteCredential(one.id))
      }
      entry.version = doomed[0]!.version
    })
  }

  /** Brings back the one last deleted under this name. @throws VaultError `name_taken` */
  restore(call: Call, caller: Caller, workspace: string, name: string): Promise<Written> {
    const target = { workspace, credential: name }
    return this.#acts.perform(call, caller, 'credential:delete', target, async (tx, judged, entry) => {
      const place = await admitToWorkspace(tx, judged, workspace)
      const named = await tx.credentialsNamed(place.id, askedCredentialName(name))
      const known = await lockKnown(tx, judged, named)
      const last = known.find((one) => !isActive(one))
      const subject = last ?? known[0]
      if (!subject) throw notFound()
      demand(judged, 'credential:delete', subjectOf(subject))
      const credential = last && !named.some(isActive) ? await tx.restoreCredential(last.id) : undefined
      if (!credential) throw nameTaken()
      entry.version = credential.version
      return { credential, changed: true, created: false }
    })
  }
}

/** A change must be allowed as it becomes, and must not bring a credential under a lease grant of the caller. */
function demandChange(caller: Caller, existing: Credential, becomes: Subject): void {
  if (!allows(caller.grants, WRITE, becomes)) throw forbidden(WRITE)
  if (newlyLeasable(caller.grants, subjectOf(existing), becomes)) {
    throw new VaultError('forbidden', 'This would bring the credential under a lease:issue grant of your own')
  }
}

async function describe(
  tx: LedgerTransaction,
  existing: Credential,
  labels: Record<string, string>,
  expiresAt: Date | null,
): Promise<{ credential: Credential; changed: boolean }> {
  const change: CredentialChange = {}
  if (!sameLabels(existing.labels, labels)) change.labels = labels
  if ((existing.expiresAt?.getTime() ?? null) !== (expiresAt?.getTime() ?? null)) change.expiresAt = expiresAt
  if (Object.keys(change).length === 0) return { credential: existing, changed: false }
  return { credential: await tx.updateCredential(existing.id, change), changed: true }
}

function subjectOfInput(workspace: Workspace, name: string, input: CredentialInput): Subject {
  return { workspace: workspace.name, connector: input.connector, name, labels: input.labels ?? {} }
}

function nameTaken(): VaultError {
  return new VaultError('name_taken', 'A credential of this name is in use')
}

function notChangeable(field: string): VaultError {
  return new VaultError('not_changeable', `The ${field} of a credential cannot be changed`)
}
