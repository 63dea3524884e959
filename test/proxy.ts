import type { Socket } from 'node:net'
import { createConnection, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Secret } from '../src/core/secret.ts'

/** A wire to the database that a test can cut. */
export interface Proxy {
  /** The same database and role, over the wire. */
  url: Secret
  /** The next thing that the server says is lost, and its connection breaks. */
  cutNextAnswer(): void
  /** The next commit reaches the server or not; what it answers is lost either way, and its connection breaks. */
  cutNextCommit(at: 'before' | 'after'): void
  /** From now on nothing that the server says arrives, and nothing breaks. */
  freeze(): void
  /** Nothing gets through in either direction, and new connections break. */
  cutAll(): void
  /** New connections work again. */
  restore(): void
}

/** A loopback TCP server that passes everything on to PostgreSQL's socket. */
export async function openProxy(t: Test, databaseUrl: Secret): Promise<Proxy> {
  const direct = new URL(databaseUrl.reveal())
  const socketPath = join(decodeURIComponent(direct.hostname), `.s.PGSQL.${direct.port}`)
  const pairs = new Set<[Socket, Socket]>()
  let mode: 'open' | 'cut-next' | 'frozen' | 'cut' = 'open'
  let cutCommit: 'before' | 'after' | undefined

  const server = createServer((near) => {
    const far = createConnection(socketPath)
    const pair: [Socket, Socket] = [near, far]
    const end = (): void => {
      pairs.delete(pair)
      near.destroy()
      far.destroy()
    }
    if (mode === 'cut') return end()
    pairs.add(pair)
    for (const socket of pair) socket.on('error', () => {}).on('close', end)
    near.on('data', (bytes) => {
      const at = bytes.includes('commit\0') ? cutCommit : undefined
      if (at) cutCommit = undefined
      if (at === 'before') return end()
      if (at === 'after') mode = 'cut-next'
      far.write(bytes)
    })
    far.on('data', (bytes) => {
      if (mode === 'open') near.write(bytes)
      if (mode !== 'cut-next') return
      mode = 'open'
      end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cutPairs = (): void => pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()))
  t.teardown(() => {
    cutPairs()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const { username, password, pathname } = direct
  return {
    url: new Secret(`postgres://${username}:${password}@127.0.0.1:${port}${pathname}`),
    cutNextAnswer: () => void (mode = 'cut-next'),
    cutNextCommit: (at) => void (cutCommit = at),
    freeze: () => void (mode = 'frozen'),
    cutAll: () => {
      mode = 'cut'
      cutPairs()
    },
    restore: () => {
      mode = 'open'
    },
  }
}
