import type { Call, PresentedToken } from './calls.ts'
import type { Copies } from './copies.ts'
import type { ProblemCode } from './errors.ts'
import { VaultError, deadlinePassed, forbidden, notFound, unauthenticated } from './errors.ts'
import type { FailedLease, FailedLeasesOptions } from './failed-leases.ts'
import { FailedLeases } from './failed-leases.ts'
import { GroupCommit } from './group-commit.ts'
import type { LeaseAsk, Ledger, LeaseVerdict, LinkNote } from './ledger.ts'
import type { Lease } from './records.ts'
import { isCredentialName, isSlug } from './names.ts'
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
    const { result } = await this.#grant(call, token, request)
    if (result instanceof VaultError) throw result
    return this.#count(token, result)
  }

  /**
   * Grants many, each judged alone. None leaves before the slowest is there: so those that were judged too long ago by
   * then are judged once more.
   *
   * @throws VaultError where the whole request is not admitted: `unauthenticated`, `not_found` for its workspace.
   */
  async leaseMany(
    call: Call,
    token: PresentedToken,
    requests: readonly LeaseRequest[],
  ): Promise<(Granted | VaultError)[]> {
    const outcomes = await Promise.all(requests.map((request) => this.#grant(call, token, request)))
    const strangers = outcomes.filter(({ inWorkspace }) => inWorkspace === false)
    if (strangers.some(({ result }) => (result as VaultError).code === 'unauthenticated'))
      throw unauthenticated()
    if (strangers.length > 0) throw notFound()
    // Where the statement answered for none there is no telling; where a store failed afterwards there is.
    if (outcomes.every(({ inWorkspace }) => inWorkspace === undefined)) throw outcomes[0]!.result
    const results = await this.#refuseLate(call, outcomes)
    return results.map((result) => (result instanceof VaultError ? result : this.#count(token, result)))
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
    // What cannot be a name is asked for under one that nobody can have: it is missing by the same work.
    const workspace = isSlug(request.workspace) ? request.workspace : ''
    const credential = isCredentialName(request.credential) ? request.credential : ''
    const ask: LeaseAsk = { ...request, workspace, credential, leaseId: this.#options.newId(), token, call }
    let inWorkspace: boolean | undefined
    try {
      const { verdict, beganAt } = await this.#commits.submit(ask)
      inWorkspace = verdict.granted || verdict.inWorkspace
      if (!verdict.granted) throw refusal(verdict.code)
      const { granted, judgedAt } = await this.#release(ask, verdict, beganAt)
      return { result: granted, inWorkspace, held: { ask, lease: granted.lease, judgedAt } }
    } catch (error) {
      this.refusals.add(codeOf(error))
      if (error instanceof VaultError) return { result: error, inWorkspace }
      throw error
    }
  }

  async #release(
    ask: LeaseAsk,
    verdict: LeaseVerdict & { granted: true },
    beganAt: number,
  ): Promise<{ granted: Granted; judgedAt: number }> {
    const { lease, copy } = verdict
    let judgedAt = beganAt
    try {
      if (performance.now() >= ask.call.deadlineAt) throw deadlinePassed()
      const local = copy.ref === undefined && copy.link === undefined
      const read = local
        ? undefined
        : await this.#copies.read(lease.workspace, copy, ask.call, lease.identity)
      if (read?.link) {
        const note = { leaseId: lease.id, ...read.link, deadlineAt: ask.call.deadlineAt }
        await this.#linkNotes.submit(note)
        Object.assign(lease, read.link)
      }
      if (read?.outside || this.#isStale(judgedAt)) {
        const again = await this.#judgeAgain([{ ask, lease }], ask.call.deadlineAt)
        if (again.codes[0]) throw refusal(again.codes[0])
        judgedAt = again.judgedAt
      }
      if (performance.now() >= ask.call.deadlineAt) throw deadlinePassed()
      const value = read ? read.value : this.#copies.open(lease.workspace, copy)
      return { granted: { lease, value }, judgedAt }
    } catch (error) {
      this.#failed.mark([{ id: lease.id, code: codeOf(error), call: ask.call }], true)
      throw error
    }
  }

  /** What each ask of one call gets, once all are there. @throws VaultError where none may leave: all leases have failed */
  async #refuseLate(call: Call, outcomes: readonly Outcome[]): Promise<(Granted | VaultError)[]> {
    const results = outcomes.map(({ result }) => result)
    const stale = [...outcomes.keys()].filter((at) => this.#isStale(outcomes[at]!.held?.judgedAt ?? Infinity))
    let failed: FailedLease[] = []
    try {
      if (stale.length > 0) {
        const held = stale.map((at) => outcomes[at]!.held!)
        const { codes } = await this.#judgeAgain(held, call.deadlineAt)
        if (codes.includes('unauthenticated')) throw unauthenticated()
        for (const [index, code] of codes.entries()) {
          if (code === undefined) continue
          results[stale[index]!] = refusal(code)
          failed.push({ id: held[index]!.lease.id, code, call })
        }
      }
      if (performance.now() >= call.deadlineAt) throw deadlinePassed()
      return results
    } catch (error) {
      const code = codeOf(error)
      failed = outcomes.flatMap(({ held }) => (held ? [{ id: held.lease.id, code, call }] : []))
      throw error
    } finally {
      for (const { code } of failed) this.refusals.add(code)
      if (failed.length > 0) this.#failed.mark(failed, true)
    }
  }

  /** Judges granted leases once more, and again where that took too long itself. */
  async #judgeAgain(
    held: readonly { ask: LeaseAsk; lease: Lease }[],
    deadlineAt: number,
  ): Promise<{ codes: (ProblemCode | undefined)[]; judgedAt: number }> {
    for (;;) {
      const judgedAt = performance.now()
      const codes = await this.#ledger.judgeAgain(held, deadlineAt)
      if (!this.#isStale(judgedAt)) return { codes, judgedAt }
    }
  }

  #isStale(judgedAt: number): boolean {
    return performance.now() - judgedAt > this.#options.judgementMsMax
  }

  #count(token: PresentedToken, granted: Granted): Granted {
    this.#granted++
    this.#options.onGranted({ credentialId: granted.lease.credentialId, tokenId: token.id })
    return granted
  }
}

/** What became of one ask, and whether its caller may do anything in the workspace: unknown where no statement answered. */
interface Outcome {
  result: Granted | VaultError
  inWorkspace: boolean | undefined
  /** Of a granted one: when its last judgement began, on the clock of `performance.now()`, in milliseconds. */
  held?: { ask: LeaseAsk; lease: Lease; judgedAt: number }
}

function codeOf(error: unknown): ProblemCode {
  return error instanceof VaultError ? error.code : 'internal'
}

/** The error for a code that the ledger's statement judged. */
export function refusal(code: ProblemCode): VaultError {
  switch (code) {
    case 'unauthenticated':
      return unauthenticated()
    case 'not_found':
      return notFound()
    case 'forbidden':
      return forbidden('lease:issue')
    case 'credential_expired':
      return new VaultError(code, 'The credential has expired: somebody must renew it')
    case 'version_gone':
      return new VaultError(code, 'This version is no longer kept')
    case 'leasing_halted':
      return new VaultError(code, 'An operator has halted leasing', { retryAfterSeconds: 10 })
    case 'lease_ended':
      return new VaultError(code, 'The lease has ended: lease again')
    default:
      return new VaultError(code, 'The lease was refused')
  }
}
