import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { AuditEntry } from './audit.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import { notFound, VaultError } from './errors.ts'
import type { Grant } from './grants.ts'
import { checkGrants, expandActions } from './grants.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import { askedSlug, isSlug } from './names.ts'
import type { Role } from './records.ts'

const ACTION = 'admin:roles'

/** Roles, for operators. */
export class Roles {
  readonly #acts: Acts

  constructor(acts: Acts) {
    this.#acts = acts
  }

  list(call: Call, caller: Caller, page: PageRequest): Promise<Page<Role>> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      return tx.roles(page)
    })
  }

  /** @throws VaultError `not_found` */
  read(call: Call, caller: Caller, name: string): Promise<Role> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ role: askedSlug(name) })
      demandAdmin(judged, ACTION)
      const role = await tx.role(askedSlug(name))
      if (!role) throw notFound()
      return role
    })
  }

  /** @throws VaultError `in_use` where the last identity with `admin:*` would lose it */
  put(call: Call, caller: Caller, name: string, grants: Grant[]): Promise<{ role: Role; created: boolean }> {
    checkGrants(grants, '/grants')
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ role: askedSlug(name) })
      demandAdmin(judged, ACTION)
      if (!isSlug(name)) throw notFound()
      await tx.changePolicy()
      const put = await tx.putRole(name, grants)
      await demandAdministrator(tx)
      markPrivilege(entry, grants)
      return put
    })
  }

  /** @throws VaultError `in_use` while an identity has it */
  delete(call: Call, caller: Caller, name: string): Promise<void> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ role: askedSlug(name) })
      demandAdmin(judged, ACTION)
      await tx.changePolicy()
      const deleted = await tx.deleteRole(askedSlug(name))
      if (deleted === 'missing') throw notFound()
      if (deleted === 'in_use') throw new VaultError('in_use', 'An identity has this role')
    })
  }
}

/** @throws VaultError `in_use` where nobody would be left with `admin:*` */
export async function demandAdministrator(tx: LedgerTransaction): Promise<void> {
  if ((await tx.administrators()) > 0) return
  throw new VaultError('in_use', 'The last identity with admin:* stays')
}

/** Whether grants let one lease, or make another who can. */
export function privileged(grants: readonly Grant[]): boolean {
  const actions = expandActions(grants.flatMap((grant) => grant.actions))
  return ['lease:issue', 'admin:roles', 'admin:identities', 'admin:tokens'].some((one) =>
    actions.some((action) => action === one),
  )
}

/** Marks an event by which someone comes within reach of leases or of administration. */
export function markPrivilege(entry: AuditEntry, grants: readonly Grant[]): void {
  if (privileged(grants)) entry.mark = 'privilege'
}
