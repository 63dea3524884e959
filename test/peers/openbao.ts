import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Paths of what a listener with TLS needs. */
export interface OpenBaoTls {
  cert_file: string
  key_file: string
  ca_file: string
}

/** A real OpenBao server on loopback, with its storage in a temporary folder; not shared with anybody. */
export interface OpenBao {
  address: string
  tlsAddress: string | undefined
  /** For files that a test needs beside the server. */
  home: string
  /** Calls the API as root; a refusal throws. */
  root(method: string, path: string, body?: object, namespace?: string): Promise<Record<string, unknown>>
  seal(): Promise<void>
  unseal(): Promise<void>
  /** Ends the process; `start` begins it again on the same storage and ports, unsealed. */
  stop(): Promise<void>
  start(): Promise<void>
  close(): Promise<void>
}

const BAO = join(import.meta.dirname, '..', '..', '.venv', 'bin', 'bao')

/** Starts a server and unseals it. */
export async function startOpenBao(tls?: OpenBaoTls): Promise<OpenBao> {
  const home = mkdtempSync(join(tmpdir(), 'strongroom-openbao-'))
  const [port, clusterPort, tlsPort] = [await freePort(), await freePort(), tls && (await freePort())]
  const address = `http://127.0.0.1:${port}`
  const storage = join(home, 'storage')
  mkdirSync(storage)
  const config = join(home, 'config.json')
  const plain = {
    address: `127.0.0.1:${port}`,
    cluster_address: `127.0.0.1:${clusterPort}`,
    tls_disable: true,
  }
  const secure = tls && {
    address: `127.0.0.1:${tlsPort}`,
    cluster_address: '127.0.0.1:0',
    tls_cert_file: tls.cert_file,
    tls_key_file: tls.key_file,
  }
  const settings = {
    storage: { raft: { path: storage, node_id: 'one' } },
    api_addr: address,
    cluster_addr: `https://127.0.0.1:${clusterPort}`,
    listener: [{ tcp: plain }, ...(secure ? [{ tcp: secure }] : [])],
  }
  writeFileSync(config, JSON.stringify(settings))
  const log = join(home, 'log')
  let child: ChildProcess | undefined
  let rootToken = ''
  let unsealKey = ''

  async function call(method: string, path: string, body?: object, namespace?: string): Promise<Response> {
    return await fetch(`${address}/v1/${path}`, {
      method,
      headers: { 'x-vault-token': rootToken, ...(namespace && { 'x-vault-namespace': namespace }) },
      ...(body && { body: JSON.stringify(body) }),
    })
  }

  const bao: OpenBao = {
    address,
    tlsAddress: tls && `https://127.0.0.1:${tlsPort}`,
    home,
    async root(method, path, body, namespace) {
      const answer = await call(method, path, body, namespace)
      const text = await answer.text()
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
      return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
    },
    async seal() {
      await bao.root('PUT', 'sys/seal')
    },
    async unseal() {
      await bao.root('PUT', 'sys/unseal', { key: unsealKey })
      for (let tries = 0; (await call('GET', 'sys/health')).status !== 200; tries++) {
        if (tries > 100) throw new Error(`bao does not become active: ${readFileSync(log, 'utf8')}`)
        await sleep(100)
      }
    },
    async stop() {
      const ending = child
      child = undefined
      if (!ending || ending.exitCode !== null) return
      const ended = new Promise<void>((resolve) => ending.once('exit', () => resolve()))
      ending.kill('SIGTERM')
      const late = setTimeout(() => ending.kill('SIGKILL'), 5_000)
      await ended
      clearTimeout(late)
    },
    async start() {
      const out = openSync(log, 'a')
      child = spawn(BAO, ['server', `-config=${config}`], {
        env: { HOME: home, PATH: '/usr/bin:/bin' },
        stdio: ['ignore', out, out],
      })
      closeSync(out)
      for (let tries = 0; ; tries++) {
        const up = await call('GET', 'sys/init').catch(() => undefined)
        if (up?.ok) break
        if (tries > 200 || child.exitCode !== null)
          throw new Error(`bao does not start: ${readFileSync(log, 'utf8')}`)
        await sleep(100)
      }
      if (unsealKey) await bao.unseal()
    },
    async close() {
      await bao.stop()
      rmSync(home, { recursive: true, force: true })
    },
  }

  try {
    await bao.start()
    const made = await bao.root('PUT', 'sys/init', { secret_shares: 1, secret_threshold: 1 })
    rootToken = made['root_token'] as string
    unsealKey = (made['keys'] as string[])[0]!
    await bao.unseal()
  } catch (error) {
    await bao.close()
    throw error
  }
  return bao
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
