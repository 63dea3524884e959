import { isSlug } from '../core/names.ts'
import type { Secret } from '../core/secret.ts'
import { ExitCode, readArguments, UsageError, type Command } from './command.ts'

/** The ledger, opened as its owner. */
export interface InitGround {
  makeAdministrator(identity: string): Promise<{ identity: string; token: Secret; expiresAt: Date }>
}

/** `strongroom init` */
export const command: Command<InitGround> = {
  help: `strongroom init [--identity NAME]

Makes an administrator (identity admin unless named) with a token that is valid for a year, and prints the
token on standard output, this once. It works on the database itself, as its owner, and is the way back in
when every token is lost: STRONGROOM_DATABASE_OWNER_URL and STRONGROOM_KEYS must be set, and nothing else; no
external store is opened. The audit trail records it.
`,
  async run(args, terminal, ground) {
    const { values } = readArguments(args, { identity: { type: 'string', default: 'admin' } })
    if (!isSlug(values.identity)) {
      throw new UsageError('--identity takes lower-case letters, digits and hyphens, at most 63')
    }
    const { makeAdministrator } = await ground()
    const made = await makeAdministrator(values.identity)
    terminal.out(`${made.token.reveal()}\n`)
    await terminal.written()
    terminal.err(`administrator ${made.identity}; the token is valid until ${made.expiresAt.toISOString()}\n`)
    return ExitCode.done
  },
}
