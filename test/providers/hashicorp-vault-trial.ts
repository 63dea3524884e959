import type { Test } from 'tap'
import { hashicorpVault } from '../../providers/hashicorp-vault.ts'
import type { VaultSettings } from '../../providers/hashicorp-vault.ts'
import { StoreError } from '../../src/core/secret-store.ts'
import type { StoreUnderTest } from '../conformance/secret-store.ts'
import type { VaultServer, VaultServerOptions } from './hashicorp-vault-server.ts'
import { startVaultServer } from './hashicorp-vault-server.ts'

// For calls that are answered, also on a machine that does much else.
const PATIENT_MS = 8_000
/** Where a test waits until the time is over. */
export const HASTY_MS = 500

/** A store and its server. */
export type VaultTrial = StoreUnderTest & { server: VaultServer }

/** Opens a store as the stores file would say it. */
export async function openStore(
  settings: Record<string, unknown>,
  timeoutMs = PATIENT_MS,
): Promise<StoreUnderTest['store']> {
  return await hashicorpVault.open(settings as unknown as VaultSettings, { prefix: 'strongroom', timeoutMs })
}

/** Starts a server and opens a store on it; who asks for it ends both. */
export async function makeTrial(
  options: VaultServerOptions = {},
  timeoutMs = PATIENT_MS,
): Promise<VaultTrial> {
  const server = await startVaultServer(options)
  const store = await openStore(server.settings, timeoutMs)
  const { valueBytesMax } = hashicorpVault
  return { ...server, server, store, prefix: 'strongroom', timeoutMs, valueBytesMax }
}

/** The same, until the test ends. */
export async function beginTrial(
  t: Test,
  options: VaultServerOptions = {},
  timeoutMs?: number,
): Promise<VaultTrial> {
  const trial = await makeTrial(options, timeoutMs)
  t.teardown(async () => {
    await trial.store.close()
    await trial.server.close()
  })
  return trial
}

/** The fault that a call failed with; undefined when it did not. */
export async function failedAs(act: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await act()
    return undefined
  } catch (error) {
    return error instanceof StoreError ? error.fault : 'no StoreError'
  }
}
