/** A figure beside its reference, and what it must reach. */
export interface Row {
  work: string
  measured: string
  reference: string
  ratio?: number
  mustReach: string
  reached: boolean
}

/** The middle one. */
export function median(of: number[]): number {
  const sorted = [...of].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}

/** A figure that is judged by how many times its reference it is, at least. */
export function atLeast(
  work: string,
  measured: string,
  reference: string,
  ratio: number,
  least: number,
): Row {
  const rounded = Number(ratio.toFixed(2))
  return { work, measured, reference, ratio: rounded, mustReach: `≥ ${least} ×`, reached: rounded >= least }
}

/** A figure that is judged by how many times its reference it is, at most. */
export function atMost(work: string, measured: string, reference: string, ratio: number, most: number): Row {
  const rounded = Number(ratio.toFixed(2))
  return { work, measured, reference, ratio: rounded, mustReach: `≤ ${most} ×`, reached: rounded <= most }
}

/** A figure that is judged by itself. */
export function absolute(
  work: string,
  measured: string,
  mustReach: string,
  reached: boolean,
  reference = '',
): Row {
  return { work, measured, reference, mustReach, reached }
}

/** The rows as a Markdown table. */
export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.work,
    row.measured,
    row.reference,
    row.ratio ?? '',
    row.mustReach,
    row.reached ? 'yes' : 'NO',
  ])
  const lines = [
    ['work', 'measured', 'reference', 'ratio', 'must reach', 'reached'],
    Array(6).fill('---'),
    ...cells,
  ]
  return `${lines.map((line) => `| ${line.join(' | ')} |`).join('\n')}\n`
}
