import type { Test } from 'tap'
import type { TestGround } from './ground.ts'
import type { Troubled, TroubledOptions } from './troubled-store.ts'
import { barrier, troubledStore } from './troubled-store.ts'
import type { Someone, Vault, VaultTuning } from './vault.ts'
import { openVault, someName } from './vault.ts'

/** A vault with an external store, who may do everything there, and a name that nobody else has. */
export type ExternalVault = Troubled & { vault: Vault; by: Someone; name: string }

/** Where a credential is to be kept. */
export const OUTSIDE = { store: 'team-vault' }

/** Opens one in a workspace of its own. */
export async function openExternalVault(
  t: Test,
  ground: TestGround,
  options: TroubledOptions = {},
  tuned: Partial<VaultTuning> = {},
): Promise<ExternalVault> {
  const troubled = await troubledStore(t, options)
  const vault = await openVault(t, ground, { stores: [troubled.store], workspace: someName(), ...tuned })
  return { ...troubled, vault, by: await vault.identityWith(), name: someName() }
}

/** The code that an act is refused with. */
export const refused = (act: Promise<unknown>): Promise<string> =>
  act.then(
    () => 'not refused',
    (error) => error.code ?? String(error),
  )

/** Holds up the next call of this kind, and says when it has come. */
export function holdUp(
  trouble: Troubled['trouble'],
  kind: string,
): { came: () => Promise<unknown>; open: () => void } {
  const came = barrier()
  const gate = barrier()
  trouble.onCall = (call) => {
    if (call !== kind) return
    trouble.onCall = undefined
    came.open()
    return gate.wait()
  }
  return { came: came.wait, open: gate.open }
}
