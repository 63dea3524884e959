import t from 'tap'
import type { Test } from 'tap'
import { hashicorpVault } from '../../providers/hashicorp-vault.ts'
import type { VaultSettings } from '../../providers/hashicorp-vault.ts'
import type { StoreUnderTest } from '../conformance/secret-store.ts'
import { conforms } from '../conformance/secret-store.ts'
import type { VaultServer, VaultServerOptions } from './hashicorp-vault-server.ts'
import { startVaultServer } from './hashicorp-vault-server.ts'

async function make(options: VaultServerOptions): Promise<StoreUnderTest & { server: VaultServer }> {
  const server = await startVaultServer(options)
  const [prefix, timeoutMs] = ['strongroom', 1_000]
  const store = await hashicorpVault.open(server.settings as unknown as VaultSettings, { prefix, timeoutMs })
  return { ...server, server, store, prefix, timeoutMs, valueBytesMax: hashicorpVault.valueBytesMax }
}

conforms(t, {
  name: 'hashicorp-vault',
  troubles: ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections'],
  make: () => make({}),
})

conforms(t, {
  name: 'hashicorp-vault by approle, elsewhere',
  troubles: ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections'],
  make: () => make({ method: 'approle', mount: 'kv/team', namespace: 'data', times: { ttl: 3600 } }),
})
void ({} as Test)
