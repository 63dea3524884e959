import type { Call, PresentedToken } from './calls.ts'
import type { Copies } from './copies.ts'
import { VaultError, codeOf, deadlinePassed, notFound, unauthenticated } from './errors.ts'
import type { FailedLease, FailedLeasesOptions } from './failed-leases.ts'
import { FailedLeases } from './failed-leases.ts'
import { GroupCommit } from './group-commit.ts'
import { refusal } from './lease-refusal.ts'
import type { LeaseAsk, Ledger, LeaseVerdict, LinkNote } from './ledger.ts'
import type { Lease } from './records.ts'
import { askedCredentialName, askedSlug } from './names.ts'
import type { Secret } from './secret.ts'
import { Tally } from './tally.ts'

/** What a worker asks for: the current version, unless it names one. */
export interface LeaseRequest {
  workspace: string
  credential: string
  version?: number | undefined
  ttlSeconds?: number | undefined
  runId?: string | undefined
  reason?: string | undefined
}

/** A lease that is committed with its audit event, and the value's JSON text. */
export interface Granted {
  lease: Lease
  value: Secret
}

/** How leases are granted; what waits is shorter in tests. */
export interface LeaseGrantsOptions extends FailedLeasesOptions {
  newId: () => string
  /** Statements in flight at once; at least two. */
  lanes: number
  lineMax: number
  batchMax: number
  /** A value that would leave later than this after its statement began is judged again. */
  judgementMsMax: number
  /** Told what was leased, for `last_leased_at` and `last_used_at`. */
  onGranted: (granted: { credentialId: string; tokenId: string }) => void
}

/** Grants leases by group commit. No value leaves before its lease and its audit event are committed. */
export class LeaseGrants {
  readonly #ledger: Ledger
  readonly #copies: Copies
  readonly #options: LeaseGrantsOptions
  readonly #linkNotes: GroupCommit<LinkNote & { deadlineAt: number }, undefined>
  readonly #commits: GroupCommit<LeaseAsk, { verdict: LeaseVerdict; beganAt: number }>
  /** Leases that were not granted, by the code of the reason. */
  readonly refusals = new Tally()
  #granted = 0
  readonly #failed: FailedLeases

  constructor(ledger: Ledger, copies: Copies, options: LeaseGrantsOptions) {
    this.#ledger = ledger
    this.#copies = copies
    this.#options = options
    this.#failed = new FailedLeases(ledger, options)
    this.#linkNotes = new GroupCommit({
      lanes: 1,
      lineMax: options.lineMax,
      batchMax: options.batchMax,
      slowMs,
      deadlineOf: (note) => note.deadlineAt,
      // What was read is noted before the value leaves; without it the lease fails, and nothing is to be undone.
      onUnknown: () => {},
      onLate: () => {},
      commit: async (notes) => {
        const deadlineAt = notes.reduce((latest, note) => Math.max(latest, note.deadlineAt), 0)
        await this.#ledger.noteLinkReads(notes, deadlineAt)
        return notes.map(() => undefined)
      },
    })
    this.#commits = new GroupCommit({
      lanes: options.lanes,
      lineMax: options.lineMax,
      batchMax: options.batchMax,
      slowMs,
      isSameCall: (one, other) => one.call === other.call,
      deadlineOf: (ask) => ask.call.deadlineAt,
      onUnknown: (asks) => {
        const leases = asks.map(({ leaseId, call }) => ({ id: leaseId, code: 'unavailable' as const, call }))
        this.#failed.mark(leases, false)
      },
      onLate: ({ call }, { verdict }) => {
        if (verdict.granted) this.#failed.mark([{ id: verdict.lease.id, code: 'unavailable', call }], true)
      },
      commit: async (asks) => {
        const beganAt = performance.now()
        const deadlineAt = asks.reduce((latest, ask) => Math.max(latest, ask.call.deadlineAt), 0)
        const verdicts = await this.#ledger.grantLeases(asks, deadlineAt)
        return verdicts.map((verdict) => ({ verdict, beganAt }))
      },
    })
  }

  /** Grants one lease. @throws VaultError */
  async lease(call: Call, token: PresentedToken, request: LeaseRequest): Promise<Granted> {
    const [result] = await this.leaseMany(call, token, [request])
    if (result instanceof VaultError) throw result
    return result!
  }

  /**
   * Grants many, each judged alone. None leaves before the slowest is there.
   *
   * @throws VaultError where the whole request is not admitted: `unauthenticated`, `not_found` for its workspace.
   */
  async leaseMany(
    call: Call,
    token: PresentedToken,
    requests: readonly LeaseRequest[],
  ): Promise<(Granted | VaultError)[]> {
    const outcomes = await Promise.all(requests.map((request) => this.#grant(call, token, request)))
    const results = await this.#leaving(call, outcomes)
    return results.map((result) => (result instanceof VaultError ? result : this.#count(token, result)))
  }

  /** Whoever asked has hung up: these values do not leave. */
  undelivered(call: Call, granted: readonly Granted[]): void {
    const failed = granted.map(({ lease }) => ({ id: lease.id, code: 'unavailable' as const, call }))
    for (const { code } of failed) this.refusals.add(code)
    if (failed.length > 0) this.#failed.mark(failed, true)
  }

  /** Leases granted since the start: who works in the background looks at it to give way. */
  get granted(): number {
    return this.#granted
  }

  /** Requests that wait for the next statement. */
  get waiting(): number {
    return this.#commits.waiting
  }

  /** Ends what waits for a timer; leases of unknown outcome stay as they are. */
  close(): void {
    this.#failed.close()
  }

  async #grant(call: Call, token: PresentedToken, request: LeaseRequest): Promise<Outcome> {
    const workspace = askedSlug(request.workspace)
    const credential = askedCredentialName(request.credential)
    const ask: LeaseAsk = { ...request, workspace, credential, leaseId: this.#options.newId(), token, call }
    let inWorkspace: boolean | undefined
    try {
      const { verdict, beganAt } = await this.#commits.submit(ask)
      inWorkspace = verdict.granted || verdict.inWorkspace
      if (!verdict.granted) throw refusal(verdict.code)
      const { granted, waited } = await this.#release(ask, verdict)
      return { result: granted, inWorkspace, held: { ask, lease: granted.lease, beganAt, waited } }
    } catch (error) {
      this.refusals.add(codeOf(error))
      return { result: error as Error, inWorkspace }
    }
  }

  async #release(
    ask: LeaseAsk,
    verdict: LeaseVerdict & { granted: true },
  ): Promise<{ granted: Granted; waited: boolean }> {
    const { lease, copy } = verdict
    try {
      if (performance.now() >= ask.call.deadlineAt) throw deadlinePassed()
      const local = copy.ref === undefined && copy.link === undefined
      if (local) return { granted: { lease, value: this.#copies.open(lease.workspace, copy) }, waited: false }
      const { value, outside, link } = await this.#copies.read(
        lease.workspace,
        copy,
        ask.call,
        lease.identity,
      )
      if (link) {
        await this.#linkNotes.submit({ leaseId: lease.id, ...link, deadlineAt: ask.call.deadlineAt })
        Object.assign(lease, link)
      }
      return { granted: { lease, value }, waited: outside }
    } catch (error) {
      this.#failed.mark([{ id: lease.id, code: codeOf(error), call: ask.call }], true)
      throw error
    }
  }

  /**
   * What of one call may leave, now that all is there: where a store was waited for, or too long has passed since the
   * judgement, that is repeated, until no judgement is old.
   *
   * @throws VaultError where nothing may leave: all its leases have failed
   */
  async #leaving(call: Call, outcomes: readonly Outcome[]): Promise<(Granted | VaultError)[]> {
    const results = outcomes.map(({ result }) => result)
    let held = outcomes.flatMap(({ held }, at) => (held ? [{ ...held, at }] : []))
    const failed: FailedLease[] = []
    const isDue = ({ waited, beganAt }: Held): boolean => waited || this.#isStale(beganAt)
    try {
      demandAdmitted(outcomes)
      for (let due = held.filter(isDue); due.length > 0; due = held.filter(isDue)) {
        const beganAt = performance.now()
        const codes = await this.#ledger.judgeAgain(due, call.deadlineAt)
        if (codes.includes('unauthenticated')) throw unauthenticated()
        for (const [index, one] of due.entries()) {
          Object.assign(one, { beganAt, waited: false })
          const code = codes[index]
          if (code === undefined) continue
          results[one.at] = refusal(code)
          failed.push({ id: one.lease.id, code, call })
          held = held.filter((other) => other !== one)
        }
      }
      if (held.length > 0 && performance.now() >= call.deadlineAt) throw deadlinePassed()
      return results as (Granted | VaultError)[]
    } catch (error) {
      const code = codeOf(error)
      failed.push(...held.map(({ lease }) => ({ id: lease.id, code, call })))
      throw error
    } finally {
      for (const { code } of failed) this.refusals.add(code)
      if (failed.length > 0) this.#failed.mark(failed, true)
    }
  }

  #isStale(beganAt: number): boolean {
    return performance.now() - beganAt > this.#options.judgementMsMax
  }

  #count(token: PresentedToken, granted: Granted): Granted {
    this.#granted++
    this.#options.onGranted({ credentialId: granted.lease.credentialId, tokenId: token.id })
    return granted
  }
}

// What a statement of so many leases takes in a slow hour, on a database that shares two processors with us.
function slowMs(asks: number): number {
  return 2 + asks * 0.15
}

/** A granted lease whose value is there and has not left. */
interface Held {
  ask: LeaseAsk
  lease: Lease
  /** When its judgement began, on the clock of `performance.now()`, in milliseconds. */
  beganAt: number
  /** Whether a store was waited for. */
  waited: boolean
}

/** What became of one ask, and whether its caller may do anything in the workspace: unknown where no statement answered. */
interface Outcome {
  result: Granted | Error
  inWorkspace: boolean | undefined
  held?: Held
}

/** @throws what keeps a whole call from being answered: that its caller is not admitted, or a fault of our own. */
function demandAdmitted(outcomes: readonly Outcome[]): void {
  const refusals = outcomes.map(({ result }) => result).filter((result) => result instanceof Error)
  const own = refusals.find((error) => !(error instanceof VaultError))
  if (own) throw own
  const strangers = outcomes.filter(({ inWorkspace }) => inWorkspace === false)
  if (strangers.some(({ result }) => codeOf(result) === 'unauthenticated')) throw unauthenticated()
  if (strangers.length > 0) throw notFound()
  // Where the statement answered for none there is no telling; where a store failed afterwards there is.
  if (outcomes.every(({ inWorkspace }) => inWorkspace === undefined)) throw outcomes[0]!.result
}
