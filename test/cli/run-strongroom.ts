import { spawn } from 'node:child_process'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'

const root = join(import.meta.dirname, '../..')

/** What a process of ours needs not compile again, where the tests themselves run so: it decides nothing. */
export const COMPILED: Record<string, string> = process.env.NODE_COMPILE_CACHE
  ? { NODE_COMPILE_CACHE: resolve(process.env.NODE_COMPILE_CACHE) }
  : {}

/** Runs the command line as a user would, with nothing in its environment but what is given. */
export function runStrongroom(args: string[], env: Record<string, string> = {}, input = '') {
  const child = spawn(process.execPath, [join(root, 'bin/strongroom.js'), ...args], {
    env: { ...COMPILED, ...env },
    cwd: root,
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  return new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, out, err }))
  })
}

/** What reached the loopback server. */
export interface Seen {
  method: string
  url: string
  headers: IncomingMessage['headers']
  body: string
}

/** A loopback server that answers each request as told, and remembers all of them. */
export async function loopback(
  answer: (seen: Seen) => { status: number; body?: unknown; headers?: Record<string, string> },
) {
  const seen: Seen[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      const one = { method: request.method!, url: request.url!, headers: request.headers, body }
      seen.push(one)
      const { status, body: answered, headers = {} } = answer(one)
      const type = status >= 400 ? 'application/problem+json' : 'application/json'
      response.writeHead(status, { 'content-type': type, ...headers })
      response.end(answered === undefined ? undefined : JSON.stringify(answered))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, seen, close: () => server.close() }
}
