import t from 'tap'
import type { GcpSettings } from '../../providers/gcp-secret-manager.ts'
import { gcpSecretManager } from '../../providers/gcp-secret-manager.ts'
import type { StoreUnderTest, Trouble } from '../conformance/secret-store.ts'
import { conforms, endsByTime } from '../conformance/secret-store.ts'
import { PATIENT_MS, TIMEOUT_MS } from './gcp-ground.ts'
import type { GcpServerOptions } from './gcp-secret-manager-server.ts'
import { startGcpServer } from './gcp-secret-manager-server.ts'

// They mostly wait, each at a server of its own.
t.jobs = 10

const TROUBLES = ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections'] as const

async function make(options: GcpServerOptions, prefix: string, trouble?: Trouble): Promise<StoreUnderTest> {
  const server = await startGcpServer(options)
  const timeoutMs = endsByTime(trouble) ? TIMEOUT_MS : PATIENT_MS
  const settings = server.settings as unknown as GcpSettings
  const store = await gcpSecretManager.open(settings, { prefix, timeoutMs })
  const { close, plant, recover, suffer } = server
  const { valueBytesMax } = gcpSecretManager
  return { store, prefix, timeoutMs, valueBytesMax, close, plant, recover, suffer }
}

// The SDK and its first call take long: here, not while the first tests wait side by side for their answers.
const first = await make({}, 'strongroom')
await first.store.check().catch(() => {})
await first.store.close()
await first.close()

for (const [name, options, prefix] of [
  ['Google Secret Manager', {}, 'strongroom'],
  ['Google Secret Manager, regional', { location: 'europe-west1' }, 'team/strongroom'],
] as const)
  conforms(t, { name, troubles: TROUBLES, make: (_, trouble) => make(options, prefix, trouble) })
