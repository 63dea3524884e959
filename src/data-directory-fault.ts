import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Keyring, KeyringError, parseKeyLines } from './core/keyring.ts'

/**
 * What is wrong with a directory that is to hold the keys and the embedded database. Only looks: nothing is made.
 *
 * @param directory Absolute.
 * @param keysGiven The keys come from elsewhere.
 */
export function dataDirectoryFault(directory: string, keysGiven: boolean): string | undefined {
  // PostgreSQL's own files name the directory, each on one line.
  if (directory.includes('\n')) return 'must be a path without a line break'
  try {
    const unusable = placeFault(directory)
    if (unusable !== undefined || !existsSync(directory)) return unusable
    return existsSync(join(directory, 'complete')) ? completeFault(directory, keysGiven) : undefined
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException
    if (syscall === undefined) throw error
    return `${directory} cannot be used (${code})`
  }
}

/** What is missing is made, in the nearest directory that is there. */
function placeFault(path: string): string | undefined {
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found) return placeFault(dirname(path))
  if (!found.isDirectory()) return `${path} is not a directory`
  accessSync(path, constants.W_OK | constants.X_OK)
  return undefined
}

function completeFault(directory: string, keysGiven: boolean): string | undefined {
  const keysFile = join(directory, 'keys')
  if (!keysGiven && !existsSync(keysFile))
    return `${directory} has a database but no key: put its file "keys" back, or name another directory`
  if (!existsSync(join(directory, 'database.json')))
    return `${directory} has lost its database.json, which names its database: put it back`
  return keysGiven ? undefined : keysFault(keysFile)
}

function keysFault(keysFile: string): string | undefined {
  try {
    Keyring.parse(parseKeyLines(readFileSync(keysFile, 'utf8')))
    return undefined
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException
    if (syscall !== undefined) return `${keysFile} cannot be read (${code})`
    if (!(error instanceof KeyringError)) throw error
    return `${keysFile} is no longer the file that opens the database (${error.message}): put it back`
  }
}
