import type { AuditEvent, StreamHead } from '../core/audit.ts'
import type { Call, Caller, PresentedToken } from '../core/calls.ts'
import { JUDGEMENT_MS_MAX } from '../core/calls.ts'
import type { ProblemCode } from '../core/errors.ts'
import type { LeaseAsk, Ledger, LeaseVerdict, LinkNote, ResealCopies, RotationStep } from '../core/ledger.ts'
import type { LedgerTransaction } from '../core/ledger-transaction.ts'
import type { Copy, Lease, OtherCopy } from '../core/records.ts'
import type { Relocation } from '../core/relocation.ts'
import { CallerOutdated } from '../core/ledger.ts'
import { selectStreamPage, selectStreams } from './audit-events-sql.ts'
import { demandCaller, demandOnlyChange, selectCaller } from './callers-sql.ts'
import type { Connections } from './connections.ts'
import { selectOther } from './copies-sql.ts'
import type { VerdictRow } from './lease-batch.ts'
import { PLACE, requestColumns, verdictsOf } from './lease-batch.ts'
import { GRANT } from './lease-sql.ts'
import { failLeases, judge, noteLinkReads, selectLeaseStates } from './leases-sql.ts'
import { transactionOn } from './transaction.ts'
import type { Writers } from './writers.ts'
import { selectRunningRelocation } from './relocations-sql.ts'
import { moveCopies, RotationEnded, selectRunningRotation } from './rotations-sql.ts'
import { inTransaction, StreamTaken } from './writers.ts'

/** The ledger in PostgreSQL. */
export class PostgresLedger implements Ledger {
  readonly #readers: Connections
  readonly #upkeep: Connections
  readonly #writers: Writers
  readonly #leaseWriters: Writers
  readonly #newId: () => string

  constructor(options: {
    readers: Connections
    /** For what has no deadline of a request. */
    upkeep: Connections
    writers: Writers
    leaseWriters: Writers
    /** Makes a UUID v7. */
    newId: () => string
  }) {
    this.#readers = options.readers
    this.#upkeep = options.upkeep
    this.#writers = options.writers
    this.#leaseWriters = options.leaseWriters
    this.#newId = options.newId
  }

  async authenticate(token: PresentedToken, deadlineAt: number): Promise<Caller | undefined> {
    return this.#readers.run(deadlineAt, (client) => selectCaller(client, token))
  }

  async transaction<T>(
    call: Call,
    caller: Caller | undefined,
    act: (tx: LedgerTransaction) => Promise<T>,
  ): Promise<T> {
    return this.#writers.transaction(call.deadlineAt, async (client, entries) => {
      const beganAt = performance.now()
      if (caller && !(await demandCaller(client, caller))) throw new CallerOutdated()
      let raised = 0
      const result = await act(transactionOn(client, call, entries, this.#newId, () => raised++))
      // A revocation counts within a second: whoever took long, or waited for a lock, is judged again.
      const late = performance.now() - beganAt > JUDGEMENT_MS_MAX
      if (!caller || !late) return result
      const still =
        raised > 0 ? await demandOnlyChange(client, caller, raised) : await demandCaller(client, caller)
      if (!still) throw new CallerOutdated()
      return result
    })
  }

  async grantLeases(asks: readonly LeaseAsk[], deadlineAt: number): Promise<LeaseVerdict[]> {
    const columns = requestColumns(asks)
    const rows = await this.#leaseWriters.statement(deadlineAt, async (client, stream) => {
      const values = [stream.stream, stream.sequence, stream.hash, ...columns]
      // Arrays, because an object for each row would be made only to be read once.
      const { rows } = await client.query<VerdictRow>({
        name: 'grant',
        text: GRANT,
        values,
        rowMode: 'array',
      })
      if (!rows.some((row) => row[PLACE.identity] !== null)) return { result: rows }
      const [sequence, hash] = rows.find((row) => row[PLACE.ordinal] === 0)!.slice(PLACE.head) as [
        number | null,
        Buffer,
      ]
      if (sequence === null) throw new StreamTaken()
      return { result: rows, head: { sequence, hash } }
    })
    return verdictsOf(asks, rows)
  }

  async judgeAgain(
    granted: readonly { ask: LeaseAsk; lease: Lease }[],
    deadlineAt: number,
  ): Promise<(ProblemCode | undefined)[]> {
    return this.#readers.run(deadlineAt, async (client) => {
      const asks = granted.map(({ ask, lease }) => ({ ...ask, version: lease.version }))
      const judgements = await judge(client, asks)
      const states = await selectLeaseStates(
        client,
        granted.map(({ lease }) => lease.id),
      )
      return granted.map(({ lease }, index) => {
        return judgements[index]!.code ?? (states.get(lease.id) === 'active' ? undefined : 'lease_ended')
      })
    })
  }

  async otherCopy(copy: Copy, deadlineAt: number): Promise<OtherCopy | undefined> {
    return this.#readers.run(deadlineAt, (client) => selectOther(client, copy))
  }

  async noteLinkReads(reads: readonly LinkNote[], deadlineAt: number): Promise<void> {
    await this.#readers.run(deadlineAt, (client) => noteLinkReads(client, reads))
  }

  async failLeases(leases: readonly { id: string; code: ProblemCode; call: Call }[]): Promise<string[]> {
    const deadlineAt = performance.now() + FAIL_DEADLINE_MS
    return this.#writers.transaction(deadlineAt, async (client, entries) => {
      const ids = leases.map(({ id }) => id)
      const failed = await failLeases(client, ids)
      for (const { id, ...known } of failed) {
        const { code, call } = leases.find((lease) => lease.id === id)!
        entries.push({ entry: { action: 'lease:issue', outcome: 'failed', code, lease: id, ...known }, call })
      }
      return failed.map(({ id }) => id)
    })
  }

  runningRotation(): Promise<{ id: string; toKey: string } | undefined> {
    return this.#upkeep.run(performance.now() + UPKEEP_DEADLINE_MS, selectRunningRotation)
  }

  runningRelocation(): Promise<Relocation | undefined> {
    return this.#upkeep.run(performance.now() + UPKEEP_DEADLINE_MS, selectRunningRelocation)
  }

  async moveCopies(
    rotation: { id: string; toKey: string },
    after: { keyId: string; id: string } | undefined,
    limit: number,
    reseal: ResealCopies,
  ): Promise<RotationStep | undefined> {
    try {
      return await this.#upkeep.run(performance.now() + UPKEEP_DEADLINE_MS, (client) =>
        inTransaction(
          client,
          () => {},
          () => moveCopies(client, rotation, after, limit, reseal),
        ),
      )
    } catch (error) {
      if (error instanceof RotationEnded) return undefined
      throw error
    }
  }

  heads(): StreamHead[] {
    return [...this.#writers.heads(), ...this.#leaseWriters.heads()]
  }

  auditStreams(): Promise<StreamHead[]> {
    return this.#upkeep.run(performance.now() + PAGE_DEADLINE_MS, selectStreams)
  }

  auditPage(stream: string, from: number | undefined, limit: number): Promise<AuditEvent[]> {
    return this.#upkeep.run(performance.now() + PAGE_DEADLINE_MS, (client) =>
      selectStreamPage(client, stream, from, limit),
    )
  }
}

const UPKEEP_DEADLINE_MS = 30_000
const FAIL_DEADLINE_MS = 5_000
const PAGE_DEADLINE_MS = 60_000
