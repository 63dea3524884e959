import type { Run } from './rotation-client.ts'
import type { RunView } from './run-progress.ts'
import { rateOf, secondsOf } from './run-progress.ts'

/** How the progress of a rotation is shown. */
export const rotationView: RunView<Run> = {
  line: ({ id, state, to_key, total, moved, skipped, failed }) => ({
    id,
    state,
    to_key,
    total,
    moved,
    skipped,
    failed,
  }),
  last: ({ failures }) => ({ failures }),
  // Copies that somebody else erased or sealed anew are never taken: done is done, whatever was counted at the start.
  copies: ({ state, total, moved, skipped, failed }) => ({
    total,
    done: state === 'done' ? total : moved + skipped + failed,
  }),
  average: (run) => rateOf(run.moved, secondsOf(run)),
  notes: ({ failed }) => `${failed} failed`,
}
