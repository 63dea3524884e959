import { FernetKey } from '../core/fernet.ts'
import { ExitCode, readArguments, type Command } from './command.ts'

/** `strongroom keygen` */
export const command: Command<undefined> = {
  help: `strongroom keygen

Makes a Fernet key and prints it on standard output, for STRONGROOM_KEYS or a keys file; its id goes to
standard error. It is kept nowhere: whoever loses the key loses what is sealed with it.
`,
  async run(args, terminal) {
    readArguments(args, {})
    const { key, text } = FernetKey.generate()
    terminal.out(`${text.reveal()}\n`)
    // The id of a key that nobody has would only mislead.
    await terminal.written()
    terminal.err(`key id ${key.id}\n`)
    return ExitCode.done
  },
}
