import { ExitCode, readArguments, type Command } from './command.ts'

/** The database, opened as its owner. */
export interface UpgradeGround {
  upgrade(): Promise<{ applied: string[] }>
}

/** `strongroom db-upgrade` */
export const command: Command<UpgradeGround> = {
  help: `strongroom db-upgrade

Brings the database's schema to what this version knows, makes the role of the service, and plans the
partitions of the coming year. Both URLs must be set: it works as the database's owner
(STRONGROOM_DATABASE_OWNER_URL) and makes the role that STRONGROOM_DATABASE_URL names. It may run again at
any time, and several may start at once.
`,
  async run(args, terminal, ground) {
    readArguments(args, {})
    const { applied } = await (await ground()).upgrade()
    for (const migration of applied) terminal.out(`applied ${migration}\n`)
    if (applied.length === 0) terminal.out('the schema is up to date\n')
    return ExitCode.done
  },
}
