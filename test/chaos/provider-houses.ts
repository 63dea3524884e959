import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { temporaryDirectory } from '../leftovers.ts'
import { NO_LOGIN } from '../providers/aws-stores.ts'
import { startAwsServer } from '../providers/aws-secrets-manager-server.ts'
import { AzureKeyVaultServer } from '../providers/azure-key-vault-server.ts'
import { startGcpServer } from '../providers/gcp-secret-manager-server.ts'
import { startVaultServer } from '../providers/hashicorp-vault-server.ts'
import { openKubernetesServer } from '../providers/kubernetes-server.ts'
import type { ProviderServer, ServedCall } from '../providers/provider-server.ts'

/** Every kind of store that has a loopback server, by the name that the tests give the store. */
const SERVERS: Record<string, () => Promise<ProviderServer>> = {
  aws: startAwsServer,
  azure: () => AzureKeyVaultServer.start(),
  google: () => startGcpServer(),
  kubernetes: openKubernetesServer,
  vault: startVaultServer,
}

const SLOW = ['google', 'kubernetes']

/** A point at which a store is held up: a call of the provider, and on which side of the store's doing. */
export interface Hold {
  call: ServedCall
  moment: 'before' | 'after'
  /** Only gets that follow a put: the read-back, and not what was current before. */
  readBack?: boolean
}

/** A store of every kind, and what a service in another process needs to find them. */
export interface ProviderHouses {
  names: string[]
  env: Record<string, string>
  servers: Record<string, ProviderServer>
  /** From now on whoever comes to this point waits. @returns what tells that all stores are there, and what lets go */
  hold(at: Hold): { reached: Promise<unknown>; release: () => void }
}

// Longer than any hold, so that nothing is tried a second time meanwhile.
const TIMEOUT_SECONDS = 20
/** More than the copy grace that follows from it: ten times the longest call. */
export const PAST_GRACE_SECONDS = 10 * TIMEOUT_SECONDS + 1
// Where the stores do not all come to the point, those that did are held for so long.
const GATHERING_MS = 15_000

/**
 * Starts the servers; they are closed after the test.
 *
 * @param all Also of the kinds whose SDK takes long to load, in each process that is started.
 */
export async function startHouses(t: Test, all: boolean): Promise<ProviderHouses> {
  const servers: Record<string, ProviderServer> = {}
  for (const [name, start] of Object.entries(SERVERS)) {
    if (!all && SLOW.includes(name)) continue
    const server = (servers[name] = await start())
    t.teardown(() => server.close())
  }
  const limits = { timeout_seconds: TIMEOUT_SECONDS }
  const stores = Object.entries(servers).map(([name, { settings }]) => [name, { ...settings, limits }])
  const storesFile = join(temporaryDirectory(t), 'stores.json')
  writeFileSync(storesFile, JSON.stringify({ stores: Object.fromEntries(stores) }))
  const logins = Object.values(servers).map(({ env }) => env)
  const env = Object.assign({}, NO_LOGIN, ...logins, {
    STRONGROOM_STORES_FILE: storesFile,
    STRONGROOM_DEADLINE_SECONDS: String(2 * TIMEOUT_SECONDS),
  })
  return { names: Object.keys(servers), env, servers, hold: (at) => hold(Object.values(servers), at) }
}

function hold(servers: ProviderServer[], { call, moment, readBack = false }: Hold) {
  const reached = Promise.withResolvers<undefined>()
  const released = Promise.withResolvers<undefined>()
  const held = new Set<ProviderServer>()
  for (const server of servers) {
    let puts = 0
    server.onCall = async (called, when) => {
      if (called === 'put') puts++
      if (called !== call || when !== moment || (readBack && puts === 0)) return
      held.add(server)
      if (held.size === servers.length) reached.resolve(undefined)
      else setTimeout(reached.resolve, GATHERING_MS, undefined).unref()
      await released.promise
    }
  }
  const release = (): void => {
    for (const server of servers) server.onCall = undefined
    released.resolve(undefined)
  }
  return { reached: reached.promise, release }
}
