import { setTimeout as sleep } from 'node:timers/promises'
import {
  CommandFailed,
  ExitCode,
  oneLine,
  readArguments,
  UsageError,
  type Command,
  type Terminal,
} from './command.ts'
import { listCopies } from './copy-list.ts'
import { addKey, linesOf } from './keys-file.ts'
import type { KeyAnswer, Run } from './rotation-client.ts'
import { processesOf, RotationClient } from './rotation-client.ts'
import { rotationView } from './rotation-progress.ts'
import { durationText, secondsOf } from './run-progress.ts'
import { watch } from './run-watch.ts'
import { ServiceProblem, type ServiceClient } from './service-client.ts'

/** The service's listener for operators, and its keys file where this machine has it. */
export interface RotateGround {
  admin: ServiceClient
  /** Absolute; absent where the keys stand in a variable. */
  keysFile?: string
}

/** `strongroom rotate-keys` */
export const command: Command<RotateGround> = {
  help: `strongroom rotate-keys [--generate | --to KEY_ID | --follow ID]

Moves every sealed copy onto another key, while leases go on, and shows how far that is: a bar on a terminal,
one JSON line a second elsewhere. The key is the first one of the service's keys. At the end it says which
keys nobody needs any more. ^C stops looking, not the rotation.

  --generate    make the key: written as the first line into the keys file (STRONGROOM_KEYS_FILE, or keys in
                the data directory), the file as it was kept beside it; only where one process is registered
  --to KEY_ID   onto this key, which all processes know already
  --follow ID   begin nothing, show this rotation

The listener for operators is at STRONGROOM_ADMIN_URL (default http://127.0.0.1:7401); the token is
STRONGROOM_TOKEN's, else the data directory's. Exit code 1 when copies failed, the rotation was cancelled or
refused, or still runs. docs/key-rotation.md tells the rest.
`,
  async run(args, terminal, ground) {
    const text = { type: 'string' } as const
    const { values } = readArguments(args, { generate: { type: 'boolean' }, to: text, follow: text })
    if (Object.keys(values).length > 1) throw new UsageError('only one of --generate, --to and --follow')
    const { to, follow, generate } = values
    if (to !== undefined && !/^[0-9a-f]{32}$/.test(to))
      throw new UsageError('--to takes the id of a key, 32 hex digits')
    if (follow !== undefined && !/^[0-9a-f-]{36}$/.test(follow))
      throw new UsageError('--follow takes the id of a rotation')
    const { admin, keysFile } = await ground()
    const client = new RotationClient(admin)
    const begun =
      follow === undefined
        ? await begin(terminal, client, generate ? await rollOut(terminal, client, keysFile) : to)
        : await client.read(follow)
    const run = await watch(terminal, begun, {
      view: rotationView,
      read: (id) => client.read(id),
      name: 'the rotation',
      following,
    })
    return await report(terminal, client, run, keysFile)
  },
}

const KNOWN_WITHIN_MS = 30_000

const BY_HAND = `To roll a key out by hand:
  1. strongroom keygen makes a key and says its id. Back it up.
  2. Put it above the old ones into the keys of every process. A keys file is read again within a second;
     STRONGROOM_KEYS needs a restart.
  3. GET /v1/admin/keys on the listener for operators says which processes know it.
  4. strongroom rotate-keys --to KEY_ID
`

/** Writes a new key into the file of the one process, and waits until it knows it. @returns the key's id */
async function rollOut(
  terminal: Terminal,
  client: RotationClient,
  keysFile: string | undefined,
): Promise<string> {
  const keys = await client.keys()
  const processes = processesOf(keys)
  const running = await client.running()
  if (running) throw new CommandFailed(`already_running: ${following(running)}`)
  if (processes.length !== 1) {
    terminal.err(BY_HAND)
    const names = processes.map(oneLine).join(', ')
    throw new CommandFailed(
      `--generate is for one process, and ${processes.length} are registered: ${names} ` +
        '(one that was killed counts for 10 s)',
    )
  }
  if (keysFile === undefined) {
    terminal.err(BY_HAND)
    throw new CommandFailed(
      'STRONGROOM_KEYS holds the keys, and no command can change it',
      ExitCode.configuration,
    )
  }
  const { id, keptAs } = await addKey(keysFile, knownTo(keys, processes))
  terminal.err(
    `The new key ${id} is the first line of ${keysFile}; the file as it was is ${keptAs}.\n` +
      'Back the new file up now, apart from the database: what is sealed from here on needs it.\n',
  )
  const until = performance.now() + KNOWN_WITHIN_MS
  while (performance.now() < until) {
    await sleep(250)
    const now = await client.keys()
    if (knownTo(now, processesOf(now)).includes(id)) return id
  }
  terminal.err(BY_HAND)
  throw new CommandFailed(
    `the service has not taken over ${id} within ${KNOWN_WITHIN_MS / 1000} s, and its log says why: is ` +
      `${keysFile} its own file, and can its user read it? The key stays in it; once it is known: strongroom rotate-keys --to ${id}`,
  )
}

function knownTo(keys: readonly KeyAnswer[], processes: readonly string[]): string[] {
  const known = keys.filter((key) => processes.every((process) => key.processes.includes(process)))
  return known.map((key) => key.id)
}

async function begin(terminal: Terminal, client: RotationClient, toKey: string | undefined): Promise<Run> {
  try {
    const run = await client.start(toKey)
    terminal.err(
      `The rotation ${oneLine(run.id)} moves ${run.total} copies onto the key ${oneLine(run.to_key)}.\n`,
    )
    return run
  } catch (error) {
    if (!(error instanceof ServiceProblem)) throw error
    if (error.code === 'key_not_everywhere') terminal.err(BY_HAND)
    const running = error.code === 'already_running' ? await client.running() : undefined
    if (running) throw new CommandFailed(`already_running: ${following(running)}`)
    throw error
  }
}

function following(run: Run): string {
  return `follow it with strongroom rotate-keys --follow ${oneLine(run.id)}`
}

async function report(
  terminal: Terminal,
  client: RotationClient,
  run: Run,
  keysFile: string | undefined,
): Promise<number> {
  const { state, moved, skipped, failed, failures } = run
  const counts = `${moved} copies moved, ${skipped} sealed anew by others, ${failed} failed`
  switch (state) {
    case 'running':
      terminal.err(`The rotation goes on: ${following(run)}\n`)
      return ExitCode.failed
    case 'cancelled':
      terminal.err(
        `The rotation was cancelled: ${counts}. No key may go; strongroom rotate-keys goes on, --to goes back.\n`,
      )
      return ExitCode.failed
    case 'failed':
      terminal.err(
        `The rotation has ended, but not at zero: ${counts}. No key may go. No key opens these copies:\n`,
      )
      listCopies(terminal, failures, failed, ': audit events with the action rotation:move')
      return ExitCode.failed
    case 'done': {
      terminal.err(`Done in ${durationText(secondsOf(run))}: ${counts}.\n`)
      await reportRetired(terminal, await client.keys(), keysFile)
      return ExitCode.done
    }
  }
}

async function reportRetired(
  terminal: Terminal,
  keys: readonly KeyAnswer[],
  keysFile: string | undefined,
): Promise<void> {
  const retired = keys.filter((key) => !key.sealing && key.copies === 0).map((key) => key.id)
  if (retired.length === 0)
    return terminal.err('No other key is known to a process: nothing is to be removed.\n')
  const lines = keysFile === undefined ? new Map<string, number>() : await linesOf(keysFile, retired)
  terminal.err(
    'No copy needs these keys any more. Remove them from the keys of every process, and keep them\n' +
      'apart for as long as there are backups from before:\n',
  )
  for (const id of retired) {
    const line = lines.get(id)
    terminal.err(`  ${oneLine(id)}${line === undefined ? '' : `  line ${line} of ${keysFile}`}\n`)
  }
}
