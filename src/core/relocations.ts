import { demandAdmin } from './access.ts'
import type { Acts } from './acts.ts'
import type { AuditEntry } from './audit.ts'
import type { Call, Caller, Page, PageRequest } from './calls.ts'
import type { Copies } from './copies.ts'
import { OutsideFirst } from './draft.ts'
import { invalid, notFound, unknownName, VaultError } from './errors.ts'
import type { LedgerTransaction } from './ledger-transaction.ts'
import { endRelocation } from './relocation-report.ts'
import type { Heading, Relocation, RelocationPlan, RelocationState, Route } from './relocation.ts'
import type { StoreSet } from './store-set.ts'

const ACTION = 'admin:stores'

/** What store migrations stand on. */
export interface RelocationsOptions {
  acts: Acts
  copies: Copies
  stores: StoreSet
  /** Has the work begun at once; it ends when this process finds nothing more to do. */
  work: () => Promise<void>
}

/** Store migrations, for operators: planned, begun, seen, cancelled, undone. The work is `RelocationWorker`'s. */
export class Relocations {
  readonly #options: RelocationsOptions

  constructor(options: RelocationsOptions) {
    this.#options = options
  }

  /**
   * What a store migration would do, after the target has shown that it takes a put, a get and a delete.
   *
   * @throws VaultError `unknown_name`; with one of the five faults of a store where the target does not
   */
  plan(call: Call, caller: Caller, route: Route): Promise<RelocationPlan> {
    const { acts, copies, stores } = this.#options
    let probed = false
    return acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      entry.detail = JSON.stringify({ store_migration: 'plan', from: route.from, to: route.to })
      await this.#demandRoute(tx, judged, route, entry)
      if (!probed) {
        throw new OutsideFirst(async () => {
          await copies.probe(route.to, call, judged.identity)
          probed = true
        })
      }
      const plan = await tx.planRelocation(route, stores.valueBytesMax(route.to))
      const perSecond = stores.external.find(({ name }) => name === route.to)?.writesPerSecond
      return { ...plan, seconds: perSecond ? Math.ceil(plan.copies / perSecond) : undefined }
    })
  }

  /**
   * From now on copies move, in every process that has both stores.
   *
   * @throws VaultError `already_running`, `unknown_name`
   */
  start(call: Call, caller: Caller, route: Route): Promise<Relocation> {
    return this.#options.acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      await this.#demandRoute(tx, judged, route, entry)
      const begun = await tx.beginRelocation(route, judged.identity)
      if (begun === 'already_running') throw alreadyRunning()
      entry.detail = describe(begun, 'start')
      return begun
    })
  }

  /** Newest first. */
  list(call: Call, caller: Caller, page: PageRequest): Promise<Page<Relocation>> {
    return this.#options.acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      return tx.relocations(page)
    })
  }

  /** @throws VaultError `not_found` */
  read(call: Call, caller: Caller, id: string): Promise<Relocation> {
    return this.#options.acts.perform(call, caller, ACTION, {}, async (tx, judged) => {
      demandAdmin(judged, ACTION)
      return known(await tx.relocation(id))
    })
  }

  /** Copies stay where they are. Again the same answer. @throws VaultError `wrong_state` */
  cancel(call: Call, caller: Caller, id: string): Promise<Relocation> {
    const act = async (tx: LedgerTransaction, relocation: Relocation): Promise<void> => {
      if (relocation.state !== 'running' || relocation.heading === 'closing') throw wrongState(relocation)
      await endRelocation(tx, id, 'cancelled')
    }
    return this.#change(call, caller, id, { name: 'cancel', already: 'cancelled', act })
  }

  /** Goes on moving over; what had failed is tried again. @throws VaultError `wrong_state`, `already_running` */
  resume(call: Call, caller: Caller, id: string): Promise<Relocation> {
    const act = async (tx: LedgerTransaction, relocation: Relocation): Promise<void> => {
      if (!['cancelled', 'failed'].includes(relocation.state)) throw wrongState(relocation)
      await run(tx, relocation, 'over')
    }
    return this.#change(call, caller, id, { name: 'resume', already: 'running', act })
  }

  /**
   * Points every credential back, and moves what was written since the long way.
   *
   * @throws VaultError `wrong_state` once it is finalized; `already_running` while another runs
   */
  rollback(call: Call, caller: Caller, id: string): Promise<Relocation> {
    const act = async (tx: LedgerTransaction, relocation: Relocation): Promise<void> => {
      const closing = relocation.state === 'running' && relocation.heading === 'closing'
      if (relocation.state === 'finalized' || closing) throw wrongState(relocation)
      // What it has moved until now is a report of its own.
      if (relocation.state === 'running' && relocation.heading === 'over')
        await endRelocation(tx, id, 'cancelled')
      await run(tx, relocation, 'back')
    }
    return this.#undo(call, caller, id, { name: 'rollback', already: 'rolled_back', act })
  }

  /** Drops the sources: from now on only the opposite store migration goes back. @throws VaultError `wrong_state` */
  finalize(call: Call, caller: Caller, id: string): Promise<Relocation> {
    const act = async (tx: LedgerTransaction, relocation: Relocation): Promise<void> => {
      const closing = relocation.state === 'running' && relocation.heading === 'closing'
      if (!closing && ['running', 'rolled_back'].includes(relocation.state)) throw wrongState(relocation)
      await run(tx, relocation, 'closing')
    }
    return this.#undo(call, caller, id, { name: 'finalize', already: 'finalized', act })
  }

  async #demandRoute(tx: LedgerTransaction, caller: Caller, route: Route, entry: AuditEntry): Promise<void> {
    demandAdmin(caller, ACTION)
    const { stores } = this.#options
    if (route.from === route.to) throw invalid('/to', 'The two stores are the same')
    for (const end of ['from', 'to'] as const) {
      if (!stores.has(route[end])) throw unknownName(`/${end}`, 'There is no store of this name')
    }
    for (const [index, name] of (route.workspaces ?? []).entries()) {
      if (!(await tx.workspace(name)))
        throw unknownName(`/workspaces/${index}`, 'There is no workspace of this name')
    }
    if (route.workspaces?.length === 1) entry.workspace = route.workspaces[0]
  }

  /** Where little is to be done it is done before the answer. */
  async #undo(call: Call, caller: Caller, id: string, change: Change): Promise<Relocation> {
    const changed = await this.#change(call, caller, id, change)
    if (changed.state !== 'running') return changed
    const waitMs = Math.max(0, Math.min(WAIT_MS_MAX, (call.deadlineAt - performance.now()) / 2))
    await Promise.race([this.#options.work().catch(() => {}), rest(waitMs)])
    return this.read(call, caller, id)
  }

  #change(call: Call, caller: Caller, id: string, { name, already, act }: Change): Promise<Relocation> {
    return this.#options.acts.perform(call, caller, ACTION, {}, async (tx, judged, entry) => {
      demandAdmin(judged, ACTION)
      const relocation = known(await tx.relocation(id, true))
      entry.detail = describe(relocation, name)
      if (relocation.state === already && !(already === 'running' && relocation.heading !== 'over')) {
        entry.mark = 'unchanged'
        return relocation
      }
      await act(tx, relocation)
      return known(await tx.relocation(id))
    })
  }
}

/** A change of a store migration's state, which may be asked for again. */
interface Change {
  name: string
  /** In this state there is nothing to do. */
  already: RelocationState
  act: (tx: LedgerTransaction, relocation: Relocation) => Promise<void>
}

const WAIT_MS_MAX = 1_000

async function run(tx: LedgerTransaction, relocation: Relocation, heading: Heading): Promise<void> {
  if (relocation.state === 'running' && relocation.heading === heading) return
  if (!(await tx.runRelocation(relocation.id, heading))) throw alreadyRunning()
}

function known(relocation: Relocation | undefined): Relocation {
  if (!relocation) throw notFound()
  return relocation
}

function describe({ id, from, to, total }: Relocation, what: string): string {
  return JSON.stringify({ store_migration: id, what, from, to, total })
}

function alreadyRunning(): VaultError {
  return new VaultError('already_running', 'A store migration is running: follow or cancel that one')
}

function wrongState({ state, heading }: Relocation): VaultError {
  const doing = { over: 'running', back: 'being rolled back', closing: 'being finalized' }[heading]
  return new VaultError('wrong_state', `The store migration is ${state === 'running' ? doing : state}`)
}

// Unlike `rest.ts` it holds up no process that is about to end: most often the work was done before.
function rest(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref())
}
