import { oneLine, type Terminal } from './command.ts'

/** A copy that was not moved, and why. */
export interface UnmovedCopy {
  workspace: string
  credential: string
  version: number
  code: string
}

/** Lists copies that were not moved: the service names the first 100 of them. @param elsewhere Where the others are. */
export function listCopies(
  terminal: Terminal,
  copies: readonly UnmovedCopy[],
  total: number,
  elsewhere: string,
): void {
  for (const { workspace, credential, version, code } of copies)
    terminal.err(`  ${oneLine(`${workspace}/${credential} version ${version}: ${code}`)}\n`)
  const more = total - copies.length
  if (more > 0) terminal.err(`  and ${more} more${elsewhere}\n`)
}
