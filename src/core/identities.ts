import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import { VaultError, notFound, unknownName } from './errors.ts'
import { askedSlug, isSlug } from './names.ts'
import type { Identity, TokenRecord } from './records.ts'
import { demandAdministrator, markPrivilege } from './roles.ts'
import type { Secret } from './secret.ts'
import { isTokenId, mintToken } from './token.ts'

const ACTION = 'admin:identities'
const TOKENS = 'admin:tokens'
const TOKEN_SECONDS_DEFAULT = 90 * 24 * 3600

/** Identities and their tokens, for operators. */
export class Identities {
  readonly #acts: Acts

  constructor(acts: Acts) {
    this.#acts = acts
  }

  list(call: Call, caller: Caller, page: PageRequest): Promise<Page<Identity>> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      return tx.identities(page)
    })
  }

  /** @throws VaultError `not_found` */
  read(call: Call, caller: Caller, name: string): Promise<Identity> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ identity: askedSlug(name) })
      demandAdmin(judged, ACTION)
      const identity = await tx.identity(askedSlug(name))
      if (!identity) throw notFound()
      return identity
    })
  }

  /** @throws VaultError `unknown_name`; `forbidden` for one's own roles; `in_use` for the last administrator's */
  put(
    call: Call,
    caller: Caller,
    name: string,
    roles: string[],
  ): Promise<{ identity: Identity; created: boolean }> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ identity: askedSlug(name), roles })
      demandAdmin(judged, ACTION)
      if (!isSlug(name)) throw notFound()
      await tx.changePolicy()
      const known = await tx.identity(name)
      const unchanged = known && sameNames(known.roles, roles)
      if (known?.id === judged.identityId && !unchanged) {
        throw new VaultError('forbidden', 'Nobody changes his own roles')
      }
      const put = await tx.putIdentity(name, roles)
      if (!put) throw unknownName('/roles', 'There is no role of one of these names')
      await demandAdministrator(tx)
      if (unchanged) entry.mark = 'unchanged'
      else markPrivilege(entry, await tx.grantsOf(put.identity.id))
      return put
    })
  }

  /** Revokes its tokens and leases. @throws VaultError `in_use` for the last administrator */
  delete(call: Call, caller: Caller, name: string): Promise<void> {
    return this.#acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ identity: askedSlug(name) })
      demandAdmin(judged, ACTION)
      await tx.changePolicy()
      const identity = await tx.identity(askedSlug(name))
      if (!identity) throw notFound()
      await tx.revokeLeases({ identityId: identity.id })
      await tx.deleteIdentity(identity.id)
      await demandAdministrator(tx)
    })
  }

  /** The token's text is in this answer and nowhere else. */
  issueToken(
    call: Call,
    caller: Caller,
    name: string,
    expiresInSeconds = TOKEN_SECONDS_DEFAULT,
  ): Promise<{ record: TokenRecord; token: Secret }> {
    const minted = mintToken()
    return this.#acts.perform(call, caller, TOKENS, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ identity: askedSlug(name), token: minted.id })
      demandAdmin(judged, TOKENS)
      const identity = await tx.identity(askedSlug(name))
      if (!identity) throw notFound()
      const record = await tx.insertToken(
        identity.id,
        { id: minted.id, digest: minted.digest },
        expiresInSeconds,
      )
      markPrivilege(entry, await tx.grantsOf(identity.id))
      return { record, token: minted.text }
    })
  }

  tokens(call: Call, caller: Caller, name: string, page: PageRequest): Promise<Page<TokenRecord>> {
    return this.#acts.perform(call, caller, TOKENS, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ identity: askedSlug(name) })
      demandAdmin(judged, TOKENS)
      const identity = await tx.identity(askedSlug(name))
      if (!identity) throw notFound()
      return tx.tokens(identity.id, page)
    })
  }

  /** Ends the token and its leases. */
  revokeToken(call: Call, caller: Caller, name: string, tokenId: string): Promise<void> {
    return this.#acts.perform(call, caller, TOKENS, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ identity: askedSlug(name) })
      demandAdmin(judged, TOKENS)
      await tx.changePolicy()
      const identity = await tx.identity(askedSlug(name))
      if (!identity || !(await tx.deleteToken(identity.id, isTokenId(tokenId) ? tokenId : '')))
        throw notFound()
      entry.detail = JSON.stringify({ identity: askedSlug(name), token: tokenId })
      await tx.revokeLeases({ tokenId })
    })
  }
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return [...new Set(a)].sort().join() === [...new Set(b)].sort().join()
}
