import t from 'tap'
import type { GcpSettings } from '../../providers/gcp-secret-manager.ts'
import { gcpSecretManager } from '../../providers/gcp-secret-manager.ts'
import { conforms } from '../conformance/secret-store.ts'
import type { GcpServerOptions } from './gcp-secret-manager-server.ts'
import { startGcpServer } from './gcp-secret-manager-server.ts'

// They mostly wait, each at a server of its own.
t.jobs = 6

const TROUBLES = ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections'] as const

const trials: Record<string, { server: GcpServerOptions; prefix: string }> = {
  'Google Secret Manager': { server: {}, prefix: 'strongroom' },
  'Google Secret Manager, regional': { server: { location: 'europe-west1' }, prefix: 'team/strongroom' },
}

// The SDK takes long to load: here, not while the first tests wait for their answers.
await import('@google-cloud/secret-manager')

for (const [name, { server: options, prefix }] of Object.entries(trials)) {
  conforms(t, {
    name,
    troubles: TROUBLES,
    make: async () => {
      const server = await startGcpServer(options)
      const timeoutMs = 750
      const store = await gcpSecretManager.open(server.settings as unknown as GcpSettings, {
        prefix,
        timeoutMs,
      })
      const { close, plant, recover, suffer } = server
      return {
        store,
        prefix,
        timeoutMs,
        valueBytesMax: gcpSecretManager.valueBytesMax,
        close,
        plant,
        recover,
        suffer,
      }
    },
  })
}
