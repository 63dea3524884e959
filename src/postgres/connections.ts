import pg from 'pg'
import { VaultError, deadlinePassed } from '../core/errors.ts'
import type { Secret } from '../core/secret.ts'

/** A connection that somebody holds; `release(true)` closes it. */
export type Client = pg.PoolClient

/** Which database, as whom, and with how many connections. */
export interface ConnectionOptions {
  databaseUrl: Secret
  /** Connections at most. */
  max: number
  /** More PostgreSQL settings for these connections, such as `enable_seqscan=off`. */
  settings?: readonly string[]
  /** A statement that the server still runs after this ends by itself. */
  statementTimeoutMs: number
  /** Told of connections that break while nobody uses them. */
  onError: (error: unknown) => void
}

/** Something that is waited for until its deadline, or until it is cut off. */
interface Wait {
  cut: () => void
  timers: NodeJS.Timeout[]
}

/** How long the database may take to hear that a connection is closed. */
const GOODBYE_MS = 2_000

const IDLE_IN_TRANSACTION_MS = 15_000

// The rows of a batch mostly share their two times, and reading one costs more than comparing two texts.
const timesRead: { text: string; ms: number }[] = []
const readTime = pg.types.getTypeParser(pg.types.builtins.TIMESTAMPTZ) as (text: string) => Date

function timeOf(text: string): Date {
  const known = timesRead.find((time) => time.text === text)
  if (known) return new Date(known.ms)
  const date = readTime(text)
  if (timesRead.unshift({ text, ms: date.getTime() }) > 2) timesRead.pop()
  return date
}

// bigint as a number: sequences and counters stay far below 2^53.
const types = {
  getTypeParser(oid: number, format?: string) {
    if (oid === pg.types.builtins.INT8) return Number
    if (oid === pg.types.builtins.TIMESTAMPTZ) return timeOf
    return pg.types.getTypeParser(oid, format as 'text')
  },
} as pg.CustomTypesConfig

/** What a connection was good for is over; nothing was written. */
export class ConnectionSpoiled extends Error {
  override name = 'ConnectionSpoiled'
}

// A year of partitions looks dear to a planner that knows nothing of them yet, and compiling a statement for them takes
// longer than any deadline.
const SETTINGS = ['jit=off']

/** A pool whose every use ends by a deadline: what is not answered by then is cut off and its connection closed. */
export class Connections {
  readonly #pool: pg.Pool
  /** Those that are just being opened too. */
  readonly #clients = new Set<pg.Client>()
  readonly #waits = new Set<Wait>()
  /** How long anything is waited for, in milliseconds. */
  #patienceMs = Infinity

  constructor(options: ConnectionOptions) {
    const clients = this.#clients
    this.#pool = new pg.Pool({
      Client: class extends pg.Client {
        constructor(config?: pg.ClientConfig) {
          super(config)
          clients.add(this)
          this.once('end', () => clients.delete(this))
        }
      },
      connectionString: withSettings(options.databaseUrl.reveal(), [
        ...SETTINGS,
        ...(options.settings ?? []),
      ]),
      max: options.max,
      idleTimeoutMillis: 0,
      connectionTimeoutMillis: 10_000,
      statement_timeout: options.statementTimeoutMs,
      // A process that is frozen within a transaction must not hold its locks for ever.
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
      application_name: 'strongroom',
      keepAlive: true,
      types,
    })
    this.#pool.on('error', options.onError)
    // While somebody uses it, his query fails; without a listener the same error would end the process.
    this.#pool.on('connect', (client) => client.on('error', () => {}))
  }

  /**
   * Runs `use` with a connection of its own.
   *
   * @param use Leaves the connection without an open transaction; throws ConnectionSpoiled to have it closed.
   * @throws VaultError `unavailable` where the database is not there or the deadline, on the clock of
   *   `performance.now()`, has passed.
   */
  async run<T>(deadlineAt: number, use: (client: Client) => Promise<T>): Promise<T> {
    const client = await this.#connect(deadlineAt)
    let whole = false
    try {
      const result = await this.#before(deadlineAt, use(client), () => cutOff(client))
      whole = true
      return result
    } catch (error) {
      const late = error instanceof VaultError && error.code === 'unavailable'
      whole =
        answeredByServer(error) || !(late || isConnectionFault(error) || error instanceof ConnectionSpoiled)
      throw databaseFault(error)
    } finally {
      client.release(!whole)
    }
  }

  /**
   * From now on no use takes longer than this, whatever its deadline: for a process that is to end though the database
   * hangs.
   *
   * @param underWayMs For what is under way.
   * @param nextMs For what begins from now on.
   */
  hurry(underWayMs: number, nextMs: number): void {
    this.#patienceMs = nextMs
    for (const { cut, timers } of this.#waits) timers.push(setTimeout(cut, underWayMs))
  }

  async close(): Promise<void> {
    // What is being opened, for somebody who has gone by now, and what was closed politely may wait for the database as
    // long as it hangs, and keep the process.
    setTimeout(() => this.#clients.forEach(cutOff), GOODBYE_MS).unref()
    await this.#pool.end()
  }

  /** What `work` answers, or `unavailable` at the deadline, after `onLate`. */
  async #before<T>(deadlineAt: number, work: Promise<T>, onLate: () => void): Promise<T> {
    const late = Promise.withResolvers<never>()
    const cut = (): void => {
      onLate()
      late.reject(deadlinePassed())
    }
    const leftMs = Math.min(this.#patienceMs, Math.max(0, deadlineAt - performance.now()))
    const wait = { cut, timers: [setTimeout(cut, leftMs)] }
    this.#waits.add(wait)
    try {
      return await Promise.race([work, late.promise])
    } finally {
      wait.timers.forEach(clearTimeout)
      this.#waits.delete(wait)
    }
  }

  async #connect(deadlineAt: number): Promise<Client> {
    const connecting = this.#pool.connect()
    try {
      return await this.#before(deadlineAt, connecting, () => {
        // It may come after all: then nobody wants it any more.
        connecting.then(
          (client) => client.release(),
          () => {},
        )
      })
    } catch (error) {
      throw error instanceof VaultError ? error : unavailable(error)
    }
  }
}

// The driver takes the URL's `options` in place of all others, and some providers name a database by them: ours come after.
function withSettings(databaseUrl: string, settings: readonly string[]): string {
  const [place, query] = databaseUrl.replace(/#.*/s, '').split(/\?(.*)/s)
  const parameters = new URLSearchParams(query)
  const options = [...parameters.getAll('options'), ...settings.map((setting) => `-c ${setting}`)]
  parameters.set('options', options.join(' '))
  return `${place}?${parameters}`
}

/** Closes a connection, open or not; a database that hangs holds nobody up. */
export async function closeClient(client: pg.Client): Promise<void> {
  const timer = setTimeout(cutOff, GOODBYE_MS, client)
  await client.end()
  clearTimeout(timer)
}

// Closing politely would wait for the answer that nobody may open any more.
function cutOff(client: Client | pg.Client): void {
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } }
  connection.stream.destroy()
}

/** Whether the server itself refused a statement: then nothing of it took effect. */
export function answeredByServer(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.severity !== 'FATAL' && error.severity !== 'PANIC'
}

/** The SQLSTATE of an error that the server answered. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

/** What the caller is told: a database that is not there is `unavailable`, all else stays what it is. */
function databaseFault(error: unknown): unknown {
  if (error instanceof VaultError) return error
  if (error instanceof ConnectionSpoiled) return unavailable(error)
  const state = sqlState(error)
  if (answeredByServer(error) && state !== undefined && !UNAVAILABLE.test(state)) return error
  return state !== undefined || isConnectionFault(error) ? unavailable(error) : error
}

// Connection exceptions, insufficient resources, operator intervention (statement timeout among them), read-only.
const UNAVAILABLE = /^(08|53|57|25006|40)/

function isConnectionFault(error: unknown): boolean {
  if (!(error instanceof Error) || error instanceof VaultError) return false
  if (error instanceof pg.DatabaseError) return !answeredByServer(error)
  const { code } = error as NodeJS.ErrnoException
  return isCutOff(error) || (code !== undefined && /^E[A-Z]+$/.test(code))
}

/**
 * Whether the driver says that there is no connection, or the server with its last words, and not what is wrong with whom it
 * speaks with. System errors say it by their code.
 */
export function isCutOff(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return !answeredByServer(error) && GONE.test(error.code ?? '')
  return (
    error instanceof Error && !('code' in error) && DRIVER_SAYS.some((text) => error.message.startsWith(text))
  )
}

// Connection exceptions, insufficient resources, operator intervention.
const GONE = /^(08|53|57)/
const DRIVER_SAYS = [
  'Connection terminated',
  'timeout e',
  'The server does not support SSL',
  'There was an error establishing an SSL',
  'Client has encountered',
  'Client was closed',
  'Query read timeout',
  'Cannot use a pool',
]

function unavailable(cause: unknown): VaultError {
  return new VaultError('unavailable', 'The database cannot be reached', { retryAfterSeconds: 1, cause })
}
