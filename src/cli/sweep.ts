import type { Sweep, SweepPreview } from '../core/sweep.ts'
import {
  CommandFailed,
  ExitCode,
  oneLine,
  readArguments,
  UsageError,
  type Command,
  type Terminal,
} from './command.ts'

/** The ledger and its stores, opened as the service would. */
export interface SweepGround {
  sweep: Pick<Sweep, 'run' | 'preview' | 'hold' | 'adopt'>
  /** Told of what could not be deleted yet, by store. */
  failures(): ReadonlyMap<string, string>
  close(): Promise<void>
}

/** `strongroom sweep` */
export const command: Command<SweepGround> = {
  help: `strongroom sweep [--dry-run | --hold | --adopt]

Deletes what is due, as each running service does once a minute: credentials whose time to be purged has come,
copies that nothing needs any more, in external stores too, and leases that ended long ago. It opens the
database and the stores itself, with the service's settings.

  --dry-run   list what would go first, and delete nothing
  --hold      from now on delete nothing in external stores, but for what is on its way: say this before a
              physical copy of the database is started beside the original, for both would delete the same
              secrets, and after a dump was restored over the database that it was made of
  --adopt     this database deletes in external stores from now on. A ledger that was copied, or restored
              from a dump into another database, notices that and deletes nothing there until somebody says so: make sure that the
              original is gone, for what this ledger does not know of may be what the original needs

Exit code 1 where a copy could not be deleted yet, or nothing external may be deleted.
`,
  async run(args, terminal, ground) {
    const flag = { type: 'boolean' } as const
    const { values } = readArguments(args, { 'dry-run': flag, hold: flag, adopt: flag })
    if (Object.keys(values).length > 1) throw new UsageError('only one of --dry-run, --hold and --adopt')
    const opened = await ground()
    try {
      if (values['dry-run']) return show(terminal, await opened.sweep.preview())
      if (values.hold)
        return await settle(terminal, () => opened.sweep.hold(), 'nothing external is deleted until --adopt')
      if (values.adopt)
        return await settle(terminal, () => opened.sweep.adopt(), 'this database deletes in external stores')
      return await run(terminal, opened)
    } finally {
      await opened.close()
    }
  },
}

async function settle(terminal: Terminal, act: () => Promise<void>, said: string): Promise<number> {
  await act()
  terminal.out(`from now on ${said}\n`)
  return ExitCode.done
}

async function run(terminal: Terminal, { sweep, failures }: SweepGround): Promise<number> {
  const { purged, copies, external, leases } = await sweep.run()
  terminal.out(
    `purged ${purged} credentials; deleted ${external.deleted} copies in external stores; ` +
      `forgot ${copies} copies and ${leases} leases\n`,
  )
  const { home, external: due } = await sweep.preview()
  if (home !== 'here' && due.total > 0) throw new CommandFailed(away(home, due.total))
  if (external.failed === 0) return ExitCode.done
  for (const [store, reason] of failures()) terminal.err(`  ${oneLine(`${store}: ${reason}`)}\n`)
  throw new CommandFailed(`${external.failed} copies could not be deleted: the next sweep tries again`)
}

function show(terminal: Terminal, { home, purges, external }: SweepPreview): number {
  for (const { workspace, name, state } of purges)
    terminal.out(`purge ${oneLine(`${workspace}/${name}`)} (${state})\n`)
  for (const { store, ref, forGood } of external.copies)
    terminal.out(`delete ${oneLine(`${store} ${ref}`)}${forGood ? ' for good' : ''}\n`)
  const more = external.total - external.copies.length
  if (more > 0) terminal.out(`and ${more} more\n`)
  if (purges.length + external.total === 0) terminal.out('nothing is due\n')
  if (home === 'here' || external.total === 0) return ExitCode.done
  throw new CommandFailed(away(home, external.total))
}

function away(home: SweepPreview['home'], copies: number): string {
  const why = home === 'held' ? 'an operator holds it' : 'this ledger was copied or restored'
  return `${copies} copies stay in external stores, since ${why}: see strongroom sweep --help`
}
