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
  watched: NodeJS.Timeout | undefined
}

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
  /** What any use may take, in milliseconds, and who hears of it where one takes longer. */
  #patience: { ms: number; onHanging: () => void } | undefined
  #hasGivenUp = false

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
   * From now on a use that takes longer than `patienceMs` is told to `onHanging`: for a process that is to end, and has
   * something under way that would wait for a hanging database much longer.
   */
  hurry(patienceMs: number, onHanging: () => void): void {
    this.#patience = { ms: patienceMs, onHanging }
    for (const wait of this.#waits) this.#watch(wait)
  }

  /** Waits for nothing any more, as if every deadline had passed. */
  giveUp(): void {
    this.#hasGivenUp = true
    for (const { cut } of this.#waits) cut()
    this.#clients.forEach(cutOff)
  }

  async close(): Promise<void> {
    await this.#pool.end()
    // Connections that were closed politely keep the process until the database has heard of it.
    if (this.#patience) setTimeout(() => this.giveUp(), this.#patience.ms).unref()
  }

  /** What `work` answers, or `unavailable` at the deadline, after `onLate`. */
  async #before<T>(deadlineAt: number, work: Promise<T>, onLate: () => void): Promise<T> {
    const late = Promise.withResolvers<never>()
    const cut = (): void => {
      onLate()
      late.reject(deadlinePassed())
    }
    const timer = setTimeout(cut, Math.max(0, deadlineAt - performance.now()))
    const wait: Wait = { cut, watched: undefined }
    this.#waits.add(wait)
    this.#watch(wait)
    try {
      return await Promise.race([work, late.promise])
    } finally {
      clearTimeout(timer)
      clearTimeout(wait.watched)
      this.#waits.delete(wait)
    }
  }

  #watch(wait: Wait): void {
    if (this.#patience) wait.watched = setTimeout(this.#patience.onHanging, this.#patience.ms)
  }

  async #connect(deadlineAt: number): Promise<Client> {
    if (this.#hasGivenUp) throw deadlinePassed()
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
  return code !== undefined
    ? /^E[A-Z]+$/.test(code)
    : /^(Connection terminated|timeout e|Client (has encountered|was closed)|Query read timeout|Cannot use a pool)/.test(
        error.message,
      )
}

function unavailable(cause: unknown): VaultError {
  return new VaultError('unavailable', 'The database cannot be reached', { retryAfterSeconds: 1, cause })
}
