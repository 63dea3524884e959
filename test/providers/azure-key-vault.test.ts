import t from 'tap'

import { azureKeyVault } from '../../providers/azure-key-vault.ts'
import { conforms } from '../conformance/secret-store.ts'
import { AzureKeyVaultServer } from './azure-key-vault-server.ts'

const TIMEOUT_MS = 1000
const PREFIX = 'strongroom'

conforms(t, {
  name: 'azure-key-vault',
  troubles: ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections'],
  make: async () => {
    const server = await AzureKeyVaultServer.start()
    Object.assign(process.env, server.env)
    const store = await azureKeyVault.open(
      { vault_url: server.url },
      { prefix: PREFIX, timeoutMs: TIMEOUT_MS },
    )
    return {
      store,
      prefix: PREFIX,
      timeoutMs: TIMEOUT_MS,
      valueBytesMax: azureKeyVault.valueBytesMax,
      suffer: (trouble) => server.suffer(trouble),
      recover: () => server.recover(),
      plant: (locator, text) => server.plant(locator, text),
      close: () => server.close(),
    }
  },
})
