import { randomBytes } from 'node:crypto'
import { existsSync, rmSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { findBinaries } from './embedded-binaries.ts'
import {
  answers,
  launch,
  logTail,
  makeCluster,
  PasswordRefused,
  serversUid,
  shutDown,
} from './embedded-cluster.ts'
import {
  exclusively,
  homeOf,
  livingUsers,
  makeHome,
  makeSocketDirectory,
  readPlace,
  SOCKET_PORT,
  writePlace,
  type EmbeddedHome,
  type EmbeddedPlace,
} from './embedded-place.ts'
import { findPostmaster, ownIdentity } from './embedded-process.ts'
import { EmbeddedServerError } from './process-lock.ts'

// The life of an embedded server. It outlives a killed Node on purpose: whoever starts on the same data directory
// next finds it. `database.json` lists who uses it, and the last living one to leave stops it.

const READY_DEADLINE_MS = 30_000
const RELAUNCHES_MAX = 20

/** Where the embedded server lives. */
export interface EmbeddedServerOptions {
  /** Strongroom's data directory, absolute; made (0700) where it is missing. */
  dataDirectory: string
  /** Is told in one sentence what is out of the ordinary. */
  log?: (line: string) => void
}

/**
 * Starts the embedded PostgreSQL of a data directory, making it first where there is none, or joins the one
 * that already runs there.
 *
 * @throws EmbeddedServerError with one sentence that says what is wrong, and the end of the server's log.
 */
export async function startEmbeddedServer(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
  const log = options.log ?? (() => undefined)
  if (process.getuid === undefined) {
    throw new EmbeddedServerError(
      'The embedded database runs on Linux and macOS only: set STRONGROOM_DATABASE_URL',
    )
  }
  if (!isAbsolute(options.dataDirectory) || options.dataDirectory.includes('\n')) {
    throw new EmbeddedServerError('The data directory must be an absolute path without a line break')
  }
  await mkdir(options.dataDirectory, { recursive: true, mode: 0o700 })
  const home = homeOf(options.dataDirectory)
  return await exclusively(home, async () => {
    const place = (await readPlace(home)) ?? newPlace(home)
    if (!place.complete) await makeAnew(home, place, log)
    if (!existsSync(home.cluster)) {
      throw new EmbeddedServerError(
        `${join(home.dataDirectory, 'database.json')} names a database that is not where it must be, ${home.cluster}: was the data directory moved?`,
      )
    }
    const adopted = await run(home, place, log)
    const handle = randomBytes(8).toString('hex')
    place.users = [...livingUsers(place), { ...ownIdentity(), handle }]
    await writePlace(home, place)
    return new EmbeddedServer(home, place, handle, adopted)
  })
}

/**
 * Stops the embedded server of a data directory and deletes all that belongs to it, its data included. The
 * data directory itself stays.
 *
 * @throws EmbeddedServerError while another living process uses it.
 */
export async function removeEmbeddedServer(dataDirectory: string): Promise<void> {
  const home = homeOf(dataDirectory)
  await exclusively(home, async () => {
    const place = await readPlace(home)
    const other = livingUsers(place).find((user) => user.pid !== process.pid)
    if (other !== undefined) {
      throw new EmbeddedServerError(`The embedded database is in use by process ${other.pid}: end that first`)
    }
    await shutDown(home, true)
    if (place !== undefined) await removeSocketDirectory(home, place)
    // Many thousand files: what does this without a promise for each takes half as long.
    rmSync(home.directory, { recursive: true, force: true, maxRetries: 3 })
    await rm(join(home.dataDirectory, 'database.json'), { force: true })
  })
}

/** One user's hold on a running embedded server. */
export class EmbeddedServer {
  /** True where it was running already. */
  readonly adopted: boolean
  /** Where it lies. */
  readonly directory: string
  readonly socketDirectory: string
  readonly #home: EmbeddedHome
  readonly #handle: string
  readonly #superuserPassword: string
  #stopped: Promise<void> | undefined

  constructor(home: EmbeddedHome, place: EmbeddedPlace, handle: string, adopted: boolean) {
    this.adopted = adopted
    this.directory = home.directory
    this.socketDirectory = place.socketDirectory
    this.#home = home
    this.#handle = handle
    this.#superuserPassword = place.passwords['postgres'] ?? ''
  }

  /** The URL of the superuser `postgres`, who may do everything. Holds his password. */
  get superuserUrl(): string {
    return this.url('postgres', this.#superuserPassword, 'postgres')
  }

  /** A URL through the server's socket that the driver `pg` accepts. */
  url(user: string, password: string, database: string): string {
    return socketUrl(this.socketDirectory, user, password, database)
  }

  /**
   * The password kept in `database.json` for a role, minted when it is first asked for. The caller makes the role.
   */
  async passwordFor(role: string): Promise<string> {
    return await exclusively(this.#home, async () => {
      const place = await readPlace(this.#home)
      if (place === undefined) throw new EmbeddedServerError('The embedded database was removed')
      const kept = place.passwords[role]
      if (kept !== undefined) return kept
      const password = newPassword()
      place.passwords[role] = password
      await writePlace(this.#home, place)
      return password
    })
  }

  /** Leaves the server, and stops it unless another living process uses it. Twice is the same as once. */
  stop(): Promise<void> {
    this.#stopped ??= exclusively(this.#home, () => leave(this.#home, this.#handle))
    return this.#stopped
  }
}

async function leave(home: EmbeddedHome, handle: string): Promise<void> {
  const place = await readPlace(home)
  // Without the file the server was removed, or its data directory was: then nobody can use it.
  if (place === undefined) return await shutDown(home)
  place.users = livingUsers(place).filter((user) => user.handle !== handle)
  if (place.users.length === 0) {
    await shutDown(home)
    await removeSocketDirectory(home, place)
  }
  await writePlace(home, place)
}

async function makeAnew(
  home: EmbeddedHome,
  place: EmbeddedPlace,
  log: (line: string) => void,
): Promise<void> {
  await makeHome(home)
  if (existsSync(home.cluster)) {
    const aside = join(home.directory, 'cluster.orphan')
    log(`A database was found without its database.json and set aside as ${aside}`)
    await shutDown(home)
    await rm(aside, { recursive: true, force: true, maxRetries: 3 })
    await rename(home.cluster, aside)
  }
  place.passwords = { postgres: newPassword() }
  await makeCluster(home, await findBinaries(home.directory, home.user), place.passwords['postgres'] ?? '')
  place.complete = true
  await writePlace(home, place)
}

/** Makes sure that the server runs and answers; returns whether it ran before. */
async function run(home: EmbeddedHome, place: EmbeddedPlace, log: (line: string) => void): Promise<boolean> {
  const uid = serversUid(home)
  const superuserUrl = () =>
    socketUrl(place.socketDirectory, 'postgres', place.passwords['postgres'] ?? '', 'postgres')
  for (let relaunches = 0; ; relaunches += 1) {
    const running = findPostmaster(home.cluster, uid)
    if (running !== undefined && existsSync(place.socketDirectory)) {
      const lives = () => findPostmaster(home.cluster, uid) === running
      if (await answers(superuserUrl(), lives, READY_DEADLINE_MS)) return true
    } else if (running !== undefined) {
      log('The embedded database was running without its socket and is started again')
      await shutDown(home)
    }
    const binaries = await findBinaries(home.directory, home.user)
    await removeSocketDirectory(home, place)
    place.socketDirectory = await makeSocketDirectory(home)
    await writePlace(home, place)
    const child = await launch(home, binaries, place.socketDirectory)
    const lives = () => child.exitCode === null && child.signalCode === null
    try {
      if (await answers(superuserUrl(), lives, READY_DEADLINE_MS)) return false
    } catch (error) {
      // It outlives this process. One that does not answer yet may be recovering: that goes on, and the next start finds it.
      if (error instanceof PasswordRefused) await shutDown(home)
      throw error
    }
    // A postmaster that was killed leaves processes that need a moment to notice.
    const tail = logTail(home)
    if (relaunches >= RELAUNCHES_MAX || !/still in use|already exists/.test(tail)) {
      throw new EmbeddedServerError(`The embedded database ended as soon as it was started: ${tail}`)
    }
    await sleep(100)
  }
}

async function removeSocketDirectory(home: EmbeddedHome, place: EmbeddedPlace): Promise<void> {
  // Only one in the temporary directory needs it, and only a name that we gave is deleted there.
  if (place.socketDirectory.startsWith(join(home.directory, '/'))) return
  if (/\/strongroom-[^/]+$/.test(place.socketDirectory)) {
    await rm(place.socketDirectory, { recursive: true, force: true })
  }
}

function newPlace(home: EmbeddedHome): EmbeddedPlace {
  return {
    directory: home.directory,
    socketDirectory: join(home.directory, 'socket'),
    port: SOCKET_PORT,
    complete: false,
    passwords: {},
    users: [],
  }
}

function newPassword(): string {
  return randomBytes(24).toString('base64url')
}

function socketUrl(socketDirectory: string, user: string, password: string, database: string): string {
  const [name, secret, host, path] = [user, password, socketDirectory, database].map(encodeURIComponent)
  // The port and the lack of TLS are stated, so that no PGPORT or PGSSLMODE of the environment has a say.
  return `postgres://${name}:${secret}@${host}:${SOCKET_PORT}/${path}?sslmode=disable`
}
