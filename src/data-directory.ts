import { existsSync } from 'node:fs'
import { chmod, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Config } from './config.ts'
import { FernetKey } from './core/fernet.ts'
import { parseKeyLines } from './core/keyring.ts'
import { Secret } from './core/secret.ts'
import { StartRefused } from './core/start-refused.ts'
import { BEGUN, dataDirectoryFault } from './data-directory-fault.ts'
import type { EmbeddedServer } from './postgres/embedded-server.ts'
import { removeEmbeddedServer, startEmbeddedServer } from './postgres/embedded-server.ts'
import { setUpEmbedded } from './postgres/embedded-setup.ts'
import { EmbeddedServerError, holdLock, writeDurably } from './postgres/process-lock.ts'

/** Where a process finds its database and its keys. */
export interface Ground {
  databaseUrl: Secret
  keys: Secret[]
  /** The file that the keys come from; it is read again when it changes. */
  keysFile?: string
  /** Nothing was there before: the first administrator is to be made, and then {@link Ground.complete} called. */
  firstStart: boolean
  adminTokenFile?: string
  /** Keeps the first administrator's token and marks the directory as complete: last of all. */
  complete(token: Secret): Promise<void>
  /** Stops the embedded database, where there is one. */
  stop(): Promise<void>
}

/**
 * The database and the keys that the configuration names; else, in development, those of the data directory.
 *
 * Key, embedded database and first administrator are made only together, in a data directory that is new; one that a
 * start left half-made has no mark `complete` and is begun anew. What no start left is left alone.
 *
 * @param first What becomes of a data directory that is not complete: a service begins it, others leave it alone.
 * @throws StartRefused
 */
export async function prepareGround(config: Config, first: 'begin' | 'refuse' = 'begin'): Promise<Ground> {
  const { databaseUrl, keys, dataDirectory } = config
  const given = config.keysFile !== undefined && { keysFile: config.keysFile }
  if (databaseUrl) {
    const nothing = async (): Promise<void> => {}
    return { databaseUrl, keys: keys!, ...given, firstStart: false, complete: nothing, stop: nothing }
  }
  const fault = dataDirectoryFault(dataDirectory, keys !== undefined)
  if (fault !== undefined) throw new StartRefused([`STRONGROOM_DATA_DIR: ${fault}`])
  const isComplete = () => existsSync(join(dataDirectory, 'complete'))
  const keysFile = join(dataDirectory, 'keys')
  if (!isComplete() && first === 'refuse') {
    throw new StartRefused([
      `STRONGROOM_DATA_DIR: no start was completed in ${dataDirectory}, so it has no database: name the service's own directory, or the database by STRONGROOM_DATABASE_URL`,
    ])
  }
  if (!isComplete() && keys) {
    throw new StartRefused([
      'STRONGROOM_KEYS: is set without STRONGROOM_DATABASE_URL: an embedded database is made only with a key of its own',
    ])
  }
  let release = async (): Promise<void> => {}
  try {
    if (!isComplete()) release = await writingIn(dataDirectory, () => beFirst(dataDirectory))
    // Who waited for another's first start finds it done.
    const firstStart = !isComplete()
    if (firstStart) await writingIn(dataDirectory, () => beginAnew(dataDirectory, keysFile))
    const server = await startEmbeddedServer({ dataDirectory })
    const ring = keys ? { keys, ...given } : { keys: await readKeys(keysFile), keysFile }
    if (!firstStart) await release()
    return await groundOn(server, dataDirectory, ring, firstStart, release)
  } catch (error) {
    await release()
    throw error instanceof EmbeddedServerError
      ? new StartRefused([`the embedded database: ${error.message}`])
      : error
  }
}

/** Of several first starts at once one makes what is kept there, and the others wait until it is complete. */
async function beFirst(dataDirectory: string): Promise<() => Promise<void>> {
  await makeDirectory(dataDirectory)
  return await holdLock(join(dataDirectory, 'first-start.lock'))
}

/** One by one: Node's own recursive mkdir tries for ever where a directory that is there takes none, as /proc does. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return
    if (code !== 'ENOENT' || existsSync(dirname(path))) throw error
    await makeDirectory(dirname(path))
    await makeDirectory(path)
  }
}

/** What the file system refuses in the data directory is a fault of that setting. */
async function writingIn<T>(dataDirectory: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException
    if (syscall === undefined) throw error
    throw new StartRefused([`STRONGROOM_DATA_DIR: ${dataDirectory} cannot be written to (${code})`])
  }
}

async function beginAnew(dataDirectory: string, keysFile: string): Promise<void> {
  await chmod(dataDirectory, 0o700)
  // First of all: it says that what is found here later is a start's own.
  await writeDurably(join(dataDirectory, BEGUN), '')
  await removeEmbeddedServer(dataDirectory)
  // A key is never deleted: somebody may have put it here since, or it may be the only one of a database elsewhere.
  if (existsSync(keysFile)) await rename(keysFile, `${keysFile}.before-${Date.now()}`)
  await rm(join(dataDirectory, 'admin.token'), { force: true })
  const { text } = FernetKey.generate()
  await writeDurably(keysFile, `${text.reveal()}\n`)
  await syncDirectory(dataDirectory)
}

async function groundOn(
  server: EmbeddedServer,
  dataDirectory: string,
  ring: { keys: Secret[]; keysFile?: string },
  firstStart: boolean,
  release: () => Promise<void>,
): Promise<Ground> {
  try {
    const { upgradeDatabase } = await import('./postgres/upgrade.ts')
    const { ownerUrl, serviceUrl } = await setUpEmbedded(server)
    await upgradeDatabase(ownerUrl, serviceUrl)
    const adminTokenFile = join(dataDirectory, 'admin.token')
    return {
      databaseUrl: serviceUrl,
      ...ring,
      firstStart,
      adminTokenFile,
      complete: async (token) => {
        await writingIn(dataDirectory, async () => {
          await writeDurably(adminTokenFile, `${token.reveal()}\n`)
          await writeDurably(join(dataDirectory, 'complete'), '')
          await syncDirectory(dataDirectory)
        })
        await release()
      },
      stop: async () => {
        await server.stop()
        await release()
      },
    }
  } catch (error) {
    await server.stop()
    throw error
  }
}

async function readKeys(keysFile: string): Promise<Secret[]> {
  return parseKeyLines(await readFile(keysFile, 'utf8')).map((text) => new Secret(text))
}

/** The names in the directory are on disk too: a database that outlives a loss of power needs its key. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
