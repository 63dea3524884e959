import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { Caller, PresentedToken } from '../core/calls.ts'
import type { Client } from './connections.ts'

/** Who shows this token, with his grants and the policy that they were read at. */
export async function selectCaller(client: Client, token: PresentedToken): Promise<Caller | undefined> {
  const { rows } = await client.query({
    name: 'caller',
    text: `
select t.digest, t.expires_at as "expiresAt", i.id as "identityId", i.name as identity, p.version as "policyVersion",
  array(select r.name from identity_roles ir join roles r on r.id = ir.role_id where ir.identity_id = i.id
    order by r.name) as roles,
  (select coalesce(jsonb_agg(g.value), '[]') from identity_roles ir join roles r on r.id = ir.role_id
    cross join lateral jsonb_array_elements(r.grants) g where ir.identity_id = i.id) as grants
from tokens t join identities i on i.id = t.identity_id cross join policy p
where t.id = $1 and t.expires_at > now()`,
    values: [token.id],
  })
  // An unknown id is compared too, so that its answer takes as long.
  const genuine = timingSafeEqual(rows[0]?.digest ?? NOBODY, token.digest)
  if (!genuine || !rows[0]) return undefined
  const { digest: _digest, ...caller } = rows[0]
  return { ...caller, token }
}

const NOBODY = randomBytes(32)

/** Whether the caller's token still lives and his grants are the newest: in the transaction that acts on them. */
export async function demandCaller(client: Client, caller: Caller): Promise<boolean> {
  const { rows } = await client.query({
    name: 'demand caller',
    text: `select from policy p join tokens t on t.id = $1
where p.version = $2 and t.identity_id = $3 and t.expires_at > now()`,
    values: [caller.token.id, caller.policyVersion, caller.identityId],
  })
  return rows.length === 1
}

/**
 * The same in a transaction that has raised the policy itself, `raised` times: it holds the policy's row since, so that
 * nobody else can have ended the caller's token or changed his grants meanwhile; he himself may have.
 */
export async function demandOnlyChange(client: Client, caller: Caller, raised: number): Promise<boolean> {
  const { rows } = await client.query('select from policy where version = $1', [
    caller.policyVersion + raised,
  ])
  return rows.length === 1
}
