import type { Migration } from './migration-client.ts'
import type { RunView } from './run-progress.ts'
import { rateOf, secondsOf } from './run-progress.ts'

/** How the progress of a store migration is shown. */
export class MigrationView implements RunView<Migration> {
  readonly #before: Pick<Migration, 'moved'> | undefined
  readonly #goesOnSince: number | undefined
  #endedAt: number | undefined

  /**
   * @param before As it was when it was resumed, rolled back or finalized; left out where it began or is followed.
   * @param goesOnSince When that was, on the clock of `performance.now()`.
   */
  constructor(before?: Pick<Migration, 'moved'>, goesOnSince?: number) {
    this.#before = before
    this.#goesOnSince = goesOnSince
  }

  line(run: Migration): object {
    const { id, state, heading, from, to, workspaces, total, moved, skipped, failed, throttled } = run
    return { id, state, heading, from, to, workspaces, total, moved, skipped, failed, throttled }
  }

  last(run: Migration): object {
    const { started_at, finished_at, failures, stays } = run
    const seconds = this.seconds(run)
    const duration = seconds !== undefined && { duration_seconds: Math.round(seconds) }
    return { started_at, finished_at, ...duration, failures, stays }
  }

  /** How long it took. What was begun earlier and is only looked at now may have rested between: then nobody can tell. */
  seconds(run: Migration): number | undefined {
    if (this.#goesOnSince === undefined) return run.heading === 'over' ? secondsOf(run) : undefined
    this.#endedAt ??= performance.now()
    return (this.#endedAt - this.#goesOnSince) / 1000
  }

  copies(run: Migration): { total: number; done: number } {
    const { state, heading, total, moved, skipped, failed } = run
    if (heading === 'closing') return { total: moved, done: state === 'finalized' ? moved : 0 }
    if (heading === 'back') return { total: this.#before?.moved ?? total, done: this.carried(run) + failed }
    // What somebody else updated or purged meanwhile is never taken: done is done, whatever was counted at the start.
    return { total, done: state === 'done' ? total : moved + skipped + failed }
  }

  /** How many copies it has moved this time, over or back. */
  carried({ heading, moved, total }: Migration): number {
    if (heading === 'back') return (this.#before?.moved ?? total) - moved
    return moved - (this.#before?.moved ?? 0)
  }

  average(run: Migration): number | undefined {
    const seconds = this.seconds(run)
    return seconds === undefined ? undefined : rateOf(this.carried(run), seconds)
  }

  notes({ skipped, failed, throttled }: Migration): string {
    const stay = skipped > 0 ? `, ${skipped} stay` : ''
    return `${failed} failed${stay}${throttled > 0 ? `, throttled ${throttled} times` : ''}`
  }
}
