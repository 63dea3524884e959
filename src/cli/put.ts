import { isCredentialName, isSlug } from '../core/names.ts'
import { Secret } from '../core/secret.ts'
import { ExitCode, oneLine, readArguments, UsageError, type Command } from './command.ts'
import type { ServiceClient } from './service-client.ts'

/** The service, called as somebody who keeps credentials. */
export interface PutGround {
  service: ServiceClient
  /** Unless another is named. */
  workspace?: string
}

/** `strongroom put` */
export const command: Command<PutGround> = {
  help: `strongroom put NAME --connector C [--workspace W] [--label k=v]… [--store S] [--text]

Keeps a credential, new or as a new version. The value is read from standard input as JSON, never from an
argument; prints the name, the version, and whether anything changed. The credential is then as it is said
here: labels that are not given again are taken away, and so is an expiry.

  --connector C      the kind of system that it opens, such as source-postgres
  --workspace W      the credential's workspace (default: STRONGROOM_WORKSPACE)
  --label k=v        may be repeated; the labels given replace those there were
  --store S          where to keep the value (default: the workspace's store); only for a new credential
  --text             the input is a text, kept as a JSON string; one line break at its end is left out

The service is at STRONGROOM_URL (default http://127.0.0.1:7400); STRONGROOM_TOKEN or STRONGROOM_TOKEN_FILE
holds the token.
`,
  async run(args, terminal, ground) {
    const text = { type: 'string' } as const
    const { values, positionals } = readArguments(
      args,
      {
        connector: text,
        workspace: text,
        store: text,
        label: { ...text, multiple: true },
        text: { type: 'boolean', default: false },
      },
      ['NAME'],
    )
    const [name] = positionals
    if (!isCredentialName(name)) throw new UsageError('NAME cannot be the name of a credential')
    if (!isSlug(values.connector)) throw new UsageError('--connector must name the connector')
    const { connector, store } = values
    const labels = Object.fromEntries((values.label ?? []).map(parseLabel))
    const { service, workspace: usual } = await ground()
    const workspace = values.workspace ?? usual
    if (!isSlug(workspace))
      throw new UsageError('--workspace or STRONGROOM_WORKSPACE must name the workspace')
    if (terminal.inputIsTyped) terminal.err('The value, please, and ^D at its end:\n')
    const value = readValue(await terminal.input(), values.text)
    const rest = JSON.stringify({ connector, store, labels: values.label && labels }).slice(1)
    // The text goes as it was read: what parsing would change is for the service to refuse, not for us to lose.
    const body = new Secret(`{"value":${value.reveal()},${rest}`)
    const path = `/v1/workspaces/${workspace}/credentials/${name}`
    const answer = await service.call('PUT', path, body)
    const kept = service.membersOf<Kept>(answer, ['name', 'version', 'changed'])
    terminal.out(`${oneLine(kept.name)} version ${kept.version} ${kept.changed ? 'changed' : 'unchanged'}\n`)
    return ExitCode.done
  },
}

interface Kept {
  name: string
  version: number
  changed: boolean
}

function parseLabel(text: string): [string, string] {
  const split = text.indexOf('=')
  if (split < 1) throw new UsageError('--label takes a key and a value, such as team=data')
  return [text.slice(0, split), text.slice(split + 1)]
}

function readValue(bytes: Buffer, isText: boolean): Secret {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new UsageError('standard input is not UTF-8')
  }
  if (isText) return new Secret(JSON.stringify(text.replace(/\r?\n$/, '')))
  try {
    JSON.parse(text)
  } catch {
    // The parser's message quotes the text.
    throw new UsageError('standard input is not JSON; --text keeps a plain text')
  }
  return new Secret(text)
}
