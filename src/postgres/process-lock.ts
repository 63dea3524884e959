import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { link, open, rename, rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { alive, ownIdentity, type ProcessIdentity } from './embedded-process.ts'

const PATIENCE_MS = 60_000

/** The embedded database cannot be used; the message says why and what to change. */
export class EmbeddedServerError extends Error {
  override readonly name = 'EmbeddedServerError'
}

/**
 * Waits until no other living process holds the lock, and holds it. A lock whose process has ended counts for nothing.
 *
 * @param lock A path in a directory that is there.
 * @returns What gives it up; twice is the same as once.
 * @throws EmbeddedServerError where another holds it for a minute
 */
export async function holdLock(lock: string): Promise<() => Promise<void>> {
  const own = `${lock}.${randomBytes(8).toString('hex')}`
  await writeDurably(own, JSON.stringify(ownIdentity()))
  try {
    // A link appears with its content, so a lock is never seen without its holder's name.
    for (const deadline = Date.now() + PATIENCE_MS; !(await linked(own, lock)); await sleep(20)) {
      await dropStaleLock(lock, `${own}.stale`)
      if (Date.now() > deadline) throw new EmbeddedServerError(`Another process holds ${lock}`)
    }
  } finally {
    await rm(own, { force: true })
  }
  let released: Promise<void> | undefined
  return () => (released ??= rm(lock, { force: true }))
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

async function dropStaleLock(lock: string, aside: string): Promise<void> {
  const seen = textOf(lock)
  if (seen === undefined || alive(JSON.parse(seen) as ProcessIdentity)) return
  try {
    await rename(lock, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  // Another who saw the same stale lock may have been faster: then a living one was moved, and goes back.
  if (textOf(aside) !== seen) await linked(aside, lock)
  await rm(aside, { force: true })
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Writes a file (0600) that is on the disk when this returns. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}
