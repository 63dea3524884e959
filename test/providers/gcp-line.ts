import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'

/** What the line does with bytes: `drip` lets one through at a time, `silence` none, `refuse` takes no connections. */
export type LineMode = 'pass' | 'drip' | 'silence' | 'refuse'

/** A TCP line in front of a loopback server that can be made to drip, fall silent, or be cut. */
export interface Line {
  port: number
  set(mode: LineMode): Promise<void>
  /** Connections that were made so far. */
  connections(): number
  close(): Promise<void>
}

const DRIP_MS = 25

/** Lays a line to the port of a loopback server. */
export async function layLine(portBehind: number): Promise<Line> {
  let mode: LineMode = 'pass'
  let made = 0
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (near) => {
    made++
    const far = connect({ port: portBehind, host: '127.0.0.1', noDelay: true })
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.on('data', (bytes) => mode !== 'silence' && far.write(bytes))
    let dripping = Promise.resolve()
    far.on('data', (bytes) => {
      if (mode === 'pass') near.write(bytes)
      if (mode !== 'drip') return
      dripping = dripping.then(() => drip(near, bytes, () => mode === 'drip'))
    })
  })
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) =>
      server.once('error', reject).listen(port, '127.0.0.1', () => resolve()),
    )
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  const stop = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      cut()
    })
  await listen(0)
  const { port } = server.address() as AddressInfo
  return {
    port,
    connections: () => made,
    set: async (next) => {
      const before = mode
      mode = next
      if (next === before) return
      if (next === 'refuse') await stop()
      else if (before === 'refuse') await listen(port)
      // What was swallowed is missing from the stream: such a connection is of no more use.
      if (next === 'pass') cut()
    },
    close: async () => {
      if (server.listening) await stop()
    },
  }
}

async function drip(to: Socket, bytes: Buffer, goesOn: () => boolean): Promise<void> {
  for (const byte of bytes) {
    if (!goesOn() || to.destroyed) return
    to.write(Buffer.of(byte))
    await new Promise((resolve) => setTimeout(resolve, DRIP_MS))
  }
}
