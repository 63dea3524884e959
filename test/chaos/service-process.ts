import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import type { TestGround } from '../ground.ts'
import { COMPILED, runStrongroom } from '../cli/run-strongroom.ts'

const root = join(import.meta.dirname, '../..')

/** How a process ended. */
export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
}

/** `strongroom serve` in a process of its own, which is killed after the test. */
export interface ServiceProcess {
  pid: number
  serviceUrl: string
  adminUrl: string
  /** What it said so far: its log, and what is for people. */
  out(): string
  err(): string
  ended: Promise<Ended>
  /** Sends the signal to this process only, and waits for its end. */
  end(signal: NodeJS.Signals): Promise<Ended>
}

type Environment = Record<string, string>

/** Loopback, on free ports. */
export const FREE_PORTS = { STRONGROOM_LISTEN: '127.0.0.1:0', STRONGROOM_ADMIN_LISTEN: '127.0.0.1:0' }

/** On a busy machine what is late has not failed: only a test of the deadline sets a short one. */
const PATIENT = { STRONGROOM_DEADLINE_SECONDS: '15' }

/** Starts a service and does not wait. `listening` tells its two addresses, or fails when it ends before. */
export function launchService(t: Test, env: Environment) {
  const child: ChildProcess = spawn(
    process.execPath,
    ['--disable-sigusr1', join(root, 'bin/strongroom.js'), 'serve'],
    {
      env: { ...COMPILED, ...FREE_PORTS, ...PATIENT, STRONGROOM_RATE_LIMIT: '0', ...env },
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  let [out, err] = ['', '']
  const greeted = Promise.withResolvers<{ serviceUrl: string; adminUrl: string }>()
  greeted.promise.catch(() => {})
  child.stdout!.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr!.on('data', (chunk: Buffer) => {
    err += chunk.toString()
    const [, serviceUrl, adminUrl] = /listens on (\S+)\nfor operators on +(\S+)\n/.exec(err) ?? []
    if (serviceUrl && adminUrl) greeted.resolve({ serviceUrl, adminUrl })
  })
  const ended: Promise<Ended> = once(child, 'close').then(([code, signal]) => {
    greeted.reject(new Error(`The service ended with ${code ?? signal}: ${err}`))
    return { code, signal }
  })
  const end = (signal: NodeJS.Signals): Promise<Ended> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    return ended
  }
  t.teardown(() => end('SIGKILL'))
  return { pid: child.pid!, out: () => out, err: () => err, ended, end, listening: greeted.promise }
}

/** Starts a service and waits until it listens. */
export async function startService(t: Test, env: Environment): Promise<ServiceProcess> {
  const { listening, ...launched } = launchService(t, env)
  return { ...launched, ...(await listening) }
}

/** Waits for a service that should not start, and says what it left. */
export async function refusedStart(t: Test, env: Environment): Promise<{ code: number | null; err: string }> {
  const launched = launchService(t, env)
  launched.listening.then(() => launched.end('SIGKILL')).catch(() => {})
  return { code: (await launched.ended).code, err: launched.err() }
}

/** The environment for a service on a test's own database. */
export function onGround(ground: TestGround, more: Environment = {}): Environment {
  return {
    STRONGROOM_DATABASE_URL: ground.databaseUrl.reveal(),
    STRONGROOM_KEYS: ground.keys.map((key) => key.reveal()).join(','),
    ...more,
  }
}

/** Makes an administrator by the command line, and answers his token. */
export async function initAdministrator(ground: TestGround): Promise<string> {
  const { code, out, err } = await runStrongroom(['init', '--identity', 'operator'], {
    STRONGROOM_DATABASE_OWNER_URL: ground.ownerUrl.reveal(),
    STRONGROOM_KEYS: ground.keys.map((key) => key.reveal()).join(','),
  })
  if (code !== 0) throw new Error(`strongroom init ended with ${code}: ${err}`)
  return out.trim()
}

/** The processes of PostgreSQL below the postmaster whose cluster lies in the data directory, itself first. */
export function databaseProcesses(dataDirectory: string): number[] {
  const { directory } = JSON.parse(readFileSync(join(dataDirectory, 'database.json'), 'utf8'))
  const postmaster = Number(readFileSync(join(directory, 'cluster/postmaster.pid'), 'utf8').split('\n')[0])
  const children = processes().filter((one) => one.parent === postmaster)
  return [postmaster, ...children.map((one) => one.pid)]
}

/** The processes whose command line names the directory. */
export function processesNaming(directory: string): number[] {
  return processes()
    .filter((one) => one.command.includes(directory))
    .map((one) => one.pid)
}

function processes(): { pid: number; parent: number; command: string }[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^[0-9]+$/.test(name)) return []
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8')
      return state === 'Z' ? [] : [{ pid: Number(name), parent: Number(parent), command }]
    } catch {
      // It ended meanwhile.
      return []
    }
  })
}

/** Asks again until it is so. @throws Error after `patienceMs` */
export async function until(what: string, patienceMs: number, so: () => boolean | Promise<boolean>) {
  for (const deadline = performance.now() + patienceMs; !(await so()); await sleep(20)) {
    if (performance.now() > deadline) throw new Error(`After ${patienceMs} ms it is still not so: ${what}`)
  }
}
