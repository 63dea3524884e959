import { isSlug } from '../core/names.ts'
import {
  CommandFailed,
  ExitCode,
  oneLine,
  readArguments,
  UsageError,
  type Command,
  type Terminal,
} from './command.ts'
import type { Change, Relocation, Plan, Route } from './relocation-client.ts'
import { RelocationClient, sameRoute } from './relocation-client.ts'
import { relocationView } from './relocation-progress.ts'
import { countsOf, following, reportRelocation, showPlan } from './relocation-report.ts'
import { watch } from './run-watch.ts'
import { ServiceProblem, type ServiceClient } from './service-client.ts'

/** The service's listener for operators. */
export interface RelocationGround {
  admin: ServiceClient
}

/** `strongroom migrate-store` */
export const command: Command<RelocationGround> = {
  help: `strongroom migrate-store --from STORE --to STORE [--workspace W]… [--dry-run | --yes]
strongroom migrate-store --follow ID | --resume ID | --rollback ID | --finalize ID | --cancel ID

Moves credentials to another store, while leases go on: each copy is written there, read back and compared
before anybody is pointed at it. Shows the plan and asks, then how far it is: a bar on a terminal, one JSON
line a second elsewhere, the plan as the first of them, the report as the last. ^C stops looking, not the
store migration. Where one of the same route was cancelled or has failed, that one goes on; not where it was
being rolled back: --rollback or --resume says which way.

  --workspace W   only credentials of this workspace; may be repeated
  --dry-run       the plan, for which the target takes a trial value and deletes it again; nothing is begun
  --yes           do not ask; needed where there is no terminal to ask on

  --follow ID     show it, begin nothing
  --resume ID     go on with one that was cancelled or has failed, and try again what had failed
  --rollback ID   point everything back; what was updated meanwhile keeps its new value
  --finalize ID   drop the copies that were left in the old store; from then on it cannot be rolled back
  --cancel ID     stop; copies stay where they are by then

The listener for operators is at STRONGROOM_ADMIN_URL (default http://127.0.0.1:7401); the token is
STRONGROOM_TOKEN's, else the data directory's. Exit code 1 when copies failed, it was cancelled or refused, or
still runs. docs/store-migration.md tells the rest.
`,
  async run(args, terminal, ground) {
    const wanted = readOrder(args)
    if ('route' in wanted && !wanted.dryRun && !wanted.yes && !terminal.inputIsTyped)
      throw new UsageError('there is no terminal to ask on: it takes --yes, or --dry-run to see the plan')
    const client = new RelocationClient((await ground()).admin)
    if (!('route' in wanted)) {
      const change = wanted.what === 'follow' ? undefined : wanted.what
      const begun = await (change ? goOn(client, wanted.id, change) : client.read(wanted.id))
      return await seeThrough(terminal, client, begun, change)
    }
    const begun = await begin(terminal, client, wanted)
    return begun ? await seeThrough(terminal, client, begun) : ExitCode.done
  },
}

interface Order {
  route: Route
  dryRun: boolean
  yes: boolean
}

const BY_ID = ['follow', 'resume', 'rollback', 'finalize', 'cancel'] as const

function readOrder(args: string[]): Order | { what: Change | 'follow'; id: string } {
  const [text, flag] = [{ type: 'string' } as const, { type: 'boolean' } as const]
  const byId = { follow: text, resume: text, rollback: text, finalize: text, cancel: text }
  const workspace = { type: 'string', multiple: true } as const
  const { values } = readArguments(args, {
    from: text,
    to: text,
    workspace,
    'dry-run': flag,
    yes: flag,
    ...byId,
  })
  const [what, ...more] = BY_ID.filter((name) => values[name] !== undefined)
  if (what) {
    if (more.length > 0 || Object.keys(values).length > 1)
      throw new UsageError(`--${what} stands alone, with the id of a store migration`)
    if (!/^[0-9a-f-]{36}$/.test(values[what]!))
      throw new UsageError(`--${what} takes the id of a store migration`)
    return { what, id: values[what]! }
  }
  const { from, to, workspace: workspaces, 'dry-run': dryRun = false, yes = false } = values
  if (from === undefined || to === undefined)
    throw new UsageError(
      'it takes --from and --to, or one of --follow, --resume, --rollback, --finalize, --cancel',
    )
  if (!isSlug(from) || !isSlug(to)) throw new UsageError('--from and --to take the names of stores')
  if (!(workspaces ?? []).every(isSlug)) throw new UsageError('--workspace takes the name of a workspace')
  if (dryRun && yes) throw new UsageError('only one of --dry-run and --yes')
  return { route: { from, to, ...(workspaces && { workspaces }) }, dryRun, yes }
}

/** Shows the plan, asks, and begins; or goes on with what is unfinished. @returns undefined where nothing is to be done */
async function begin(
  terminal: Terminal,
  client: RelocationClient,
  { route, dryRun, yes }: Order,
): Promise<Relocation | undefined> {
  const unfinished = await client.unfinished()
  const running = unfinished.find(({ state }) => state === 'running')
  if (running && !dryRun) throw alreadyRunning(running)
  const stopped = unfinished.find(
    (one) => ['failed', 'cancelled'].includes(one.state) && sameRoute(one, route),
  )
  // Whoever wanted it undone must say that he does no more: the same command again may come from a script.
  const undone = stopped?.heading === 'back' ? stillGoingBack(stopped) : undefined
  if (undone && !dryRun) throw undone
  const plan = await planned(client, route)
  const resumes = stopped && !undone && { resumes: stopped.id }
  if (!terminal.screen) terminal.out(`${JSON.stringify({ plan, ...resumes })}\n`)
  if (resumes) showStopped(terminal, stopped)
  else showPlan(terminal, plan)
  if (undone) terminal.err(`${oneLine(undone.message)}\n`)
  if (dryRun) return undefined
  if (!stopped && plan.copies === 0) {
    terminal.err('Nothing is to be moved.\n')
    for (const { id, from, to, state } of unfinished)
      terminal.err(`  unfinished: ${oneLine(`${id}, from ${from} to ${to}, ${state}`)}\n`)
    return undefined
  }
  if (!yes && !/^y(es)?$/i.test((await terminal.ask('Begin? [y/N] ')).trim()))
    throw new CommandFailed('nothing was begun')
  if (stopped) return goOn(client, stopped.id, 'resume')
  const run = await orRunning(client, () => client.start(route))
  terminal.err(`The store migration ${oneLine(run.id)} moves ${run.total} copies.\n`)
  return run
}

async function planned(client: RelocationClient, route: Route): Promise<Plan> {
  try {
    return await client.plan(route)
  } catch (error) {
    if (!(error instanceof ServiceProblem && error.code.startsWith('store_'))) throw error
    throw new CommandFailed(`${error.code}: ${route.to} did not take a trial value: ${error.message}`)
  }
}

function showStopped(terminal: Terminal, stopped: Relocation): void {
  const { id, from, to, state, total, moved } = stopped
  const became = state === 'failed' ? 'has failed' : 'was cancelled'
  terminal.err(
    `${oneLine(`The store migration ${id} from ${from} to ${to} ${became}`)}: ${countsOf(stopped)}.\n` +
      `It goes on: about ${Math.max(0, total - moved)} of ${total} copies are left, and what had failed is tried again.\n`,
  )
}

function goOn(client: RelocationClient, id: string, change: Change): Promise<Relocation> {
  return orRunning(client, () => client.change(id, change))
}

async function seeThrough(
  terminal: Terminal,
  client: RelocationClient,
  run: Relocation,
  asked?: Change,
): Promise<number> {
  const read = (id: string): Promise<Relocation> => client.read(id)
  const seen = await watch(terminal, run, {
    view: relocationView,
    read,
    name: 'the store migration',
    following,
  })
  return reportRelocation(terminal, seen, asked)
}

/** Where another one runs, says which. */
async function orRunning(client: RelocationClient, act: () => Promise<Relocation>): Promise<Relocation> {
  try {
    return await act()
  } catch (error) {
    if (!(error instanceof ServiceProblem && error.code === 'already_running')) throw error
    const running = (await client.unfinished()).find(({ state }) => state === 'running')
    throw running ? alreadyRunning(running) : error
  }
}

function stillGoingBack({ id, from, to }: Relocation): CommandFailed {
  const of = `the store migration ${id} from ${from} to ${to} was being rolled back, and that has not ended`
  return new CommandFailed(`${of}: --rollback ${id} goes on with it, --resume ${id} moves over again`)
}

function alreadyRunning(running: Relocation): CommandFailed {
  return new CommandFailed(
    `already_running: from ${running.from} to ${running.to}; ${following(running)}, or --cancel it`,
  )
}
