import { demand, demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { AuditEntry } from './audit.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import { VaultError, forbidden, notFound, unknownName } from './errors.ts'
import { hasAction, mayKnow } from './grants.ts'
import type { Ledger } from './ledger.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import { isUuid } from './names.ts'
import type { Lease, LeaseFilter, LeaseScope } from './records.ts'
import { refusal } from './lease-refusal.ts'
import type { StoreSet } from './store-set.ts'

type KnownLease = NonNullable<Awaited<ReturnType<LedgerTransaction['lease']>>>

/** Leases after they were granted: seen, renewed, revoked. Granting is in `LeaseGrants`. */
export class Leases {
  readonly #acts: Acts
  readonly #ledger: Ledger
  readonly #stores: StoreSet

  constructor(acts: Acts, ledger: Ledger, stores: StoreSet) {
    this.#acts = acts
    this.#ledger = ledger
    this.#stores = stores
  }

  /** The caller's own leases and those that he may `lease:read`, newest first. */
  list(call: Call, caller: Caller, filter: LeaseFilter, page: PageRequest): Promise<Page<Lease>> {
    return this.#acts.perform(call, caller, 'lease:read', { workspace: filter.workspace }, (tx, judged) =>
      tx.leases(judged.identityId, hasAction(judged.grants, 'lease:read'), filter, page),
    )
  }

  /** @throws VaultError `not_found` */
  read(call: Call, caller: Caller, id: string): Promise<Lease> {
    return this.#acts.perform(call, caller, 'lease:read', {}, async (tx, judged, entry) => {
      const lease = await known(tx, judged, id, entry)
      if (!own(judged, lease)) demand(judged, 'lease:read', subjectOfLease(lease))
      return lease
    })
  }

  /**
   * From now on for `ttlSeconds`, judged as a new lease would be.
   *
   * @throws VaultError `lease_ended`, `lease_superseded`, `link_refused`
   */
  renew(call: Call, caller: Caller, id: string, ttlSeconds: number | undefined): Promise<Lease> {
    return this.#acts.perform(call, caller, 'lease:issue', {}, async (tx, judged, entry) => {
      const lease = await known(tx, judged, id, entry)
      if (!own(judged, lease)) throw forbidden('lease:issue')
      const { workspace, credential, version } = lease
      const judgement = await tx.judge(judged.token, { workspace, credential, version, ttlSeconds })
      const { code } = judgement
      // Who may not lease it any more is told so before he is told to lease again.
      if (code === 'forbidden') throw refusal(code)
      if (lease.state !== 'active') throw refusal('lease_ended')
      if (code === 'not_found') throw refusal(code)
      if (lease.superseded) throw new VaultError('lease_superseded', 'There is a newer version: lease again')
      if (code) throw refusal(code)
      if (lease.readAt) await this.#demandOpened(tx, lease)
      await tx.renewLease(id, judgement.expiresAt!)
      const renewed = (await tx.lease(id))!
      // It was revoked after it was looked at.
      if (renewed.state !== 'active') throw refusal('lease_ended')
      return renewed
    })
  }

  /** Of a link: that its store still lets the workspace read there. */
  async #demandOpened(tx: LedgerTransaction, { workspace, credential }: KnownLease): Promise<void> {
    const place = await tx.workspace(workspace)
    const linking = place && (await tx.credential(place.id, credential))
    if (linking?.link) this.#stores.follow(linking.link, workspace)
  }

  /** Again and again 204. */
  revoke(call: Call, caller: Caller, id: string): Promise<void> {
    return this.#acts.perform(call, caller, 'lease:revoke', {}, async (tx, judged, entry) => {
      const lease = await known(tx, judged, id, entry)
      if (!own(judged, lease)) demand(judged, 'lease:revoke', subjectOfLease(lease))
      if (lease.state === 'active') await tx.revokeLease(id)
      else entry.mark = 'unchanged'
    })
  }

  /**
   * Ends every active lease in the scope, and what is on its way. They have ended before they are counted, so that a
   * count that takes too long takes nothing back.
   *
   * @returns how many were active
   */
  async revokeMany(call: Call, caller: Caller, scope: LeaseScope): Promise<number> {
    const { workspace, credential, identity } = scope
    const target = { workspace, credential }
    const revoked = await this.#acts.perform(
      call,
      caller,
      'admin:leases',
      target,
      async (tx, judged, entry) => {
        if (identity !== undefined) entry.detail = JSON.stringify({ identity })
        demandAdmin(judged, 'admin:leases')
        const place = workspace === undefined ? undefined : await tx.workspace(workspace)
        if (workspace !== undefined && !place) throw nothingNamed('/workspace')
        const named = credential === undefined ? undefined : await tx.credential(place!.id, credential)
        if (credential !== undefined && !named) throw nothingNamed('/credential')
        const who = identity === undefined ? undefined : await tx.identity(identity)
        if (identity !== undefined && !who) throw nothingNamed('/identity')
        const ids = {
          workspaceId: named ? undefined : place?.id,
          credentialId: named?.id,
          identityId: who?.id,
        }
        return { ids, revocation: await tx.revokeLeases(ids) }
      },
    )
    return this.#ledger.transaction(call, undefined, (tx) =>
      tx.countEndedLeases(revoked.ids, revoked.revocation),
    )
  }
}

function nothingNamed(pointer: string): VaultError {
  return unknownName(pointer, 'There is nothing of this name')
}

async function known(
  tx: LedgerTransaction,
  caller: Caller,
  id: string,
  entry: AuditEntry,
): Promise<KnownLease> {
  const lease = isUuid(id) ? await tx.lease(id) : undefined
  if (!lease || (!own(caller, lease) && !mayKnow(caller.grants, subjectOfLease(lease)))) throw notFound()
  Object.assign(entry, { workspace: lease.workspace, credential: lease.credential, version: lease.version })
  Object.assign(entry, { lease: lease.id, runId: lease.runId, reason: lease.reason })
  return lease
}

function own(caller: Caller, lease: KnownLease): boolean {
  return lease.identityId === caller.identityId
}

function subjectOfLease(lease: KnownLease) {
  return {
    workspace: lease.workspace,
    connector: lease.connector,
    name: lease.credential,
    labels: lease.labels,
  }
}
