import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Keyring, KeyringError, parseKeyLines } from './core/keyring.ts'

/** The mark that a first start leaves before anything else; it stays. */
export const BEGUN = 'begun'

// All that a start may leave in the data directory, whenever it is killed, and what `rotate-keys` keeps beside the keys.
const OWN = [
  /^(begun|complete|admin\.token|postgres)$/,
  /^database\.json(\.new)?$/,
  /^keys(\.next|\.before-\w+)?$/,
  /^(first-start|database)\.lock(\.[0-9a-f]{16}(\.stale)?)?$/,
]

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
    return existsSync(join(directory, 'complete'))
      ? completeFault(directory, keysGiven)
      : strangerFault(directory)
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

/** Only a directory with nothing in it, or with nothing but what a start left there, may be begun. */
function strangerFault(directory: string): string | undefined {
  // A file system of its own comes with that one.
  const names = readdirSync(directory).filter((name) => name !== 'lost+found')
  const stranger = names.find((name) => !OWN.some((own) => own.test(name)))
  // Without a mark even a file `keys` may be somebody else's.
  const stray = stranger ?? (names.some((name) => isMark(directory, name)) ? undefined : names[0])
  if (stray === undefined) return undefined
  return `${directory} holds ${stray}, which no start left there: name a directory that is empty, or not there yet`
}

/** Versions before the mark `begun` left no other than their lock and `database.json`, a name that others may use. */
function isMark(directory: string, name: string): boolean {
  if (name !== 'database.json') return name === BEGUN || name.startsWith('first-start.lock')
  return readFileSync(join(directory, name), 'utf8').includes('"socketDirectory"')
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
