import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { chown, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Binaries } from './embedded-binaries.ts'
import { findPostmaster, namedInPidFile, startOf } from './embedded-process.ts'
import { makeServersDirectory, type EmbeddedHome } from './embedded-place.ts'
import { EmbeddedServerError } from './process-lock.ts'

/** Nothing of this process's environment: neither keys nor tokens nor `PG…` settings. */
const BARE_ENVIRONMENT = { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/bin:/bin' }

const FAST_SHUTDOWN_MS = 10_000
const IMMEDIATE_SHUTDOWN_MS = 5_000

/** Given on the command line, so that they hold whatever the cluster's own files say. */
const SETTINGS = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  password_encryption: 'scram-sha-256',
  fsync: 'on',
  synchronous_commit: 'on',
  full_page_writes: 'on',
  shared_buffers: '128MB',
  max_connections: '100',
  max_wal_size: '1GB',
  jit: 'off',
  // The log never shows a value. Even an error's first line may quote one (invalid input syntax for type …),
  // and in the server's log `log` ranks above `error`: starts, stops and failed logins remain.
  log_min_messages: 'log',
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
  log_statement: 'none',
  log_min_duration_statement: '-1',
  log_min_duration_sample: '-1',
  log_parameter_max_length: '0',
  log_parameter_max_length_on_error: '0',
  log_lock_waits: 'off',
  log_checkpoints: 'off',
  log_timezone: 'UTC',
  logging_collector: 'off',
}

/** Makes the cluster under another name and renames it when it is whole, so that a half-made one is never used. */
export async function makeCluster(home: EmbeddedHome, binaries: Binaries, password: string): Promise<void> {
  for (const name of await readdir(home.directory)) {
    // Its initdb may still be running if only Node was killed: then it fails, and the next start tries again.
    if (name.startsWith('making-'))
      await rm(join(home.directory, name), { recursive: true, force: true, maxRetries: 3 })
  }
  const making = join(home.directory, `making-${randomBytes(4).toString('hex')}`)
  const passwordFile = `${making}.password`
  await makeServersDirectory(home, making)
  try {
    const file = await open(passwordFile, 'wx', 0o600)
    await file.writeFile(`${password}\n`)
    await file.close()
    if (home.user !== undefined) await chown(passwordFile, home.user.uid >>> 0, home.user.gid >>> 0)
    await runInitdb(home, binaries, making, passwordFile)
  } finally {
    await rm(passwordFile, { force: true })
  }
  await rename(making, home.cluster)
}

async function runInitdb(
  home: EmbeddedHome,
  binaries: Binaries,
  cluster: string,
  passwordFile: string,
): Promise<void> {
  const flags = [
    '--auth=scram-sha-256',
    '--auth-local=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--no-instructions',
  ]
  const child = spawn(
    binaries.initdb,
    [...flags, '-U', 'postgres', `--pwfile=${passwordFile}`, '-D', cluster],
    {
      ...asServersUser(home),
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0)
    throw new EmbeddedServerError(`The embedded database could not be made: ${lastLines(output)}`)
}

/** Starts a postmaster on the cluster; it outlives this process unless it is stopped. */
export async function launch(
  home: EmbeddedHome,
  binaries: Binaries,
  socketDirectory: string,
): Promise<ChildProcess> {
  // PostgreSQL judges a dead process's file itself, but takes any living process with that number for a postmaster.
  if (namedInPidFile(home.cluster) !== undefined)
    await rm(join(home.cluster, 'postmaster.pid'), { force: true })
  if (existsSync(home.logFile)) await rename(home.logFile, `${home.logFile}.previous`)
  const log = openSync(home.logFile, 'a', 0o600)
  try {
    // A list in PostgreSQL's eyes: in quotes, a comma in the path is no second directory.
    const directories = `"${socketDirectory.replaceAll('"', '""')}"`
    const all = Object.entries({ ...SETTINGS, unix_socket_directories: directories })
    const child = spawn(
      binaries.postgres,
      ['-D', home.cluster, ...all.flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      // A process group of its own, so that ^C in a terminal reaches us and not the database below us.
      { ...asServersUser(home), stdio: ['ignore', log, log], detached: true },
    )
    await once(child, 'spawn')
    child.unref()
    return child
  } finally {
    closeSync(log)
  }
}

/** The server runs, and nobody who knows this data directory can use it. */
export class PasswordRefused extends EmbeddedServerError {}

/**
 * Waits until the server answers a query.
 *
 * @returns false when `lives` said no before it did.
 * @throws PasswordRefused; EmbeddedServerError when the deadline has passed.
 */
export async function answers(url: string, lives: () => boolean, deadlineMs: number): Promise<boolean> {
  for (const deadline = Date.now() + deadlineMs; ; await sleep(20)) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
    // A connection that is cut while it is being closed is no news to anybody.
    client.on('error', () => undefined)
    try {
      await client.connect()
      await client.query('select 1')
      return true
    } catch (cause) {
      const code = (cause as { code?: string }).code
      if (code === '28P01') throw new PasswordRefused('The embedded database refuses its password', { cause })
      if (!lives()) return false
      if (Date.now() > deadline)
        throw new EmbeddedServerError('The embedded database does not answer', { cause })
    } finally {
      await client.end().catch(() => undefined)
    }
  }
}

/**
 * Stops the postmaster of this cluster, if one runs, and waits until it is gone.
 *
 * @param forGood The data is to be deleted: nothing is written out first.
 */
export async function shutDown(home: EmbeddedHome, forGood = false): Promise<void> {
  const pid = findPostmaster(home.cluster, serversUid(home))
  const startedAt = pid === undefined ? undefined : startOf(pid)
  if (pid === undefined || startedAt === undefined) return
  // SIGINT: no new connections, transactions rolled back, a checkpoint. SIGQUIT: no checkpoint; the next start replays.
  for (const [signal, patienceMs] of [
    [forGood ? 'SIGQUIT' : 'SIGINT', FAST_SHUTDOWN_MS],
    ['SIGQUIT', IMMEDIATE_SHUTDOWN_MS],
  ] as const) {
    process.kill(pid, signal)
    for (const deadline = Date.now() + patienceMs; Date.now() < deadline; await sleep(10)) {
      if (startOf(pid) !== startedAt) return
    }
  }
  throw new EmbeddedServerError(`The embedded database does not stop: process ${pid}`)
}

/** The end of the server's own log, which holds no values. */
export function logTail(home: EmbeddedHome): string {
  return existsSync(home.logFile) ? lastLines(readFileSync(home.logFile, 'utf8')) : ''
}

/** The number of the user as whom the server runs. */
export function serversUid(home: EmbeddedHome): number {
  return home.user?.uid ?? process.getuid!()
}

function asServersUser(home: EmbeddedHome) {
  const user = home.user === undefined ? {} : { uid: home.user.uid, gid: home.user.gid }
  return { ...user, env: BARE_ENVIRONMENT, cwd: '/' }
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-6).join('\n')
}
