import { AsyncLocalStorage } from 'node:async_hooks'
import http from 'node:http'
import https from 'node:https'
import type { IncomingMessage } from 'node:http'
import type { SecretClientOptions } from '@azure/keyvault-secrets'
import { StoreError } from '../src/core/secret-store.ts'

type HttpClient = NonNullable<SecretClientOptions['httpClient']>
type Request = Parameters<HttpClient['sendRequest']>[0]
type Response = Awaited<ReturnType<HttpClient['sendRequest']>>

// 25,600 bytes may be six times as long as JSON, and Azure's own members stand beside them.
const BODY_BYTES_MAX = 262_144
const IDLE_MS_MAX = 50_000

/** One attempt to log in, as its requests see it. */
export interface LoginAttempt {
  deadline: AbortSignal
  /** Whether the last request had no answer, or one that puts no blame on the login. */
  unanswered: boolean
}

/**
 * The attempt that a request belongs to. The SDK cannot tell: for managed identities it keeps one client for the whole
 * process, that of the first store, and passes no signal to it.
 */
export const currentLogin = new AsyncLocalStorage<LoginAttempt>()

/**
 * Carries the Azure SDK's requests in place of its own client, which reads answers of any length, logs parts of those that
 * it cannot parse, and goes through whatever proxy its pipeline put into the request. Nobody follows a redirect either.
 */
export class AzureTransport implements HttpClient {
  readonly #agents = {
    'http:': new http.Agent({ keepAlive: true, timeout: IDLE_MS_MAX }),
    // Said here, because NODE_TLS_REJECT_UNAUTHORIZED=0 would switch it off.
    'https:': new https.Agent({ keepAlive: true, timeout: IDLE_MS_MAX, rejectUnauthorized: true }),
  }
  readonly #timeoutMs: number
  readonly #origin: string | undefined

  /** @param origin The only place that requests may go to; without one they go where the login's environment says. */
  constructor(timeoutMs: number, origin?: string) {
    this.#timeoutMs = timeoutMs
    this.#origin = origin
  }

  /** @throws StoreError `unavailable` for whatever is not a whole answer in time, `rejected` for one that is too long. */
  async sendRequest(request: Request): Promise<Response> {
    const url = new URL(request.url)
    if (this.#origin !== undefined && url.origin !== this.#origin) {
      throw new StoreError('rejected', 'another host than the vault')
    }
    const body = request.body ?? ''
    if (typeof body !== 'string') throw new StoreError('rejected', 'a body that is no text')
    const login = currentLogin.getStore()
    if (login) login.unanswered = true
    const answer = await this.#ask(url, request, body, login?.deadline)
    const text = await textOf(answer)
    if (login) login.unanswered = answer.statusCode! >= 500 || answer.statusCode === 429
    const headers = new Headers()
    for (const [name, values] of Object.entries(answer.headersDistinct)) headers.set(name, values!.join(', '))
    return {
      request,
      status: answer.statusCode ?? 0,
      headers: Object.assign(headers, {
        toJSON: () => Object.fromEntries(headers),
      }) as unknown as Response['headers'],
      bodyAsText: isJsonObject(text) ? text : '{}',
    }
  }

  /** Ends the connections, so that the process can. */
  close(): void {
    this.#agents['http:'].destroy()
    this.#agents['https:'].destroy()
  }

  async #ask(
    url: URL,
    request: Request,
    body: string,
    deadline = AbortSignal.timeout(this.#timeoutMs),
  ): Promise<IncomingMessage> {
    const asked = request.abortSignal as AbortSignal | undefined
    const protocol = url.protocol === 'https:' ? 'https:' : 'http:'
    const options = {
      method: request.method,
      headers: { ...request.headers.toJSON(), 'accept-encoding': 'identity' },
      signal: asked ? AbortSignal.any([asked, deadline]) : deadline,
    }
    try {
      return await send(url, { ...options, agent: this.#agents[protocol] }, body)
    } catch (error) {
      // The other side had closed the connection while it lay idle. All that is asked here may be asked twice.
      if (!(error instanceof StaleConnection)) throw error
      return await send(url, { ...options, agent: false, rejectUnauthorized: true }, body)
    }
  }
}

class StaleConnection extends StoreError {}

function send(url: URL, options: https.RequestOptions, body: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const call = (url.protocol === 'https:' ? https : http).request(url, options)
    call.once('response', resolve)
    call.on('error', (error: NodeJS.ErrnoException) => {
      const stale = call.reusedSocket && error.code === 'ECONNRESET'
      reject(new (stale ? StaleConnection : StoreError)('unavailable', codeOf(error)))
    })
    call.end(body)
  })
}

async function textOf(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > BODY_BYTES_MAX) throw new StoreError('rejected', 'the answer is too long')
      chunks.push(chunk)
    }
  } catch (error) {
    if (error instanceof StoreError) throw error
    throw new StoreError('unavailable', codeOf(error as NodeJS.ErrnoException))
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks))
  } catch {
    return ''
  }
}

// What is no object would end as a parser's message, which quotes it, or hide the status behind a TypeError.
function isJsonObject(text: string): boolean {
  try {
    const parsed: unknown = JSON.parse(text)
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
  } catch {
    return false
  }
}

/** Node's own name for what went wrong, such as `ECONNREFUSED`: a word, never a message. */
function codeOf({ code }: NodeJS.ErrnoException): string {
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{1,40}$/.test(code) ? code : 'no answer'
}
