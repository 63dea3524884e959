import { lookup } from 'node:dns/promises'
import type { Config } from './config.ts'
import type { Secret } from './core/secret.ts'
import { StartRefused } from './core/start-refused.ts'
import { prepareGround } from './data-directory.ts'
import type { Logger } from './log.ts'
import type { Tuning } from './tuning.ts'
import { LEFT_ALONE, openConfigured } from './opened-stores.ts'
import { wire } from './wire.ts'

/** A service that listens. */
export interface Running {
  serviceUrl: string
  adminUrl: string
  /** Where the first administrator's token lies, where this data directory has one. */
  adminTokenFile?: string
  firstStart: boolean
  /** Answers what is in flight, then ends everything that was started. Twice is the same as once. */
  stop(): Promise<void>
}

/**
 * Starts the service: the ground, everything on it, and both listeners.
 *
 * @throws StartRefused
 */
export async function serve(config: Config, log: Logger, tuning: Partial<Tuning> = {}): Promise<Running> {
  const ground = await prepareGround(config)
  try {
    const opened = await openConfigured(config.stores, log)
    const strongroom = await wire(config, ground, log, tuning, opened)
    try {
      if (ground.firstStart) await ground.complete((await strongroom.makeAdministrator('admin')).token)
      const serviceUrl = await listen(strongroom.serviceApp, 'STRONGROOM_LISTEN', config.listen)
      const adminUrl = await listen(strongroom.adminApp, 'STRONGROOM_ADMIN_LISTEN', config.adminListen)
      let stopping: Promise<void> | undefined
      const stop = (): Promise<void> => (stopping ??= strongroom.close().finally(() => ground.stop()))
      const { adminTokenFile, firstStart } = ground
      return { serviceUrl, adminUrl, ...(adminTokenFile && { adminTokenFile }), firstStart, stop }
    } catch (error) {
      await strongroom.close()
      throw error
    }
  } catch (error) {
    await ground.stop()
    throw error
  }
}

async function listen(
  app: { listen(options: { host: string; port: number }): Promise<string> },
  variable: string,
  { host, port }: { host: string; port: number },
): Promise<string> {
  try {
    // Fastify would open another server for each further address of this name, and that would lack what we add to ours.
    const { address } = host === 'localhost' ? await lookup(host) : { address: host }
    return await app.listen({ host: address, port })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new StartRefused([`${variable}: cannot listen on ${host}:${port} (${code ?? 'unknown fault'})`])
  }
}

/** Brings the schema up to date as its owner. @returns the migrations that were applied */
export async function upgradeDatabase(config: Config): Promise<{ applied: string[] }> {
  const upgrade = await import('./postgres/upgrade.ts')
  const { databaseOwnerUrl, databaseUrl } = config
  if (!databaseOwnerUrl || !databaseUrl) throw new StartRefused(['db-upgrade needs both database URLs'])
  return { applied: await upgrade.upgradeDatabase(databaseOwnerUrl, databaseUrl) }
}

/** Makes an administrator on a machine that has the owner's URL and the keys: also the way back in. */
export async function makeAdministrator(
  config: Config,
  identity: string,
  log: Logger,
): Promise<{ identity: string; token: Secret; expiresAt: Date }> {
  const { databaseOwnerUrl, keys } = config
  if (!databaseOwnerUrl || !keys)
    throw new StartRefused(['init needs STRONGROOM_DATABASE_OWNER_URL and the keys'])
  // As the owner, whom production would not let serve; whatever has become of the stores, and of the file that names them.
  const strongroom = await wire(
    { ...config, mode: 'development' },
    { databaseUrl: databaseOwnerUrl, urlVariable: 'STRONGROOM_DATABASE_OWNER_URL', keys },
    log,
    {},
    LEFT_ALONE,
  )
  try {
    const { record, token } = await strongroom.makeAdministrator(identity)
    return { identity, token, expiresAt: record.expiresAt }
  } finally {
    await strongroom.close()
  }
}

/**
 * The ledger and its stores, opened as the service would, to sweep them.
 *
 * @throws StartRefused where there is no ledger yet: only a service begins one, with an administrator
 */
export async function openSweep(config: Config, log: Logger) {
  const ground = await prepareGround(config, 'refuse')
  const failures = new Map<string, string>()
  try {
    const opened = await openConfigured(config.stores, log)
    const told = { onUndeleted: (store: string, reason: string) => void failures.set(store, reason) }
    const strongroom = await wire(config, ground, log, {}, opened, told)
    const close = (): Promise<void> => strongroom.close().finally(() => ground.stop())
    return { sweep: strongroom.sweep, failures: () => failures, close }
  } catch (error) {
    await ground.stop()
    throw error
  }
}
