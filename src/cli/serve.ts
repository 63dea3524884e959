import { ExitCode, readArguments, type Command } from './command.ts'

/** A service that runs. */
export interface ServeGround {
  serviceUrl: string
  adminUrl: string
  /** Where the first administrator's token lies. */
  adminTokenFile?: string
  /** Key, database and administrator were made just now. */
  firstStart: boolean
  stop(): Promise<void>
  /** Settles when the service has ended, asked or not; absent where it ends only when asked. */
  stopped?: Promise<void>
}

/** `strongroom serve` */
export const command: Command<ServeGround> = {
  help: `strongroom serve

Runs the service until SIGINT or SIGTERM; a second signal ends it at once. The log goes to standard output,
one JSON object a line. Without any setting it makes a key, an embedded PostgreSQL and an administrator in
the data directory (.strongroom), for development. The settings are STRONGROOM_… variables: see README.md.
`,
  async run(args, terminal, ground) {
    readArguments(args, {})
    let signalled = false
    let running: ServeGround | undefined
    const stopping = Promise.withResolvers<undefined>()
    const deaf = terminal.onSignal((again) => {
      if (again) process.exit(ExitCode.failed)
      signalled = true
      // What is still starting is stopped as soon as that is done.
      running?.stop().then(() => stopping.resolve(undefined), stopping.reject)
    })
    try {
      running = await ground()
      terminal.err(greeting(running))
      if (signalled) await running.stop()
      else await Promise.race([running.stopped ?? stopping.promise, stopping.promise])
    } finally {
      deaf()
    }
    if (!signalled) terminal.err('strongroom: the service has ended by itself; the log says why\n')
    return signalled ? ExitCode.done : ExitCode.failed
  },
}

function greeting({ serviceUrl, adminUrl, adminTokenFile, firstStart }: ServeGround): string {
  const lines = [`Strongroom listens on ${serviceUrl}`, `for operators on     ${adminUrl}`]
  if (adminTokenFile !== undefined) lines.push(`administrator's token in ${adminTokenFile}`)
  if (firstStart) lines.push('This was the first start: key, database and administrator are new.')
  return `${lines.join('\n')}\n`
}
