import { pino, type DestinationStream, type Logger as PinoLogger } from 'pino'

/** Writes JSON lines. */
export type Logger = PinoLogger

/** An error as the log writes it: nothing in it repeats what a caller or a table held. */
export interface LoggedError {
  type: string
  message: string
  code?: string
  constraint?: string
  table?: string
  syscall?: string
  stack?: string
  cause?: LoggedError
  errors?: LoggedError[]
}

// The net, not the rope: who logs one of these has made a mistake already.
const REDACTED = [
  'authorization',
  'token',
  'value',
  'values',
  'key',
  'keys',
  'password',
  'secret',
  'config',
  'sealed',
]
const CAUSES_MAX = 5
const WAITING_BYTES_MAX = 1024 * 1024

/**
 * The service's log, to standard output unless told otherwise.
 *
 * @param level One of pino's levels, or `silent`.
 */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: { pid: process.pid },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: {
      paths: [
        ...REDACTED.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]),
        '*["set-cookie"]',
        '*.cookie',
      ],
      censor: '[secret]',
    },
    serializers: { err: describeError, error: describeError, req: describeRequest },
    hooks: {
      // Pino takes an error's message for the line's own, past the serializer.
      logMethod(args: unknown[], method: (...args: never[]) => void): void {
        const [first, message, ...rest] = args
        const error = first instanceof Error ? first : (first as { err?: unknown } | null | undefined)?.err
        const line = first instanceof Error ? { err: first } : first
        const safe = [line, message ?? describeError(error).message, ...rest]
        method.apply(this, (error instanceof Error ? safe : args) as never[])
      },
    },
  }
  return pino(options, destination ?? standardOutput())
}

/** A full disk ends no service: what it does not take waits, the oldest 1 MiB of it, and goes on with a later line. */
function standardOutput(): DestinationStream {
  // Synchronous, so that a crash loses no line, and who reads slowly is waited for.
  const stream = pino.destination({ dest: 1, sync: true, maxLength: WAITING_BYTES_MAX })
  stream.on('error', () => undefined)
  return stream
}

/**
 * What may be written of an error. Left out: PostgreSQL's `detail`, `where`, `internalQuery`, `query` and `parameters`,
 * and the messages of what could not be parsed, which quote the text.
 */
export function describeError(error: unknown, depth = 0): LoggedError {
  if (!(error instanceof Error))
    return { type: typeof error, message: 'Something that is no error was thrown' }
  const described: LoggedError = { type: error.name, message: messageOf(error) }
  for (const name of ['code', 'constraint', 'table', 'syscall'] as const) {
    const field = (error as unknown as Record<string, unknown>)[name]
    if (typeof field === 'string') described[name] = field
  }
  // The lines above the frames are the message once more.
  const frames = error.stack?.split('\n').filter((line) => /^ {4}at /.test(line))
  if (frames && frames.length > 0) described.stack = frames.join('\n')
  if (depth < CAUSES_MAX) {
    if (error.cause instanceof Error) described.cause = describeError(error.cause, depth + 1)
    const errors = error instanceof AggregateError ? error.errors.slice(0, CAUSES_MAX) : []
    if (errors.length > 0) described.errors = errors.map((one) => describeError(one, depth + 1))
  }
  return described
}

function messageOf(error: Error): string {
  if (error instanceof SyntaxError) return 'A text could not be parsed'
  const { code, severity } = error as { code?: unknown; severity?: unknown }
  // Class 22, data exceptions, quote the data in the message itself.
  const isDataException = typeof severity === 'string' && typeof code === 'string' && code.startsWith('22')
  return isDataException ? 'PostgreSQL refused a value' : error.message
}

/** A query may hold anything, so what follows the path is not written. */
function describeRequest(request: { id?: unknown; method?: unknown; url?: unknown }): object {
  const path = typeof request.url === 'string' ? request.url.split('?', 1)[0] : undefined
  return { id: request.id, method: request.method, path }
}
