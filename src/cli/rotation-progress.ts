import type { SingleBar } from 'cli-progress'
import type { Terminal } from './command.ts'
import type { Run } from './rotation-client.ts'

/** Shows how far a rotation is. */
export interface Progress {
  show(run: Run): void
  /** Leaves what was shown last. */
  end(): void
}

/** A bar on a terminal, one JSON line for each look elsewhere. */
export async function startProgress({ screen, out }: Terminal): Promise<Progress> {
  const pace = new Pace()
  if (!screen) return { show: (run) => out(`${JSON.stringify(pace.lineOf(run))}\n`), end: () => undefined }
  // Loaded here: nobody else needs it.
  const { default: progress } = await import('cli-progress')
  const bar = new progress.SingleBar(
    { stream: screen, format: FORMAT, barsize: 20, hideCursor: true, gracefulExit: false },
    progress.Presets.shades_grey,
  )
  return { show: (run) => draw(bar, run, pace.lineOf(run)), end: () => bar.stop() }
}

const FORMAT = '{bar} {percentage}%  {value} of {total} copies  {rate}  {left}  {failures}'

/** What a script reads. */
export interface ProgressLine extends Omit<Run, 'started_at' | 'finished_at' | 'failures'> {
  /** Copies; of a rotation that has ended, on average. */
  rate_per_second: number
  /** Left out where nobody can tell. */
  left_seconds?: number
  /** Of one that has ended. */
  failures?: Run['failures']
}

const LOOKS_MAX = 10

/** Measures the speed by the last few looks. */
export class Pace {
  readonly #looks: { at: number; done: number }[] = []

  /** @param now In milliseconds. */
  lineOf(run: Run, now = performance.now()): ProgressLine {
    const { id, state, to_key, total, moved, skipped, failed, failures } = run
    const line = { id, state, to_key, total, moved, skipped, failed }
    if (state !== 'running') return { ...line, rate_per_second: Math.round(averageOf(run)), failures }
    const done = doneOf(run)
    this.#looks.push({ at: now, done })
    if (this.#looks.length > LOOKS_MAX) this.#looks.shift()
    const first = this.#looks[0]!
    const rate = now > first.at ? ((done - first.done) * 1000) / (now - first.at) : 0
    const left = rate > 0 && { left_seconds: Math.ceil(Math.max(0, total - done) / rate) }
    return { ...line, rate_per_second: Math.round(rate), ...left }
  }
}

function draw(bar: SingleBar, run: Run, line: ProgressLine): void {
  // Copies that somebody else erased or sealed anew are never taken: done is done, whatever was counted at the start.
  const done = run.state === 'done' ? run.total : Math.min(doneOf(run), run.total)
  const words = {
    rate: `${line.rate_per_second}/s`,
    left: line.left_seconds === undefined ? '' : `${durationText(line.left_seconds)} left`,
    failures: `${run.failed} failed`,
  }
  if (bar.isActive) bar.update(done, words)
  else bar.start(run.total, done, words)
}

/** Copies that nobody needs to look at again. */
function doneOf({ moved, skipped, failed }: Run): number {
  return moved + skipped + failed
}

function averageOf({ moved, started_at, finished_at }: Run): number {
  const seconds = (Date.parse(finished_at ?? started_at) - Date.parse(started_at)) / 1000
  return seconds > 0 ? moved / seconds : moved
}

/** Such as `42 s`, `3 min 5 s`, `2 h 10 min`. */
export function durationText(seconds: number): string {
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}
