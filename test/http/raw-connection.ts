import type { FastifyInstance } from 'fastify'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { good } from './stub-deps.ts'

/** What of a test ends what it opened. */
export interface Ends {
  teardown(fn: () => unknown): unknown
}

/** Text on a connection to a listening app, byte for byte as a test wants it. */
export class RawConnection {
  readonly socket: Socket
  /** All that has come so far. */
  text = ''
  closed = false

  constructor(port: number) {
    this.socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    this.socket.setEncoding('utf8')
    this.socket.on('data', (part: string) => (this.text += part))
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => (this.closed = true))
    this.socket.on('end', () => this.socket.end())
  }

  send(...requests: string[]): void {
    this.socket.write(requests.join(''))
  }

  /** Waits until so many answers have begun. */
  async answers(count: number): Promise<{ status: number; head: string; body: string }[]> {
    await until(() => this.text.split('HTTP/1.1 ').length > count)
    await sleep(20)
    return this.text
      .split(/(?=HTTP\/1\.1 \d{3} )/)
      .filter((one) => one !== '')
      .map((one) => {
        const [head = '', body = ''] = one.split('\r\n\r\n')
        return { status: Number(head.slice(9, 12)), head, body }
      })
  }
}

/** Waits for what must become true soon. */
export async function until(holds: () => boolean): Promise<void> {
  const end = performance.now() + 30_000
  while (!holds()) {
    if (performance.now() > end) throw new Error('This did not become true within 30 s')
    await sleep(5)
  }
}

/** Lets the app listen on a free port. */
export async function listening(t: Ends, app: FastifyInstance): Promise<() => RawConnection> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  const open: RawConnection[] = []
  t.teardown(async () => {
    for (const { socket } of open) socket.destroy()
    await app.close()
  })
  return () => {
    const connection = new RawConnection((app.server.address() as AddressInfo).port)
    open.push(connection)
    return connection
  }
}

/** A request with the good token. */
export function requestText(line: string, headers: Record<string, string> = {}): string {
  const all = { host: 'x', authorization: `Bearer ${good.text.reveal()}`, ...headers }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${line} HTTP/1.1\r\n${lines.join('')}\r\n`
}
