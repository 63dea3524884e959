import { readFileSync } from 'node:fs'
import type { Command } from './cli/command.ts'
import { CommandFailed, ExitCode, oneLine, OutputLost, UsageError } from './cli/command.ts'
import { ServiceClient, ServiceProblem, ServiceUnreachable } from './cli/service-client.ts'
import { ConfigError, operatorToken, readClientConfig, readConfig } from './config.ts'
import { VaultError } from './core/errors.ts'
import { StartRefused } from './core/start-refused.ts'
import { openTerminal } from './terminal.ts'

interface Entry {
  summary: string
  help(): Promise<string>
  run(args: string[]): Promise<number>
}

// What a command needs is loaded when it is called: `lease` must not wait for Fastify.
const COMMANDS: Record<string, Entry> = {
  serve: entry('run the service', () => import('./cli/serve.ts'), serveGround),
  demo: entry('show the main job from end to end', () => import('./cli/demo.ts'), demoGround),
  init: entry('make an administrator', () => import('./cli/init.ts'), initGround),
  'db-upgrade': entry('bring the schema up to date', () => import('./cli/db-upgrade.ts'), upgradeGround),
  keygen: entry(
    'make a Fernet key',
    () => import('./cli/keygen.ts'),
    async () => undefined,
  ),
  audit: entry('verify the audit trail', () => import('./cli/audit.ts'), adminGround),
  'rotate-keys': entry(
    'move everything onto another key',
    () => import('./cli/rotate-keys.ts'),
    rotateGround,
  ),
  'migrate-store': entry(
    'move credentials to another store',
    () => import('./cli/migrate-store.ts'),
    adminGround,
  ),
  sweep: entry('delete what is due', () => import('./cli/sweep.ts'), sweepGround),
  lease: entry('lease a credential and print its value', () => import('./cli/lease.ts'), clientGround),
  put: entry('keep a credential, read from standard input', () => import('./cli/put.ts'), clientGround),
}

const UNREACHABLE =
  /^(ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EPROTO|(CERT|ERR_SSL|ERR_TLS|UNABLE_TO|DEPTH_ZERO|SELF_SIGNED)_\w+)$/

/** Runs the command that the arguments name and sets the process's exit code. Prints every error itself. */
export async function run(argv: string[]): Promise<void> {
  try {
    const code = await dispatch(argv)
    await terminal.written()
    process.exitCode = code
  } catch (error) {
    process.exitCode = await explain(error, argv[0])
  }
}

async function dispatch(argv: string[]): Promise<number> {
  const [name, ...args] = argv
  if (name === undefined) throw new UsageError('no command is named')
  if (name === '--help' || name === '-h' || (name === 'help' && args.length === 0)) {
    terminal.out(overview())
    return ExitCode.done
  }
  if (name === '--version') {
    terminal.out(`${version()}\n`)
    return ExitCode.done
  }
  const named = name === 'help' ? args[0]! : name
  const command = Object.hasOwn(COMMANDS, named) ? COMMANDS[named]! : undefined
  if (!command) throw new UsageError(`there is no command ${oneLine(named)}`)
  const options = args.includes('--') ? args.slice(0, args.indexOf('--')) : args
  if (name === 'help' || options.includes('--help') || options.includes('-h')) {
    terminal.out(await command.help())
    return ExitCode.done
  }
  return await command.run(args)
}

async function explain(error: unknown, name: string | undefined): Promise<number> {
  const say = (line: string) => terminal.err(`strongroom: ${oneLine(line)}\n`)
  if (error instanceof UsageError) {
    const known = name !== undefined && Object.hasOwn(COMMANDS, name)
    say(`${error.message} (see strongroom ${known ? `${name} ` : ''}--help)`)
    return ExitCode.usage
  }
  if (error instanceof ConfigError || error instanceof StartRefused) {
    for (const fault of error.faults) say(fault)
    return ExitCode.configuration
  }
  if (error instanceof ServiceProblem) {
    say(`${error.code}: ${error.message}`)
    for (const fault of error.errors)
      terminal.err(`  ${oneLine(`${fault.pointer || '(whole)'}: ${fault.detail}`)}\n`)
    return ExitCode.failed
  }
  if (error instanceof CommandFailed) {
    say(error.message)
    return error.exitCode
  }
  if (error instanceof OutputLost) {
    // Whoever reads no more, as `head` does, need not be told why; but not all that was asked for was done.
    if (error.code !== 'EPIPE') say(error.message)
    return ExitCode.failed
  }
  if (error instanceof ServiceUnreachable) {
    say(error.message)
    return ExitCode.unreachable
  }
  const { describeError } = await import('./log.ts')
  const unreachable = (why: string): number => {
    say(`the database cannot be reached (${why})`)
    return ExitCode.unreachable
  }
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    const { code = '', syscall } = cause as NodeJS.ErrnoException
    if (UNREACHABLE.test(code) || (code === 'ENOENT' && syscall === 'connect')) return unreachable(code)
    if (syscall === 'listen') {
      say(cause.message)
      return ExitCode.configuration
    }
  }
  const { type, message } = describeError(error)
  if (error instanceof VaultError && error.code === 'unavailable') return unreachable(whyUnavailable(error))
  say(message || type)
  return ExitCode.failed
}

/** What has a code is told by it; the driver gives this one none, and the server says why in its last words. */
function whyUnavailable({ cause }: Error): string {
  if (!(cause instanceof Error)) return 'it does not answer'
  if (cause.message === 'The server does not support SSL connections') return 'it speaks no TLS'
  // Only these: what is said of a statement may quote it.
  const { severity } = cause as { severity?: string }
  return severity === 'FATAL' ? cause.message : 'it does not answer'
}

function entry<Ground>(
  summary: string,
  load: () => Promise<{ command: Command<Ground> }>,
  ground: () => Promise<Ground>,
): Entry {
  return {
    summary,
    help: async () => (await load()).command.help,
    run: async (args) => (await load()).command.run(args, terminal, ground),
  }
}

async function serveGround() {
  const config = await readConfig(undefined, 'serve')
  const { createLogger } = await import('./log.ts')
  const { serve } = await import('./server.ts')
  return await serve(config, createLogger(config.logLevel))
}

async function demoGround() {
  const { startDemoGround } = await import('./demo-ground.ts')
  return await startDemoGround()
}

async function initGround() {
  const config = await readConfig(undefined, 'owner')
  const { makeAdministrator } = await import('./server.ts')
  const { createLogger } = await import('./log.ts')
  // Standard output is for the token alone.
  const log = createLogger('error', process.stderr)
  return { makeAdministrator: (identity: string) => makeAdministrator(config, identity, log) }
}

async function sweepGround() {
  const config = await readConfig(undefined, 'serve')
  const { openSweep } = await import('./server.ts')
  const { createLogger } = await import('./log.ts')
  return await openSweep(config, createLogger('error', process.stderr))
}

async function upgradeGround() {
  const config = await readConfig(undefined, 'upgrade')
  const { upgradeDatabase } = await import('./server.ts')
  return { upgrade: () => upgradeDatabase(config) }
}

async function clientGround() {
  const { url, token, workspace } = readClientConfig()
  if (!token) throw new ConfigError(['STRONGROOM_TOKEN: is not set'])
  return { service: new ServiceClient(url, token), ...(workspace !== undefined && { workspace }) }
}

async function adminGround() {
  const config = readClientConfig()
  return { admin: new ServiceClient(config.adminUrl, operatorToken(config)) }
}

async function rotateGround() {
  const config = readClientConfig()
  const admin = new ServiceClient(config.adminUrl, operatorToken(config))
  return { admin, ...(config.keysFile !== undefined && { keysFile: config.keysFile }) }
}

const terminal = openTerminal()

function overview(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length))
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`)
  return `strongroom COMMAND [--help]

A credential vault for data pipelines.

${lines.join('\n')}

Exit codes: 0 done, 1 some failed, 2 usage, 69 service unreachable, 78 configuration; 130 for a
demo that a signal ended.
`
}

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
