import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { shutDown } from '../src/postgres/embedded-cluster.ts'
import { homeOf } from '../src/postgres/embedded-place.ts'
import { removeEmbeddedServer } from '../src/postgres/embedded-server.ts'

// What a test leaves is deleted when all have ended, and not after each: a file system such as ext4 without a journal
// goes past every file that was deleted in the last minutes for every one that is made, and a database is a thousand files.

/** Where the tests' PostgreSQL lives; `test/after.ts` removes it. */
export function testDataDirectory(): string {
  const project = createHash('sha256')
    .update(import.meta.dirname)
    .digest('hex')
    .slice(0, 8)
  return join(tmpdir(), `strongroom-test-${userInfo().username}-${project}`)
}

const list = (): string => join(testDataDirectory(), 'leftovers')

/** Stops the embedded server of a data directory, if there is one, and has all of it removed at the end. */
export async function leaveServer(dataDirectory: string): Promise<void> {
  await shutDown(homeOf(dataDirectory))
  mkdirSync(testDataDirectory(), { recursive: true, mode: 0o700 })
  appendFileSync(list(), `${dataDirectory}\n`)
}

/** The same of every directory directly below `parent`, which is removed with them. */
export async function leaveServersBelow(parent: string): Promise<void> {
  for (const entry of readdirSync(parent, { withFileTypes: true })) {
    if (entry.isDirectory()) await leaveServer(join(parent, entry.name))
  }
  await leaveServer(parent)
}

/** Removes all that was left. */
export async function removeLeftovers(): Promise<void> {
  if (!existsSync(list())) return
  for (const dataDirectory of readFileSync(list(), 'utf8').split('\n').filter(Boolean)) {
    await removeEmbeddedServer(dataDirectory)
    rmSync(dataDirectory, { recursive: true, force: true })
  }
  rmSync(list())
}
