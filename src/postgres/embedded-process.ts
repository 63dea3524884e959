import { execFileSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'

/** A process that is told from every other that had or will have its number. */
export interface ProcessIdentity {
  pid: number
  /** When it began, in whatever unit this system counts; compared for equality only. */
  startedAt: string
}

/** This process. */
export function ownIdentity(): ProcessIdentity {
  return { pid: process.pid, startedAt: startOf(process.pid) ?? '' }
}

/** Whether that very process still runs. */
export function alive(identity: ProcessIdentity): boolean {
  return startOf(identity.pid) === identity.startedAt
}

/** When the process with this number began, or undefined when there is none (a zombie is none). */
export function startOf(pid: number): string | undefined {
  if (process.platform === 'linux') {
    const stat = readText(`/proc/${pid}/stat`)
    // The name in the second field may hold spaces and brackets, so the fields are counted after its last bracket.
    const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields === undefined || fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  }
  const shown = ps(pid, 'stat=,lstart=')
  return shown === undefined || shown.startsWith('Z') ? undefined : shown.slice(shown.indexOf(' ')).trim()
}

/**
 * The number of the postmaster that runs on exactly this cluster as exactly this user, if one does.
 *
 * The file alone proves nothing: its process may have died and its number may belong to another by now.
 */
export function findPostmaster(cluster: string, uid: number): number | undefined {
  const lines = readText(join(cluster, 'postmaster.pid'))?.split('\n')
  const pid = Number(lines?.[0])
  if (lines?.[1] !== cluster || !Number.isSafeInteger(pid) || pid < 2 || startOf(pid) === undefined)
    return undefined
  // Its command line rather than its working directory: to read the latter of another user's process even
  // root needs a capability that containers do not have. Its children replace theirs, so they never match.
  if (process.platform === 'linux') {
    const argv = readText(`/proc/${pid}/cmdline`)?.split('\0') ?? []
    const ours = basename(argv[0] ?? '') === 'postgres' && argv[1] === '-D' && argv[2] === cluster
    return ours && statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid === uid ? pid : undefined
  }
  const [, owner, command] = /^(-?\d+) +(.*)$/s.exec(ps(pid, 'uid=,command=') ?? '') ?? []
  return Number(owner) === uid && command?.includes(`/postgres -D ${cluster} `) ? pid : undefined
}

/** The number that `postmaster.pid` names, whoever has it now; undefined when nobody has. */
export function namedInPidFile(cluster: string): number | undefined {
  const pid = Number(readText(join(cluster, 'postmaster.pid'))?.split('\n')[0])
  return Number.isSafeInteger(pid) && pid > 0 && startOf(pid) !== undefined ? pid : undefined
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    // ESRCH: the process ended between the opening and the reading of its file in /proc.
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
}

function ps(pid: number, columns: string): string | undefined {
  try {
    return execFileSync('/bin/ps', ['-ww', '-o', columns, '-p', String(pid)], {
      encoding: 'utf8',
      env: {},
    }).trim()
  } catch (error) {
    if ((error as { status?: number | null }).status === 1) return undefined
    throw error
  }
}
