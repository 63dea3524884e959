import { isCredentialName, isSlug } from '../core/names.ts'
import { Secret } from '../core/secret.ts'
import { CommandFailed, ExitCode, readArguments, UsageError, wholeNumber, type Command } from './command.ts'
import type { ServiceClient } from './service-client.ts'

/** The service, called as a worker. */
export interface LeaseGround {
  service: ServiceClient
  /** Unless another is named. */
  workspace?: string
}

/** `strongroom lease` */
export const command: Command<LeaseGround> = {
  help: `strongroom lease NAME [--field /pointer] [--workspace W] [--ttl SECONDS] [--version N]
                 [--reason TEXT] [--run-id ID]

Leases a credential and prints its value: a text as it is, anything else as JSON.

  --field /pointer   print one member only, named by a JSON Pointer such as /password
  --workspace W      the credential's workspace (default: STRONGROOM_WORKSPACE)
  --ttl SECONDS      1 to 3600 (default 900); a grant may shorten it
  --version N        a kept version instead of the current one
  --reason TEXT      for the audit trail, as is
  --run-id ID        the pipeline run that needs it

The service is at STRONGROOM_URL (default http://127.0.0.1:7400); STRONGROOM_TOKEN or STRONGROOM_TOKEN_FILE
holds the token.
`,
  async run(args, terminal, ground) {
    const text = { type: 'string' } as const
    const options = { field: text, workspace: text, ttl: text, version: text, reason: text, 'run-id': text }
    const { values, positionals } = readArguments(args, options, ['NAME'])
    const [name] = positionals
    if (!isCredentialName(name)) throw new UsageError('NAME cannot be the name of a credential')
    const path = values.field === undefined ? [] : parsePointer(values.field)
    const body = {
      ttl_seconds: wholeNumber('--ttl', values.ttl, 1, 3600),
      version: wholeNumber('--version', values.version, 1, 999_999_999),
      run_id: values['run-id'],
      reason: values.reason,
    }
    const { service, workspace: usual } = await ground()
    const workspace = values.workspace ?? usual
    if (!isSlug(workspace))
      throw new UsageError('--workspace or STRONGROOM_WORKSPACE must name the workspace')
    const leases = `/v1/workspaces/${workspace}/credentials/${name}/leases`
    const answer = await service.call('POST', leases, new Secret(JSON.stringify(body)))
    const { lease, value } = service.membersOf<Leased>(answer, ['lease', 'value'])
    try {
      const asked = at(value, path)
      terminal.out(`${typeof asked === 'string' ? asked : JSON.stringify(asked)}\n`)
      await terminal.written()
    } catch (error) {
      // Nobody has the value. Where this fails too, the lease ends by its time.
      await service.call('DELETE', `/v1/leases/${lease.id}`).catch(() => undefined)
      throw error
    }
    return ExitCode.done
  },
}

interface Leased {
  lease: { id: string }
  value: unknown
}

/** @see RFC 6901, sections 3 and 4 */
function parsePointer(pointer: string): string[] {
  const wellFormed = (pointer === '' || pointer.startsWith('/')) && !/~(?![01])/.test(pointer)
  if (!wellFormed) throw new UsageError('--field takes a JSON Pointer, such as /password')
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function at(value: unknown, path: string[]): unknown {
  let found = value
  for (const part of path) {
    const isContainer = typeof found === 'object' && found !== null
    const isThere =
      isContainer && Object.hasOwn(found as object, part) && !(Array.isArray(found) && part === 'length')
    if (!isThere) throw new CommandFailed('the value has nothing at that --field')
    found = (found as Record<string, unknown>)[part]
  }
  return found
}
