import type { AuditEntry, StreamHead } from '../core/audit.ts'
import { ROOT_STREAM } from '../core/audit-verify.ts'
import type { Call } from '../core/calls.ts'
import { VaultError } from '../core/errors.ts'
import { OutcomeUnknown } from '../core/ledger.ts'
import { APPEND } from './audit-sql.ts'
import type { Client, Connections } from './connections.ts'
import { answeredByServer, ConnectionSpoiled } from './connections.ts'

/** An event and the call that it is of. */
export interface Entry {
  entry: AuditEntry
  call: Call
}

/** A writer's stream, and its head as this process saw it last. */
interface Stream {
  stream: string
  sequence: number
  /** 32 bytes. */
  hash: Buffer
}

/**
 * Connections that write. Each has a stream of its own and at most one transaction in flight; it replaces the stream's
 * head only if it is the one last seen. A connection whose commit was not answered is closed, and its stream with it.
 */
export class Writers {
  readonly #connections: Connections
  readonly #newId: () => string
  readonly #streams = new WeakMap<Client, Stream>()
  readonly #heads = new Map<string, StreamHead>()
  readonly #ended = new Set<string>()

  constructor(connections: Connections, newId: () => string) {
    this.#connections = connections
    this.#newId = newId
  }

  /** Where the streams of this process stand, and where those that ended since the last time stood last. */
  heads(): StreamHead[] {
    const heads = [...this.#heads.values()]
    for (const stream of this.#ended) this.#heads.delete(stream)
    this.#ended.clear()
    return heads
  }

  hurry(underWayMs: number, nextMs: number): void {
    this.#connections.hurry(underWayMs, nextMs)
  }

  close(): Promise<void> {
    return this.#connections.close()
  }

  /**
   * Runs one statement that chains onto the writer's stream and commits by itself.
   *
   * @param statement Answers its result and the stream's new head; no head where nothing was recorded.
   * @throws OutcomeUnknown
   */
  async statement<T>(
    deadlineAt: number,
    statement: (
      client: Client,
      stream: Stream,
    ) => Promise<{ result: T; head?: { sequence: number; hash: Buffer } }>,
  ): Promise<T> {
    let sent = false
    try {
      return await this.#connections.run(deadlineAt, async (client) => {
        const stream = await this.#streamOf(client)
        sent = true
        const { result, head } = await statement(client, stream)
        if (head) this.#advance(stream, head)
        return result
      })
    } catch (error) {
      throw sent ? unknownIfUnanswered(error) : error
    }
  }

  /**
   * Runs `act` in a transaction and commits it with the events that it collected.
   *
   * @throws OutcomeUnknown where the commit was sent and not answered.
   */
  async transaction<T>(
    deadlineAt: number,
    act: (client: Client, entries: Entry[]) => Promise<T>,
  ): Promise<T> {
    let committing = false
    try {
      return await this.#connections.run(deadlineAt, async (client) => {
        const stream = await this.#streamOf(client)
        const entries: Entry[] = []
        const { result, head } = await inTransaction(
          client,
          () => (committing = true),
          async () => ({
            result: await act(client, entries),
            head: entries.length > 0 ? await this.#append(client, stream, entries) : undefined,
          }),
        )
        if (head) this.#advance(stream, head)
        return result
      })
    } catch (error) {
      throw committing ? unknownIfUnanswered(error) : error
    }
  }

  #advance(stream: Stream, head: { sequence: number; hash: Buffer }): void {
    Object.assign(stream, head)
    this.#heads.set(stream.stream, headOf(stream.stream, head))
  }

  async #append(
    client: Client,
    stream: Stream,
    entries: readonly Entry[],
  ): Promise<{ sequence: number; hash: Buffer }> {
    const columns = entries.map(({ entry, call }) => [
      this.#newId(),
      entry.identity,
      entry.action,
      call.operation,
      entry.outcome,
      entry.code,
      entry.workspace,
      entry.credential,
      entry.version,
      entry.lease,
      entry.runId,
      entry.reason,
      call.address,
      call.requestId,
      entry.mark,
      entry.detail,
    ])
    const arrays = columns[0]!.map((_, index) => columns.map((row) => row[index] ?? null))
    const values = [stream.stream, stream.sequence, stream.hash, ...arrays]
    const { rows } = await client.query({ name: 'append', text: APPEND, values })
    if (!rows[0]) throw new StreamTaken()
    return rows[0]
  }

  async #streamOf(client: Client): Promise<Stream> {
    const known = this.#streams.get(client)
    if (known) return known
    const opened = await this.#open(client)
    this.#streams.set(client, opened)
    client.once('end', () => this.#ended.add(opened.stream))
    return opened
  }

  /** Opens a stream: an event in the root stream that names every head that moved since one was named last. */
  async #open(client: Client): Promise<Stream> {
    const stream = { stream: this.#newId(), sequence: 0, hash: Buffer.alloc(32) }
    const rootHead = await inTransaction(
      client,
      () => {},
      async () => {
        const root = await client.query(LOCK_ROOT, [ROOT_STREAM])
        const moved = await client.query(NAME_HEADS, [ROOT_STREAM])
        await client.query('insert into audit_streams (stream) values ($1)', [stream.stream])
        const heads = moved.rows.map((row) => [row.stream, row.sequence, row.hash])
        const detail = JSON.stringify({ stream: stream.stream, heads })
        const entry: AuditEntry = { action: 'audit:open-stream', outcome: 'allowed', detail }
        const call = { requestId: stream.stream, address: 'local', operation: 'openStream', deadlineAt: 0 }
        return this.#append(client, root.rows[0], [{ entry, call }])
      },
    )
    this.#heads.set(ROOT_STREAM, headOf(ROOT_STREAM, rootHead))
    return stream
  }
}

function headOf(stream: string, { sequence, hash }: { sequence: number; hash: Buffer }): StreamHead {
  return { stream, sequence, hash: hash.toString('hex') }
}

// A head that its writer is just replacing is named next time: nobody waits for a writer that is frozen.
const LOCK_ROOT = 'select stream, sequence, hash from audit_streams where stream = $1 for update'
const NAME_HEADS = `
update audit_streams set named_sequence = sequence where stream in (
  select stream from audit_streams where sequence > named_sequence and stream <> $1 for update skip locked)
returning stream, sequence, encode(hash, 'hex') as hash`

/** Runs `work` in a transaction; `onCommit` is told when the commit is about to be sent. */
export async function inTransaction<T>(
  client: Client,
  onCommit: () => void,
  work: () => Promise<T>,
): Promise<T> {
  await client.query('begin')
  let result: T
  try {
    result = await work()
  } catch (error) {
    await client.query('rollback')
    throw error
  }
  onCommit()
  await client.query('commit')
  return result
}

/** The head of a stream is not the one that its only writer saw last: it must open another. */
export class StreamTaken extends ConnectionSpoiled {
  override name = 'StreamTaken'

  constructor() {
    super('The head of the audit stream is not the one last seen')
  }
}

/** A statement was sent: where the server has not refused it, whether it took effect is not known. */
function unknownIfUnanswered(error: unknown): unknown {
  const unanswered = error instanceof VaultError && error.code === 'unavailable'
  return unanswered && !answeredByServer(error.cause) ? new OutcomeUnknown(error) : error
}
