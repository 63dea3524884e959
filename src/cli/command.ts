import { parseArgs, type ParseArgsConfig } from 'node:util'

/** What a process of ours ends with. */
export const ExitCode = { done: 0, failed: 1, usage: 2, unreachable: 69, configuration: 78 } as const

/** One command: it reads its arguments, calls what `src/main.ts` hands it, prints, and answers an exit code. */
export interface Command<Ground> {
  /** The whole of its help, ending in a line break. */
  help: string
  /** @param ground Asked for after the arguments were understood: it may start a service. */
  run(args: string[], terminal: Terminal, ground: () => Promise<Ground>): Promise<number>
}

/** Where a command reads and writes. */
export interface Terminal {
  /**
   * Writes to standard output what was asked for.
   *
   * @throws OutputLost where something before it could not be written
   */
  out(text: string): void
  /**
   * Settles when all of that was written.
   *
   * @throws OutputLost
   */
  written(): Promise<void>
  /** Writes to standard error what is said besides. */
  err(text: string): void
  /** All of standard input. */
  input(): Promise<Buffer>
  inputIsTyped: boolean
  /** Asks whoever types for one line; an empty one where the input ends. */
  ask(question: string): Promise<string>
  /** Standard output where it is a terminal, for what is drawn over and over. */
  screen: NodeJS.WriteStream | undefined
  /** Colours the text where standard output is a terminal. */
  style(format: 'bold' | 'dim' | 'green' | 'red' | 'cyan', text: string): string
  /**
   * Calls back at SIGINT and SIGTERM, until the function that it answers is called. `again` is false the first time.
   */
  onSignal(told: (again: boolean) => void): () => void
}

/** The command was not called as its help says. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

/** The command did not do what it was asked for; the message is one line for a person. */
export class CommandFailed extends Error {
  readonly exitCode: number

  constructor(message: string, exitCode: number = ExitCode.failed) {
    super(message)
    this.name = 'CommandFailed'
    this.exitCode = exitCode
  }
}

/** Standard output is full, or nobody reads it any more. */
export class OutputLost extends Error {
  readonly code: string

  constructor(code = 'unknown fault') {
    super(`standard output cannot be written to (${code})`)
    this.name = 'OutputLost'
    this.code = code
  }
}

type Options = NonNullable<ParseArgsConfig['options']>

/**
 * Reads a command's arguments.
 *
 * @param names Of the positional arguments, all of which must be there.
 * @throws UsageError
 */
export function readArguments<const O extends Options>(
  args: string[],
  options: O,
  names: readonly string[] = [],
) {
  const { values, positionals } = parse(args, options)
  if (positionals.length < names.length) throw new UsageError(`${names[positionals.length]} is missing`)
  // What is too much is not repeated: it may be a value that belongs on standard input.
  if (positionals.length > names.length)
    throw new UsageError('there are more arguments than this command takes')
  return { values, positionals }
}

/** @throws UsageError unless the text is a whole number in the range. */
export function wholeNumber(option: string, text: string | undefined, least: number, most: number) {
  if (text === undefined) return undefined
  const number = /^[0-9]{1,10}$/.test(text) ? Number(text) : NaN
  if (number >= least && number <= most) return number
  throw new UsageError(`${option} takes a whole number from ${least} to ${most}`)
}

/** The text on one line and without what a terminal obeys. */
export function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ').trim()
}

function parse<const O extends Options>(args: string[], options: O) {
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true })
  } catch (error) {
    // Only parseArgs's own complaints have such a code, and of what was typed they name options.
    const { code, message } = error as NodeJS.ErrnoException
    if (!code?.startsWith('ERR_PARSE_ARGS')) throw error
    throw new UsageError(oneLine(message.split(/[.\n]/, 1)[0]!))
  }
}
