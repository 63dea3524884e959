import { lstat, open, readFile, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { FernetKey } from '../core/fernet.ts'
import { Keyring, KeyringError, parseKeyLines } from '../core/keyring.ts'
import { CommandFailed, ExitCode } from './command.ts'

/** A key that stands in the file now. */
export interface AddedKey {
  id: string
  /** Where the file lies as it was before. */
  keptAs: string
}

/**
 * Makes a key and writes it as the first line of the keys file, at once or not at all; the file as it was is kept
 * beside it. Both are 0600 and, where root does this, belong to the file's owner.
 *
 * @param knownIds The keys that the service knows: those of its file, if it is its file.
 * @throws CommandFailed where the file is not the service's or not one to be written to; then nothing has changed.
 */
export async function addKey(path: string, knownIds: readonly string[]): Promise<AddedKey> {
  const owner = await ownerOf(path)
  const next = `${path}.next`
  const handle = await openNew(next)
  try {
    // Read only now: of two who do this at once, the second one gets no further than to open its file.
    const before = await readFile(path, 'utf8')
    demandSameKeys(path, before, knownIds)
    const keptAs = `${path}.before-${new Date().toISOString().replace(/[-:.]/g, '')}`
    await write(await open(keptAs, 'wx', OWNER_ONLY), before, owner)
    const { key, text } = FernetKey.generate()
    await write(handle, `${text.reveal()}\n${before}`, owner)
    await rename(next, path)
    await syncDirectory(dirname(path))
    return { id: key.id, keptAs }
  } catch (error) {
    await handle.close().catch(() => undefined)
    await rm(next, { force: true })
    throw refusalOf(path, error)
  }
}

/** The lines, counted from 1, on which keys of these ids stand; none where the file cannot be read. */
export async function linesOf(path: string, ids: readonly string[]): Promise<Map<string, number>> {
  const lines = new Map<string, number>()
  const text = await readFile(path, 'utf8').catch(() => '')
  for (const [index, line] of text.split('\n').entries()) {
    for (const id of idsIn(line) ?? []) if (ids.includes(id)) lines.set(id, index + 1)
  }
  return lines
}

const OWNER_ONLY = 0o600

interface Owner {
  uid: number
  gid: number
}

async function ownerOf(path: string): Promise<Owner> {
  const found = await lstat(path).catch((error: unknown) => {
    throw refusalOf(path, error)
  })
  if (found.isSymbolicLink())
    throw refused(`${path} is a link, as a mounted secret is: change it where it comes from`)
  const me = process.getuid?.()
  if (me !== undefined && me !== 0 && me !== found.uid)
    throw refused(`${path} belongs to another user: do this as that user`)
  return { uid: found.uid, gid: found.gid }
}

async function openNew(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx', OWNER_ONLY)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw refusalOf(path, error)
    throw refused(`${path} is there: another rotate-keys is at work. If none is, remove that file`)
  }
}

async function write(handle: FileHandle, text: string, { uid, gid }: Owner): Promise<void> {
  try {
    await handle.writeFile(text)
    if (process.getuid?.() === 0) await handle.chown(uid, gid)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

// A rename is durable when its directory is.
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function demandSameKeys(path: string, text: string, knownIds: readonly string[]): void {
  const ids = idsIn(text)
  if (!ids) throw refused(`${path} has not the form of a keys file`)
  const same = ids.length === knownIds.length && ids.every((id) => knownIds.includes(id))
  if (same) return
  const differing = `${path} holds the keys ${ids.join(', ')} and the service knows ${knownIds.join(', ')}`
  throw refused(`${differing}: name the service's own file in STRONGROOM_KEYS_FILE`)
}

function idsIn(text: string): string[] | undefined {
  const keys = parseKeyLines(text)
  try {
    return keys.length === 0 ? [] : Keyring.parse(keys).ids()
  } catch (error) {
    if (error instanceof KeyringError) return undefined
    throw error
  }
}

function refused(message: string): CommandFailed {
  return new CommandFailed(message, ExitCode.configuration)
}

function refusalOf(path: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException
  return code === undefined ? error : refused(`${path} cannot be changed (${code})`)
}
