import type { Call, PresentedToken } from './calls.ts'
import type { Copies } from './copies.ts'
import type { ProblemCode } from './errors.ts'
import { VaultError, deadlinePassed, forbidden, notFound, unauthenticated } from './errors.ts'
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
export interface LeaseGrantsOptions {
  newId: () => string
  /** Statements in flight at once; at least two. */
  lanes: number
  lineMax: number
  batchMax: number
  /** A value that would leave later than this after its statement began is judged again. */
  judgementMsMax: number
  /** How often, in milliseconds, leases of unknown outcome are looked for; and how often at most. */
  settleEveryMs: number
  settleTriesMax: number
  /** Told what was leased, for `last_leased_at` and `last_used_at`. */
  onGranted: (granted: { credentialId: string; tokenId: string }) => void
  onSettleError: (error: unknown) => void
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
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(ledger: Ledger, copies: Copies, options: LeaseGrantsOptions) {
    this.#ledger = ledger
    this.#copies = copies
    this.#options = options
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
        this.#fail(leases, false)
      },
      onLate: ({ call }, { verdict }) => {
        if (verdict.granted) this.#fail([{ id: verdict.lease.id, code: 'unavailable', call }], true)
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
    return result
  }

  /**
   * Grants many, each judged alone.
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
    return outcomes.map(({ result }) => result)
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
    for (const timer of this.#timers) clearTimeout(timer)
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
      return { result: await this.#release(ask, verdict, beganAt), inWorkspace }
    } catch (error) {
      this.refusals.add(error instanceof VaultError ? error.code : 'internal')
      if (error instanceof VaultError) return { result: error, inWorkspace }
      throw error
    }
  }

  async #release(
    ask: LeaseAsk,
    verdict: LeaseVerdict & { granted: true },
    beganAt: number,
  ): Promise<Granted> {
    const { lease, copy } = verdict
    try {
      if (performance.now() >= ask.call.deadlineAt) throw deadlinePassed()
      const local = copy.ref === undefined && copy.link === undefined
      const read = local
        ? undefined
        : await this.#copies.read(lease.workspace, copy, ask.call, lease.identity)
      if (read?.outside || performance.now() - beganAt > this.#options.judgementMsMax) {
        const [code] = await this.#ledger.judgeAgain([{ ask, lease }], ask.call.deadlineAt)
        if (code) throw refusal(code)
      }
      if (read?.link) {
        const note = { leaseId: lease.id, ...read.link, deadlineAt: ask.call.deadlineAt }
        await this.#linkNotes.submit(note)
        Object.assign(lease, read.link)
      }
      if (performance.now() >= ask.call.deadlineAt) throw deadlinePassed()
      const value = read ? read.value : this.#copies.open(lease.workspace, copy)
      this.#granted++
      this.#options.onGranted({ credentialId: lease.credentialId, tokenId: ask.token.id })
      return { lease, value }
    } catch (error) {
      const code = error instanceof VaultError ? error.code : 'internal'
      this.#fail([{ id: lease.id, code, call: ask.call }], true)
      throw error
    }
  }

  // Leases without a value. Whether an unanswered statement was committed shows only once its backend is through with
  // it: until then its leases are looked for again, as are all of them where the ledger cannot be reached.
  #fail(leases: readonly FailedLease[], committed: boolean, tries = 0): void {
    const again = (left: readonly FailedLease[]): void => {
      if (left.length === 0 || tries + 1 >= this.#options.settleTriesMax) return
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        this.#fail(left, committed, tries + 1)
      }, this.#options.settleEveryMs)
      timer.unref()
      this.#timers.add(timer)
    }
    this.#ledger.failLeases(leases).then(
      (found) => again(committed ? [] : leases.filter(({ id }) => !found.includes(id))),
      (error) => {
        this.#options.onSettleError(error)
        again(leases)
      },
    )
  }
}

interface FailedLease {
  id: string
  code: ProblemCode
  call: Call
}

/** What became of one ask, and whether its caller may do anything in the workspace: unknown where no statement answered. */
interface Outcome {
  result: Granted | VaultError
  inWorkspace: boolean | undefined
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
