import { setTimeout as sleep } from 'node:timers/promises'
import { CommandFailed, ExitCode, type Terminal } from './command.ts'
import { startProgress, type LongRun, type RunView } from './run-progress.ts'
import { ServiceProblem, ServiceUnreachable } from './service-client.ts'

/** How one kind of run is looked at. */
export interface Watching<Run extends LongRun> {
  view: RunView<Run>
  /** @throws ServiceProblem, ServiceUnreachable */
  read(id: string): Promise<Run>
  /** Such as `the rotation`. */
  name: string
  /** Says how to follow it again. */
  following(run: Run): string
}

const LOST_FOR_MS = 30_000

/** Looks once a second until the run has ended or somebody has enough. @returns it as it was last seen */
export async function watch<Run extends LongRun>(
  terminal: Terminal,
  begun: Run,
  watching: Watching<Run>,
): Promise<Run> {
  const progress = await startProgress(terminal, watching.view)
  const enough = new AbortController()
  const deaf = terminal.onSignal((again) => {
    if (again) process.exit(ExitCode.failed)
    enough.abort()
  })
  let run = begun
  try {
    progress.show(run)
    let seenAt = performance.now()
    // A short run ends before one second has passed.
    let pauseMs = 200
    while (run.state === 'running' && !enough.signal.aborted) {
      await sleep(pauseMs, undefined, { signal: enough.signal }).catch(() => undefined)
      pauseMs = 1000
      if (enough.signal.aborted) break
      try {
        run = await watching.read(run.id)
        seenAt = performance.now()
        progress.show(run)
      } catch (error) {
        // A service that is started anew goes on where it was: that is worth some patience.
        if (!mayComeBack(error)) throw error
        if (performance.now() - seenAt > LOST_FOR_MS) throw lost(run, error, watching)
      }
    }
  } finally {
    progress.end()
    deaf()
  }
  return run
}

function mayComeBack(error: unknown): error is Error {
  return error instanceof ServiceUnreachable || (error instanceof ServiceProblem && error.status === 503)
}

function lost<Run extends LongRun>(run: Run, { message }: Error, { name, following }: Watching<Run>): Error {
  const goesOn = `${name} goes on wherever a process runs`
  return new CommandFailed(`${message}; ${goesOn}: ${following(run)}`, ExitCode.unreachable)
}
