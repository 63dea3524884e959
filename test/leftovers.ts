import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { realpathSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { serversUid, shutDown } from '../src/postgres/embedded-cluster.ts'
import { homeOf } from '../src/postgres/embedded-place.ts'
import { findPostmaster } from '../src/postgres/embedded-process.ts'
import { removeEmbeddedServer } from '../src/postgres/embedded-server.ts'
import { EmbeddedServerError } from '../src/postgres/process-lock.ts'

// Clusters and databases are deleted when all tests have ended, and not after each: a file system such as ext4 without a
// journal goes past every file that was deleted in the last minutes for each that is made, and a database is a thousand.

/** Where the tests' PostgreSQL lives; `test/after.ts` removes it. */
export function testDataDirectory(): string {
  const project = createHash('sha256')
    .update(import.meta.dirname)
    .digest('hex')
    .slice(0, 8)
  return join(tmpdir(), `strongroom-test-${userInfo().username}-${project}`)
}

const list = (): string => join(testDataDirectory(), 'leftovers')

/**
 * A directory of the test's own, which may become a data directory or hold some directly below it: their embedded servers
 * are stopped after the test, and all of it is removed at the end, whatever became of the test.
 */
export function temporaryDirectory(t: Test): string {
  const parent = realpathSync(mkdtempSync(join(tmpdir(), 'strongroom-test-')))
  mkdirSync(testDataDirectory(), { recursive: true, mode: 0o700 })
  appendFileSync(list(), `${parent}\n`)
  t.teardown(async () => {
    for (const directory of dataDirectoriesIn(parent)) await shutDown(homeOf(directory), true)
  })
  return parent
}

/** Removes all that was left. @returns the directories that another process still uses */
export async function removeLeftovers(): Promise<string[]> {
  const used: string[] = []
  const parents = existsSync(list()) ? readFileSync(list(), 'utf8').split('\n').filter(Boolean) : []
  for (const parent of parents) {
    try {
      for (const directory of dataDirectoriesIn(parent)) await removeEmbeddedServer(directory)
    } catch (error) {
      if (!(error instanceof EmbeddedServerError)) throw error
      // Some tests leave a database.json that is none, and no server.
      if (dataDirectoriesIn(parent).some(hasServer)) {
        used.push(parent)
        continue
      }
    }
    rmSync(parent, { recursive: true, force: true })
  }
  return used
}

function hasServer(dataDirectory: string): boolean {
  const home = homeOf(dataDirectory)
  return findPostmaster(home.cluster, serversUid(home)) !== undefined
}

function dataDirectoriesIn(parent: string): string[] {
  const below = existsSync(parent) ? readdirSync(parent, { withFileTypes: true }) : []
  const directories = below.filter((entry) => entry.isDirectory()).map(({ name }) => join(parent, name))
  return [...directories, parent]
}
