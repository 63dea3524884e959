import type { Test } from 'tap'
import { v7 } from 'uuid'
import type { TestGround } from './ground.ts'
import { freshGround } from './ground.ts'
import type { Troubled, TroubledOptions } from './troubled-store.ts'
import { troubledStore } from './troubled-store.ts'
import type { Someone, Vault, VaultTuning } from './vault.ts'
import { openVault } from './vault.ts'

/** A vault with an external store whose provider is in the tester's hand. */
export interface ExternalVault {
  ground: TestGround
  vault: Vault
  worker: Someone
  team: Troubled
  /** Makes a credential in the external store. @returns its id */
  create(name: string, value?: string): Promise<string>
  remove(name: string, purge: boolean): Promise<void>
  /** The value that is leased now, as JSON text. */
  leased(name: string): Promise<string>
  /** Each copy as `version state`, in the order in which they were named. */
  states(): Promise<string[]>
  /** What the external store keeps, as a set of values. */
  values(): string[]
}

/** More than the copy grace of these vaults, in seconds. */
export const PAST_GRACE = 61

/** @param at The ground that the vault is to use; a fresh one if it is left out. */
export async function externalVault(
  t: Test,
  tuned: Partial<VaultTuning> = {},
  options: TroubledOptions = {},
  at?: TestGround,
): Promise<ExternalVault> {
  const ground = at ?? (await freshGround(t))
  const team = await troubledStore(t, { cacheSeconds: 0, tuning: { retriesMax: 0 }, ...options })
  const vault = await openVault(t, ground, { stores: [team.store], ...tuned })
  const worker = await vault.identityWith()
  return {
    ground,
    vault,
    worker,
    team,
    create: async (name, value = '"one"') =>
      (await vault.create(worker, name, value, {}, { store: 'team-vault' })).credential.id,
    remove: (name, purge) =>
      vault.credentials.delete(vault.call(), worker.caller, vault.workspace, name, purge),
    leased: async (name) => (await vault.lease(worker, name)).value.reveal(),
    states: () => statesIn(ground),
    values: () => [...team.kept.values()].sort(),
  }
}

/** Each copy of the ledger as `version state`, in the order in which they were named. */
export async function statesIn(ground: TestGround): Promise<string[]> {
  const rows = await ground.sql('select version, state from copies order by id')
  return rows.map(({ version, state }) => `${version} ${state}`)
}

/** Lets the copies become older, for the ledger, than they are: nobody waits for a grace to pass. */
export async function age(ground: TestGround, seconds = PAST_GRACE): Promise<void> {
  await ground.sql(
    `update copies set named_at = named_at - s, dropped_at = dropped_at - s, attempted_at = attempted_at - s,
       deleted_at = deleted_at - s from make_interval(secs => $1) s`,
    [seconds],
  )
}

/** What is left where a process died between naming a copy and the switch. @returns its ref */
export async function leftPending(vault: Vault, credentialId: string, version: number): Promise<string> {
  const id = v7()
  const ref = `strongroom/${vault.workspace}/${id}`
  await vault.ledger.transaction(vault.call(), undefined, (tx) =>
    tx.nameCopy({ id, credentialId, version, store: 'team-vault', ref }),
  )
  return ref
}
