import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { GcpSettings } from '../../providers/gcp-secret-manager.ts'
import { gcpSecretManager } from '../../providers/gcp-secret-manager.ts'
import type { LinkReader, SecretStore } from '../../src/core/secret-store.ts'
import type { GcpServer, GcpServerOptions } from './gcp-secret-manager-server.ts'
import { startGcpServer } from './gcp-secret-manager-server.ts'

/** For tests that wait until it is over. */
export const TIMEOUT_MS = 1000
/** For those whose calls are answered, also on a machine that does much else. */
export const PATIENT_MS = 8000

/** A store on a server of its own, and a ref with its name there. */
export interface GcpGround {
  server: GcpServer
  store: SecretStore & LinkReader
  ref: string
  id: string
}

/**
 * @param more Settings beside those that the server asks for.
 * @param timeoutMs Long unless a test waits for it.
 */
export async function gcpGround(
  t: Test,
  options: GcpServerOptions = {},
  more: object = {},
  timeoutMs = PATIENT_MS,
): Promise<GcpGround> {
  const server = await startGcpServer(options)
  const settings = { ...server.settings, ...more } as unknown as GcpSettings
  const store = await gcpSecretManager.open(settings, { prefix: 'strongroom', timeoutMs })
  t.teardown(async () => {
    await store.close()
    await server.close()
  })
  const uuid = randomUUID()
  return { server, store, ref: `strongroom/acme/${uuid}`, id: `strongroom__acme__${uuid}` }
}
