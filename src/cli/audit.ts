import { readFile } from 'node:fs/promises'
import type { StreamHead } from '../core/audit.ts'
import { parseTimestamp } from '../core/names.ts'
import { Secret } from '../core/secret.ts'
import { ExitCode, oneLine, readArguments, UsageError, type Command, type Terminal } from './command.ts'
import type { ServiceClient } from './service-client.ts'

/** The service's listener for operators. */
export interface AuditGround {
  admin: ServiceClient
}

interface Verification {
  valid: boolean
  anchored: boolean
  streams: { stream: string; events: number; head?: StreamHead; valid: boolean; first_bad?: number }[]
}

/** `strongroom audit` */
export const command: Command<AuditGround> = {
  help: `strongroom audit verify [--from TIME] [--to TIME] [--heads FILE]

Makes every hash of the audit trail anew and says for each stream whether its chain holds: a changed, a
removed and a re-ordered event are found. With --heads also a stream that was cut off or lost: FILE holds
{"heads": [{"stream", "sequence", "hash"}]}, or the service's log, which names the heads every minute.

  --from TIME, --to TIME   only what was recorded then, such as 2026-01-31T00:00:00Z
  --heads FILE             what was kept elsewhere

The listener for operators is at STRONGROOM_ADMIN_URL (default http://127.0.0.1:7401); the token is
STRONGROOM_TOKEN's, else the data directory's. Exit code 1 when the trail does not hold.
`,
  async run(args, terminal, ground) {
    const text = { type: 'string' } as const
    const { values, positionals } = readArguments(args, { from: text, to: text, heads: text }, ['verify'])
    if (positionals[0] !== 'verify') throw new UsageError('the only audit command is verify')
    const range = new URLSearchParams()
    for (const bound of ['from', 'to'] as const) {
      const time = values[bound]
      if (time === undefined) continue
      if (!parseTimestamp(time)) throw new UsageError(`--${bound} takes a time such as 2026-01-31T00:00:00Z`)
      range.set(bound, time)
    }
    const { from, to } = values
    if (from !== undefined && to !== undefined && parseTimestamp(from)! >= parseTimestamp(to)!)
      throw new UsageError('--from must be earlier than --to')
    const heads = values.heads === undefined ? undefined : await readHeads(values.heads)
    const { admin } = await ground()
    const path = `/v1/admin/audit/verify${range.size > 0 ? `?${range}` : ''}`
    const answer = heads
      ? await admin.call('POST', path, new Secret(JSON.stringify({ heads })), true)
      : await admin.call('GET', path, undefined, true)
    const verification = admin.membersOf<Verification>(answer, ['valid', 'anchored', 'streams'])
    print(terminal, verification)
    const holds = verification.valid && (heads === undefined || verification.anchored)
    return holds ? ExitCode.done : ExitCode.failed
  },
}

function print(terminal: Terminal, { valid, anchored, streams }: Verification): void {
  const rows = streams.map((stream) => [
    oneLine(stream.stream),
    String(stream.events),
    stream.valid ? 'holds' : `broken at ${stream.first_bad ?? 'its end'}`,
  ])
  const table = [['stream', 'events', 'chain'], ...rows]
  const widths = [0, 1].map((column) => Math.max(...table.map((row) => row[column]!.length)))
  for (const [stream, events, chain] of table) {
    terminal.out(`${stream!.padEnd(widths[0]!)}  ${events!.padStart(widths[1]!)}  ${chain}\n`)
  }
  const against = anchored ? ', and so do the heads that were kept elsewhere' : ''
  const broken = streams.filter((stream) => !stream.valid).length
  terminal.out(
    valid ? `The audit trail holds${against}.\n` : `The audit trail is broken in ${broken} streams.\n`,
  )
}

/** Of each stream the newest head, since an older one says no more; two that contradict each other both count. */
async function readHeads(path: string): Promise<StreamHead[]> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`--heads names a file that cannot be read (${error.code})`)
  })
  const newest = new Map<string, StreamHead[]>()
  for (const document of parseDocuments(text)) {
    const { heads } = (document ?? {}) as { heads?: unknown }
    for (const head of Array.isArray(heads) ? heads : []) {
      if (!isHead(head)) throw new UsageError('--heads names a file with a head that has not the form of one')
      const { stream, sequence, hash } = head
      const known = newest.get(stream) ?? []
      const ahead = sequence - (known[0]?.sequence ?? -1)
      if (ahead > 0) newest.set(stream, [{ stream, sequence, hash }])
      else if (ahead === 0 && !known.some((one) => one.hash === hash)) known.push({ stream, sequence, hash })
    }
  }
  const heads = [...newest.values()].flat()
  if (heads.length === 0) throw new UsageError('--heads names a file without heads')
  return heads
}

function parseDocuments(text: string): unknown[] {
  const whole = parseJson(text)
  // In a log there may be lines of others, and the last one may be torn.
  return whole === undefined ? text.split('\n').map(parseJson) : [whole]
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

function isHead(head: unknown): head is StreamHead {
  const { stream, sequence, hash } = (head ?? {}) as Record<string, unknown>
  return typeof stream === 'string' && Number.isSafeInteger(sequence) && /^[0-9a-f]{64}$/.test(String(hash))
}
