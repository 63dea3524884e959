import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { LoadOrder, LoadResult } from './load.ts'

/** A server that the bench started, by the address that it printed first. */
export interface Started {
  url: URL
  child: ChildProcess
  stop(): Promise<void>
}

const here = import.meta.dirname

/** Starts a script of this folder and waits for the address that it prints. */
export async function startScript(
  script: string,
  args: string[],
  env: Record<string, string>,
): Promise<Started> {
  const child = spawn(process.execPath, [`${here}/${script}`, ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout! }).once('line', resolve)
    child.once('exit', (code) => reject(new Error(`${script} ended with ${code}`)))
  })
  return { url: new URL(line), child, stop: () => stop(child) }
}

/** Starts `strongroom serve` as an operator would, and says how long it took until it was ready, in milliseconds. */
export async function startService(
  env: Record<string, string>,
  port: number,
): Promise<Started & { readyMs: number }> {
  const beganAt = performance.now()
  const bin = `${here}/../../bin/strongroom.js`
  const listen = { STRONGROOM_LISTEN: `127.0.0.1:${port}`, STRONGROOM_ADMIN_LISTEN: `127.0.0.1:${port + 1}` }
  const child = spawn(process.execPath, ['--disable-sigusr1', bin, 'serve'], {
    env: { PATH: process.env.PATH, STRONGROOM_LOG_LEVEL: 'warn', ...listen, ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const url = new URL(`http://127.0.0.1:${port}`)
  while (!(await ready(url))) {
    if (child.exitCode !== null) throw new Error(`strongroom serve ended with ${child.exitCode}`)
    if (performance.now() - beganAt > 60_000) throw new Error('strongroom serve is not ready after a minute')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return { url, child, readyMs: performance.now() - beganAt, stop: () => stop(child) }
}

async function ready(url: URL): Promise<boolean> {
  try {
    return (await fetch(new URL('/health/ready', url))).ok
  } catch {
    return false
  }
}

/** Runs the load in a process of its own. */
export async function load(server: Started, order: Omit<LoadOrder, 'host' | 'port'>): Promise<LoadResult> {
  const full: LoadOrder = { ...order, host: server.url.hostname, port: Number(server.url.port) }
  const child = spawn(process.execPath, [`${here}/load.ts`, JSON.stringify(full)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  for await (const chunk of child.stdout) output += chunk
  return JSON.parse(output) as LoadResult
}

/** Resident memory of a process, in MiB. */
export function residentMiB(child: ChildProcess): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return Math.round(Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024)
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await ended
}
