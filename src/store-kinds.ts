import type { StoreKind } from './core/secret-store.ts'

/** A kind of store that a stores file may ask for. */
export interface KnownKind {
  /** Loads its module. The SDK is loaded later, when a store is opened. */
  load(): Promise<StoreKind>
  /** Which settings say where the store is: two that agree in them are one place, whoever logs in. */
  place: readonly string[]
  /** What the vendor allows in one second, where the stores file names no other limit. */
  readsPerSecond?: number
  writesPerSecond?: number
}

/** Kinds by their provider's name. */
export type StoreKinds = Readonly<Record<string, KnownKind>>

/** Every kind of this version. `memory` is none of them: it is for tests. */
export const STORE_KINDS: StoreKinds = {
  'hashicorp-vault': kind('hashicorp-vault', ['address', 'namespace', 'mount']),
  'aws-secrets-manager': kind('aws-secrets-manager', ['region', 'endpoint'], 10_000, 50),
  // 90,000 reads and 600 writes a minute.
  'gcp-secret-manager': kind('gcp-secret-manager', ['project', 'location', 'endpoint'], 1500, 10),
  // 4,000 reads and 300 new secrets in ten seconds.
  'azure-key-vault': kind('azure-key-vault', ['vault_url'], 400, 30),
  kubernetes: kind('kubernetes', ['namespace', 'context']),
}

function kind(
  provider: string,
  place: readonly string[],
  readsPerSecond?: number,
  writesPerSecond?: number,
): KnownKind {
  return {
    load: () => loadKind(provider),
    place,
    ...(readsPerSecond !== undefined && { readsPerSecond }),
    ...(writesPerSecond !== undefined && { writesPerSecond }),
  }
}

async function loadKind(provider: string): Promise<StoreKind> {
  const module = (await import(`../providers/${provider}.ts`)) as Record<string, Partial<StoreKind>>
  const found = Object.values(module).find((each) => each.provider === provider)
  if (!found) throw new Error(`providers/${provider}.ts exports no kind of store of that name`)
  return found as StoreKind
}
