import type { Relocation, Speed } from './relocation-client.ts'
import type { RunView } from './run-progress.ts'

/** How the progress of a store migration is shown. */
export const relocationView: RunView<Relocation> = {
  line: ({ id, state, heading, from, to, workspaces, total, moved, skipped, failed, throttled }) => ({
    id,
    state,
    heading,
    from,
    to,
    workspaces,
    total,
    moved,
    skipped,
    failed,
    throttled,
  }),
  last: ({ moved_over, duration_seconds, rate_per_second, rollback, ...run }) => {
    const { started_at, finished_at, failures, stays } = run
    const speed = { duration_seconds, rate_per_second }
    return { moved_over, ...speed, rollback, started_at, finished_at, failures, stays }
  },
  copies: ({ state, heading, total, moved, skipped, failed, rollback }) => {
    if (heading === 'closing') return { total: moved, done: state === 'finalized' ? moved : 0 }
    const back = (rollback?.moved ?? 0) + failed
    if (heading === 'back') return { total: moved + back, done: back }
    // What somebody else updated or purged meanwhile is never taken: done is done, whatever was counted at the start.
    return { total, done: state === 'done' ? total : moved + skipped + failed }
  },
  average: (run) => speedOf(run).rate_per_second,
  notes: ({ skipped, failed, throttled }) => {
    const stay = skipped > 0 ? `, ${skipped} stay` : ''
    return `${failed} failed${stay}${throttled > 0 ? `, throttled ${throttled} times` : ''}`
  },
}

/** How long what it did last took, and how fast it was. */
export function speedOf({ heading, rollback, ...over }: Relocation): Speed {
  return heading === 'back' ? (rollback ?? {}) : over
}
