import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { removeEmbeddedServer } from '../src/postgres/embedded-server.ts'
import { EmbeddedServerError } from '../src/postgres/process-lock.ts'
import { removeLeftovers, testDataDirectory } from './leftovers.ts'

// tap runs this once, after all test files: the PostgreSQL that they shared goes, and all data with it.
const directory = testDataDirectory()
if (existsSync(directory)) {
  try {
    await removeEmbeddedServer(directory)
    for (const used of await removeLeftovers())
      process.stderr.write(`${used} is still in use: a test has left a process\n`)
    await rm(directory, { recursive: true, force: true })
  } catch (error) {
    // Another run of the tests in this tree still uses it, and will remove it.
    if (!(error instanceof EmbeddedServerError)) throw error
  }
}
