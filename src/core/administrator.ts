import type { Call } from './calls.ts'
import type { Grant } from './grants.ts'
import type { Ledger } from './ledger.ts'
import type { TokenRecord } from './records.ts'
import { markPrivilege } from './roles.ts'
import type { AuditEntry } from './audit.ts'
import type { Secret } from './secret.ts'
import { mintToken } from './token.ts'

const ROLE = 'admin'
const GRANT: Grant = { actions: ['admin:*'], workspaces: ['*'] }
const TOKEN_SECONDS = 365 * 24 * 3600

/**
 * Makes an identity that administers, with a token that is valid for a year. Also the way back in.
 *
 * The role has `admin:*` and nothing else: its token never leases.
 */
export async function makeAdministrator(
  ledger: Ledger,
  call: Call,
  identity: string,
): Promise<{ record: TokenRecord; token: Secret }> {
  const minted = mintToken()
  return ledger.transaction(call, undefined, async (tx) => {
    await tx.changePolicy()
    const role = await tx.role(ROLE)
    const able = role?.grants.some((grant) => grant.actions.includes('admin:*'))
    if (!able) await tx.putRole(ROLE, [...(role?.grants ?? []), GRANT])
    const known = await tx.identity(identity)
    const put = await tx.putIdentity(identity, [...(known?.roles ?? []), ROLE])
    const record = await tx.insertToken(
      put!.identity.id,
      { id: minted.id, digest: minted.digest },
      TOKEN_SECONDS,
    )
    const detail = JSON.stringify({ identity, token: minted.id })
    const entry: AuditEntry = { action: 'admin:init', outcome: 'allowed', detail }
    markPrivilege(entry, await tx.grantsOf(put!.identity.id))
    tx.record(entry)
    return { record, token: minted.text }
  })
}
