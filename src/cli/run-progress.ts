import type { SingleBar } from 'cli-progress'
import type { Terminal } from './command.ts'

/** Long work of the service, such as a rotation: it runs until its state says otherwise. */
export interface LongRun {
  id: string
  state: string
  started_at: string
  finished_at?: string
}

/** What the progress of one kind of run is made of. */
export interface RunView<Run extends LongRun> {
  /** What a script reads of it, on each line. */
  line(run: Run): object
  /** The same of one that has ended: the line's last members. */
  last(run: Run): object
  /** How many copies there are, and how many of them nobody needs to look at again. */
  copies(run: Run): { total: number; done: number }
  /** Copies a second of one that has ended, on average; undefined where nobody can tell. */
  average(run: Run): number | undefined
  /** What the bar says besides. */
  notes(run: Run): string
}

/** Shows how far a run is. */
export interface Progress<Run> {
  show(run: Run): void
  /** Leaves what was shown last. */
  end(): void
}

/** A bar on a terminal, one JSON line for each look elsewhere. */
export async function startProgress<Run extends LongRun>(
  { screen, out }: Pick<Terminal, 'screen' | 'out'>,
  view: RunView<Run>,
): Promise<Progress<Run>> {
  const pace = new Pace(view)
  if (!screen) return { show: (run) => out(`${JSON.stringify(pace.lineOf(run))}\n`), end: () => undefined }
  // Loaded here: nobody else needs it.
  const { default: progress } = await import('cli-progress')
  const bar = new progress.SingleBar(
    { stream: screen, format: FORMAT, barsize: 20, hideCursor: true, gracefulExit: false },
    progress.Presets.shades_grey,
  )
  return { show: (run) => draw(bar, view, run, pace.lineOf(run)), end: () => bar.stop() }
}

const FORMAT = '{bar} {percentage}%  {value} of {total} copies  {rate}  {left}  {notes}'

/** What each line says of the speed. */
export interface Speed {
  /** Copies; of a run that has ended, on average. Both are left out where nobody can tell. */
  rate_per_second?: number
  left_seconds?: number
}

const LOOKS_MAX = 10

/** Measures the speed by the last few looks. */
export class Pace<Run extends LongRun> {
  readonly #view: RunView<Run>
  readonly #looks: { at: number; done: number }[] = []

  constructor(view: RunView<Run>) {
    this.#view = view
  }

  /** @param now In milliseconds. */
  lineOf(run: Run, now = performance.now()): Speed {
    const line = this.#view.line(run)
    if (run.state !== 'running') {
      const average = this.#view.average(run)
      const rate = average !== undefined && { rate_per_second: Math.round(average) }
      return { ...line, ...rate, ...this.#view.last(run) }
    }
    const { total, done } = this.#view.copies(run)
    this.#looks.push({ at: now, done })
    if (this.#looks.length > LOOKS_MAX) this.#looks.shift()
    const first = this.#looks[0]!
    const rate = now > first.at ? ((done - first.done) * 1000) / (now - first.at) : 0
    const left = rate > 0 && { left_seconds: Math.ceil(Math.max(0, total - done) / rate) }
    return { ...line, rate_per_second: Math.round(rate), ...left }
  }
}

function draw<Run extends LongRun>(bar: SingleBar, view: RunView<Run>, run: Run, line: Speed): void {
  const { total, done } = view.copies(run)
  const rate = run.state === 'running' ? line.rate_per_second : view.average(run)
  const words = {
    rate: rate === undefined ? '' : `${Math.round(rate)}/s`,
    left: line.left_seconds === undefined ? '' : `${durationText(line.left_seconds)} left`,
    notes: view.notes(run),
  }
  if (bar.isActive) bar.update(Math.min(done, total), words)
  else bar.start(total, Math.min(done, total), words)
}

/** How long a run that has ended took. */
export function secondsOf({ started_at, finished_at }: LongRun): number {
  return (Date.parse(finished_at ?? started_at) - Date.parse(started_at)) / 1000
}

/** So many in so many seconds; all at once where there was no time to measure. */
export function rateOf(copies: number, seconds: number): number {
  return seconds > 0 ? copies / seconds : copies
}

/** Such as `42 s`, `3 min 5 s`, `2 h 10 min`. */
export function durationText(seconds: number): string {
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}
