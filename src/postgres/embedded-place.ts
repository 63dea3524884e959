import { createHash } from 'node:crypto'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { alive, type ProcessIdentity } from './embedded-process.ts'
import { EmbeddedServerError, holdLock, writeDurably } from './process-lock.ts'

/** An existing user of this system as whom the server runs, because PostgreSQL refuses to run as root. */
export interface DatabaseUser {
  name: string
  uid: number
  gid: number
}

/** Where everything of one embedded server lies; follows from the data directory alone. All paths are absolute. */
export interface EmbeddedHome {
  dataDirectory: string
  /** Belongs to this process's user; the server's user may pass through it but not write to it. */
  directory: string
  cluster: string
  logFile: string
  /** Undefined where the server runs as this process's own user. */
  user: DatabaseUser | undefined
}

/** What `database.json` in the data directory (0600) says. */
export interface EmbeddedPlace {
  directory: string
  /** Below the home, or a directory of its own under the temporary one where that path would be too long. */
  socketDirectory: string
  /** Only part of the socket's name: nothing listens on TCP. */
  port: number
  /** False until the cluster has been made: without it the next start makes it anew. */
  complete: boolean
  passwords: Record<string, string>
  /** Who uses the server; the last living one to leave stops it. */
  users: (ProcessIdentity & { handle: string })[]
}

/** The longest path of a socket, in bytes, that Linux takes; macOS takes 103. */
const SOCKET_PATH_BYTES_MAX = process.platform === 'linux' ? 107 : 103

/** The port that names the socket. */
export const SOCKET_PORT = 5432

/** Computes where the server of this data directory lives. Makes nothing. */
export function homeOf(dataDirectory: string): EmbeddedHome {
  const real = existsSync(dataDirectory) ? realpathSync(dataDirectory) : resolve(dataDirectory)
  const user = process.getuid?.() === 0 ? databaseUser() : undefined
  // As root the home is outside: the server's user can seldom pass through the way to the data directory.
  const name = createHash('sha256').update(real).digest('hex').slice(0, 16)
  const directory = user === undefined ? join(real, 'postgres') : join('/var/lib/strongroom', name)
  return {
    dataDirectory: real,
    directory,
    cluster: join(directory, 'cluster'),
    logFile: join(directory, 'log'),
    user,
  }
}

/** Makes the home's directory, closed to everybody whom the server does not need. */
export async function makeHome(home: EmbeddedHome): Promise<void> {
  await mkdir(home.directory, { recursive: true, mode: 0o700 })
  if (home.user !== undefined) {
    await chmod(dirname(home.directory), 0o755)
    await chown(home.directory, 0, home.user.gid >>> 0)
  }
  await chmod(home.directory, home.user === undefined ? 0o700 : 0o710)
}

/** Makes a directory (0700) that belongs to the server's user. */
export async function makeServersDirectory(home: EmbeddedHome, path: string): Promise<void> {
  await mkdir(path, { mode: 0o700 })
  if (home.user !== undefined) await chown(path, home.user.uid >>> 0, home.user.gid >>> 0)
}

/** Makes an empty directory for the socket and says where it is. */
export async function makeSocketDirectory(home: EmbeddedHome): Promise<string> {
  const near = join(home.directory, 'socket')
  await rm(near, { recursive: true, force: true })
  if (fits(near)) {
    await makeServersDirectory(home, near)
    return near
  }
  const far = await mkdtemp(
    join(fits(join(tmpdir(), 'strongroom-123456')) ? tmpdir() : '/tmp', 'strongroom-'),
  )
  if (home.user !== undefined) await chown(far, home.user.uid >>> 0, home.user.gid >>> 0)
  return far
}

/** Reads `database.json`; undefined when there is none. */
export async function readPlace(home: EmbeddedHome): Promise<EmbeddedPlace | undefined> {
  const path = join(home.dataDirectory, 'database.json')
  try {
    const place = JSON.parse(await readFile(path, 'utf8')) as EmbeddedPlace
    if (isPlace(place)) return place
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    // A parser's message quotes the text, and this text holds passwords.
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new EmbeddedServerError(`This file cannot be understood: ${path}`)
}

// What is not would be taken for a place whose database was never whole, and that database set aside.
function isPlace(place: EmbeddedPlace | null): boolean {
  if (typeof place !== 'object' || place === null) return false
  const { directory, socketDirectory, port, complete, passwords, users } = place
  return (
    [directory, socketDirectory].every((one) => typeof one === 'string') &&
    typeof port === 'number' &&
    typeof complete === 'boolean' &&
    typeof passwords === 'object' &&
    passwords !== null &&
    Array.isArray(users)
  )
}

/** Replaces `database.json` as a whole, durably. */
export async function writePlace(home: EmbeddedHome, place: EmbeddedPlace): Promise<void> {
  const path = join(home.dataDirectory, 'database.json')
  await writeDurably(`${path}.new`, `${JSON.stringify(place, null, 2)}\n`)
  await rename(`${path}.new`, path)
}

/** Those of the place's users that still run. */
export function livingUsers(place: EmbeddedPlace | undefined): EmbeddedPlace['users'] {
  return (place?.users ?? []).filter(alive)
}

/**
 * Runs `work` while no other process starts, stops or removes the server of this data directory. Where the data
 * directory is gone there is nobody to exclude, and the work is done without a lock.
 */
export async function exclusively<T>(home: EmbeddedHome, work: () => Promise<T>): Promise<T> {
  if (!existsSync(home.dataDirectory)) return await work()
  const release = await holdLock(join(home.dataDirectory, 'database.lock'))
  try {
    return await work()
  } finally {
    await release()
  }
}

function fits(directory: string): boolean {
  return Buffer.byteLength(join(directory, `.s.PGSQL.${SOCKET_PORT}`)) <= SOCKET_PATH_BYTES_MAX
}

function databaseUser(): DatabaseUser {
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const fields = lines.find((line) => line.startsWith(`${name}:`))?.split(':')
    const [uid, gid] = [Number(fields?.[2]), Number(fields?.[3])]
    if (Number.isInteger(uid) && Number.isInteger(gid) && uid !== 0) return { name, uid, gid }
  }
  throw new EmbeddedServerError(
    'As root the embedded database needs an existing user postgres or nobody, and /etc/passwd has neither',
  )
}
