import { ExitCode, oneLine, type Terminal } from './command.ts'
import { listCopies } from './copy-list.ts'
import type { Change, Relocation, Plan, Route } from './relocation-client.ts'
import { speedOf } from './relocation-progress.ts'
import { durationText } from './run-progress.ts'

const WHY_IT_STAYS: Record<string, (to: string) => string> = {
  too_large: (to) => `larger than ${to} takes`,
  other_migration: () => 'of credentials in a store migration that is neither rolled back nor finalized',
  link: () => 'links: somebody else keeps those, and they are read where they lie',
}

/** Says what would move, and what stays and why. */
export function showPlan(
  terminal: Terminal,
  { from, to, copies, bytes, seconds, groups, stays }: Plan,
): void {
  const time = seconds === undefined ? '' : `, in at least ${durationText(seconds)} under its limit of writes`
  const size = bytes === undefined ? '' : `, about ${bytesText(bytes)},`
  terminal.err(`${oneLine(`${copies} copies${size} move from ${from} to ${to}${time}`)}.\n`)
  const names = groups.map(({ workspace, connector }) => [oneLine(workspace), oneLine(connector)] as const)
  const [first, second] = [0, 1].map((at) => Math.max(0, ...names.map((name) => name[at]!.length)))
  for (const [index, group] of groups.entries()) {
    const [workspace, connector] = names[index]!
    const about = group.bytes === undefined ? '' : `  about ${bytesText(group.bytes)}`
    terminal.err(
      `  ${workspace.padEnd(first!)}  ${connector.padEnd(second!)}  ${group.copies} copies${about}\n`,
    )
  }
  for (const { reason, copies } of stays)
    terminal.err(
      `${copies} copies stay: ${oneLine(WHY_IT_STAYS[reason]?.(to) ?? reason)} (${oneLine(reason)}).\n`,
    )
  // The ledger's own store takes whatever there is, and needs no trial: whoever can plan can write there.
  if (to === 'local') return
  if (bytes === undefined)
    terminal.err(
      `${oneLine(`Only ${from} knows how long its values are: those that ${to} does not take will stay too (too_large)`)}.\n`,
    )
  terminal.err(`${oneLine(to)} has taken a trial value, given it back and deleted it.\n`)
}

/** Says what has become of it, and what can be done now. @returns the exit code */
export function reportRelocation(terminal: Terminal, run: Relocation, asked: Change | undefined): number {
  const { state, heading, failed, skipped, failures, stays } = run
  const [id, from, to] = [run.id, run.from, run.to].map(oneLine) as [string, string, string]
  const say = (text: string): void => terminal.err(`${text}\n`)
  const { duration_seconds: seconds, rate_per_second: rate } = speedOf(run)
  const time = seconds === undefined ? '' : ` in ${durationText(seconds)}`
  const pace = rate === undefined ? '' : ` (${rate < 10 ? rate : Math.round(rate)}/s)`
  const counts = countsOf(run)
  const listFailures = (): void =>
    listCopies(terminal, failures, failed, ': audit events with the action store-migration:move')
  const listStays = (): void => listCopies(terminal, stays, skipped, '')
  const listLeft = (where: string): void => {
    if (failed + skipped > 0) say(where)
    listFailures()
    listStays()
  }
  const code = failed > 0 ? ExitCode.failed : ExitCode.done
  switch (state) {
    case 'running':
      say(`The store migration goes on: ${following(run)}`)
      return ExitCode.failed
    case 'done':
      say(`Done${time}: ${counts}${pace}.`)
      listLeft('These stay where they are:')
      say(`Until you decide, the copies in ${from} are kept as well:`)
      say(`  strongroom migrate-store --rollback ${id}   points every credential back at once`)
      say(`  strongroom migrate-store --finalize ${id}   drops them: then only the opposite one goes back`)
      return code
    case 'failed':
      if (heading === 'back') {
        say(`The rollback has ended, but not at zero. These could not be moved back from ${to}:`)
        listFailures()
        if (skipped > 0) say('These stay there:')
        listStays()
        say(`When that is mended, strongroom migrate-store --rollback ${id} moves what is left.`)
      } else {
        say(`The store migration has ended, but not at zero: ${counts}. These could not be moved:`)
        listFailures()
        if (skipped > 0) say('These stay where they are, and that is no failure:')
        listStays()
        say('All are read where they were, and nothing is lost. When that is mended, the same command moves')
        say(`what is left, and so does strongroom migrate-store --resume ${id}; --rollback ${id} undoes it.`)
      }
      return ExitCode.failed
    case 'cancelled':
      say(
        `The ${heading === 'back' ? 'rollback' : 'store migration'} was cancelled: ${counts}. Copies stay where they are.`,
      )
      listLeft('These could not be moved, or stay:')
      say(
        `strongroom migrate-store --resume ${id} goes on over to ${to}, --rollback ${id} goes back to ${from}.`,
      )
      return asked === 'cancel' ? code : ExitCode.failed
    case 'rolled_back':
      say(`Rolled back${time}${pace}: what was moved is read from ${from} again.`)
      listLeft(`These are still in ${to}:`)
      if (to !== 'local') say(`The sweep deletes what was moved to ${to}, a grace later.`)
      return code
    case 'finalized':
      say(`Finalized: ${counts}. The copies in ${from} that were moved are dropped.`)
      listLeft(`These are still in ${from}:`)
      if (from !== 'local') say('The sweep deletes them there, a grace later.')
      say(
        `Going back is a store migration of its own from now on: ${orderOf({ ...run, from: to, to: from })}`,
      )
      return code
  }
}

/** How a run is followed again. */
export function following({ id }: Relocation): string {
  return `follow it with strongroom migrate-store --follow ${oneLine(id)}`
}

/** How far a run is. */
export function countsOf({ moved, skipped, failed }: Relocation): string {
  return `${moved} copies moved, ${skipped} stay, ${failed} failed`
}

function orderOf({ from, to, workspaces = [] }: Route): string {
  const narrowed = workspaces.map((workspace) => ` --workspace ${workspace}`).join('')
  return oneLine(`strongroom migrate-store --from ${from} --to ${to}${narrowed}`)
}

function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} bytes`
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KiB`
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}
