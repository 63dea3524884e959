// The load, in a process of its own: keeps every connection busy for a while and reports what it saw as one JSON line.
// Raw sockets, because a heavier client would be what is measured.
import { connect, type Socket } from 'node:net'

/** What `run.ts` asks for, in the first argument as JSON. */
export interface LoadOrder {
  host: string
  port: number
  connections: number
  seconds: number
  warmUpSeconds: number
  /** One of these texts for each connection, by its number. */
  tokens: string[]
  /** Paths with `{n}` for a random number below `names`. */
  path: string
  names: number
  /** Body with `{batch}` for a random list of `batch` names. */
  body: string
  batch: number
}

/** What one run saw, after its warm-up. */
export interface LoadResult {
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Answers that were not 200 or 201. */
  failed: number
}

const order = JSON.parse(process.argv[2] ?? '{}') as LoadOrder
const latencies: number[] = []
let failed = 0
let measuring = false
let stopped = false

function request(connection: number): string {
  const name = (): string => `cred-${Math.floor(Math.random() * order.names)}`
  const names = (): string =>
    JSON.stringify([...new Set(Array.from({ length: order.batch * 2 }, name))].slice(0, order.batch))
  const body = order.body.replace('{batch}', names)
  const path = order.path.replace('{n}', name)
  const token = order.tokens[connection % order.tokens.length]
  return (
    `POST ${path} HTTP/1.1\r\nhost: ${order.host}\r\nauthorization: Bearer ${token}\r\n` +
    `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  )
}

function drive(connection: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(order.port, order.host)
    socket.setNoDelay(true)
    let received = Buffer.alloc(0)
    let sentAt = 0
    const send = (): void => {
      sentAt = performance.now()
      socket.write(request(connection))
    }
    socket.on('connect', send)
    socket.on('error', reject)
    socket.on('close', () => (stopped ? resolve() : reject(new Error('the server closed a connection'))))
    socket.on('data', (chunk) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
      const end = received.indexOf('\r\n\r\n')
      if (end < 0) return
      const head = received.toString('latin1', 0, end)
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1])
      if (received.length < end + 4 + length) return
      received = Buffer.alloc(0)
      if (measuring) {
        latencies.push(performance.now() - sentAt)
        if (!/^HTTP\/1\.1 20[01]/.test(head)) failed++
      }
      if (stopped) socket.end()
      else send()
    })
  })
}

const driving = Promise.all(Array.from({ length: order.connections }, (_, connection) => drive(connection)))
await sleep(order.warmUpSeconds)
measuring = true
const beganAt = performance.now()
await sleep(order.seconds)
measuring = false
const seconds = (performance.now() - beganAt) / 1000
stopped = true
await driving
latencies.sort((a, b) => a - b)
const at = (share: number): number =>
  Number((latencies[Math.floor(latencies.length * share)] ?? 0).toFixed(2))
const result: LoadResult = {
  requestsPerSecond: Math.round(latencies.length / seconds),
  p50Ms: at(0.5),
  p99Ms: at(0.99),
  failed,
}
process.stdout.write(`${JSON.stringify(result)}\n`)

function sleep(forSeconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, forSeconds * 1000))
}
