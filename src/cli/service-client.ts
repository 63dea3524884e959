import type Http from 'node:http'
import { createRequire } from 'node:module'
import type { Secret } from '../core/secret.ts'

// Not imported: that asks for every export of node:http, and one of them loads the whole of fetch, also for `serve`.
const require = createRequire(import.meta.url)

/** An answer that is no problem. */
export interface Answer {
  status: number
  /** Parsed; undefined where the answer has none. */
  body: unknown
}

/** One fault in the form of a request, as the service tells it. */
export interface ProblemFault {
  pointer: string
  detail: string
}

/** The service refused or failed, and said why. */
export class ServiceProblem extends Error {
  readonly status: number
  readonly code: string
  readonly errors: ProblemFault[]

  constructor(status: number, code: string, detail: string, errors: ProblemFault[]) {
    super(detail)
    this.name = 'ServiceProblem'
    this.status = status
    this.code = code
    this.errors = errors
  }
}

/** There is no service where one should be, or what answers is none. */
export class ServiceUnreachable extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ServiceUnreachable'
  }
}

const TIMEOUT_MS = 30_000
const ANSWER_BYTES_MAX = 16 * 1024 * 1024

/**
 * Calls one listener of a service with one token.
 *
 * It is built on node:http because `fetch` follows NODE_USE_ENV_PROXY and gives up after five minutes: a token goes to
 * the named host only, never to a proxy nor along a redirect, and verifying a long audit trail has no deadline.
 */
export class ServiceClient {
  readonly url: string
  readonly #token: Secret

  /** @param url Without a slash at its end. */
  constructor(url: string, token: Secret) {
    this.url = url
    this.#token = token
  }

  /**
   * @param body A JSON text.
   * @param patient Waits for the answer as long as it takes.
   * @throws ServiceProblem, ServiceUnreachable
   */
  async call(method: string, path: string, body?: Secret, patient = false): Promise<Answer> {
    const { message, text } = await this.#send(method, path, body, patient ? 0 : TIMEOUT_MS)
    const status = message.statusCode ?? 0
    const parsed = text === '' ? undefined : parseJson(text)
    if (status >= 200 && status < 300 && (parsed !== undefined || text === ''))
      return { status, body: parsed }
    const type = message.headers['content-type'] ?? ''
    if (!type.startsWith('application/problem+json')) {
      throw new ServiceUnreachable(`${this.url} answers ${status}, and not as Strongroom does`)
    }
    throw problemOf(status, parsed)
  }

  /** What the body of an answer says. @throws ServiceUnreachable where a member is missing: then no Strongroom answered */
  membersOf<T extends object>({ status, body }: Answer, names: readonly (keyof T & string)[]): T {
    const isWhole = typeof body === 'object' && body !== null && names.every((name) => name in body)
    if (isWhole) return body as T
    throw new ServiceUnreachable(`${this.url} answers ${status}, and not as Strongroom does`)
  }

  #send(method: string, path: string, body: Secret | undefined, timeout: number) {
    const secure = this.url.startsWith('https:')
    const headers: Record<string, string | number> = {
      authorization: `Bearer ${this.#token.reveal()}`,
      accept: 'application/json',
    }
    const { Agent, request } = require(secure ? 'node:https' : 'node:http') as typeof Http
    const bytes = body && Buffer.from(body.reveal())
    if (bytes) Object.assign(headers, { 'content-type': 'application/json', 'content-length': bytes.length })
    return new Promise<{ message: Http.IncomingMessage; text: string }>((resolve, reject) => {
      const lost = (reason: string) =>
        reject(new ServiceUnreachable(`${this.url} cannot be reached (${reason})`))
      const answered = (message: Http.IncomingMessage) => {
        const chunks: Buffer[] = []
        let length = 0
        message.on('data', (chunk: Buffer) => {
          length += chunk.length
          if (length > ANSWER_BYTES_MAX) message.destroy()
          chunks.push(chunk)
        })
        message.on('error', () => lost('its answer broke off'))
        message.on('end', () => resolve({ message, text: Buffer.concat(chunks).toString() }))
      }
      // An agent of its own, because the global one may be told of a proxy.
      const options = { method, headers, agent: new Agent(), timeout }
      const sent = request(this.url + path, options, answered)
      sent.on('timeout', () => sent.destroy(Object.assign(new Error(), { code: 'no answer within 30 s' })))
      sent.on('error', (error: NodeJS.ErrnoException) => lost(error.code ?? 'no connection'))
      sent.end(bytes)
    })
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    // The parser's message quotes the text, which may be a value.
    return undefined
  }
}

function problemOf(status: number, body: unknown): ServiceProblem {
  const { code, detail, title, errors } = (body ?? {}) as Record<string, unknown>
  const said = [detail, title].find((text) => typeof text === 'string') ?? `the service answered ${status}`
  const faults = (Array.isArray(errors) ? (errors as Record<string, unknown>[]) : []).map((fault) => ({
    pointer: String(fault['pointer'] ?? ''),
    detail: String(fault['detail'] ?? ''),
  }))
  return new ServiceProblem(status, typeof code === 'string' ? code : 'internal', said as string, faults)
}
