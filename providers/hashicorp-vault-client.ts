import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type NodeVault from 'node-vault'
import { isObject } from '../src/core/json-value.ts'
import { StoreError } from '../src/core/secret-store.ts'
import type { StoreFault } from '../src/core/secret-store.ts'

/** One request to the API, below `/v1/`. */
export interface VaultRequest {
  method: 'GET' | 'POST' | 'DELETE'
  /** Made of our own words, the settings and refs or locators that were looked at before: node-vault joins it raw. */
  path: string
  token?: string
  json?: object
  signal: AbortSignal
}

/** An answer's JSON object; empty where the answer had none. */
export type VaultAnswer = Record<string, unknown>

/** Where the API is and who is trusted to be it. */
export interface VaultAddress {
  address: string
  namespace?: string | undefined
  ca?: string | undefined
}

/** What node-vault hands to its transport. */
interface Outgoing {
  uri: string
  method: string
  headers: Record<string, string>
  json?: object
  signal: AbortSignal
}

const ANSWER_BYTES_MAX = 1_048_576
const IDLE_MS = 30_000

/**
 * node-vault on a transport of our own, put in by its configuration hook `request-promise`. Its own one follows redirects
 * and HTTP_PROXY with the token, has no deadline, shakes hands anew for each request where a CA is set, and its errors carry
 * the request. This one does nothing of that, and says what went wrong as a StoreError.
 */
export class VaultClient {
  readonly #vault: NodeVault.client
  readonly #agent: HttpAgent
  readonly #ca: string | undefined
  #identity: { cert?: string; key?: string } = {}
  #closed = false

  constructor(nodeVault: typeof NodeVault, { address, namespace, ca }: VaultAddress) {
    const options = { keepAlive: true, timeout: IDLE_MS }
    this.#agent = address.startsWith('https:') ? new HttpsAgent(options) : new HttpAgent(options)
    this.#ca = ca
    this.#vault = nodeVault({
      endpoint: address,
      'request-promise': { defaults: () => (outgoing: Outgoing) => this.#send(outgoing) },
      // Its own prints values, where DEBUG asks for it.
      debug: () => {},
    })
    // What the settings do not say, node-vault takes from VAULT_TOKEN, VAULT_NAMESPACE and VAULT_PREFIX.
    Object.assign(this.#vault, { token: '', namespace: namespace ?? '', pathPrefix: '' })
  }

  /** With what the next connections show who calls. */
  identify(cert: string, key: string): void {
    this.#identity = { cert, key }
  }

  /** @throws StoreError */
  async ask({ path, token, ...request }: VaultRequest): Promise<VaultAnswer> {
    const headers = token === undefined ? {} : { 'X-Vault-Token': token }
    return await this.#vault.request({ ...request, path: `/${path}`, headers })
  }

  close(): void {
    this.#closed = true
    this.#agent.destroy()
  }

  // node-vault takes each answer for a success that says 200, and whatever its status one whose path holds `sys/health`:
  // so only what is a success here is handed to it, and without a path.
  async #send(outgoing: Outgoing): Promise<object> {
    const { status, text } = await this.#exchange(outgoing)
    const answer = text === '' && status === 204 ? {} : objectOf(text)
    if (status !== 200 && status !== 204) throw refusal(status, answer)
    if (!answer) throw new StoreError('unavailable', 'answer_not_json')
    return { statusCode: 200, body: answer, request: { path: '' } }
  }

  #exchange({ uri, method, headers, json, signal }: Outgoing): Promise<{ status: number; text: string }> {
    if (this.#closed) throw new StoreError('unavailable', 'closed')
    const body = json && JSON.stringify(json)
    const options = {
      method,
      signal,
      agent: this.#agent,
      headers: {
        ...headers,
        'X-Vault-Request': 'true',
        ...(body && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
      // Said here, because NODE_TLS_REJECT_UNAUTHORIZED=0 would count otherwise.
      rejectUnauthorized: true,
      ...(this.#ca && { ca: this.#ca }),
      ...this.#identity,
    }
    return new Promise((resolve, reject) => {
      const fail = (error: NodeJS.ErrnoException): void =>
        reject(new StoreError('unavailable', codeOf(error)))
      try {
        const request = uri.startsWith('https:') ? httpsRequest : httpRequest
        const sent = request(uri, options, (answer) => {
          answer.on('error', fail)
          textOf(answer).then((text) => resolve({ status: answer.statusCode!, text }), reject)
        })
        sent.on('error', fail)
        sent.end(body)
      } catch (error) {
        fail(error as NodeJS.ErrnoException)
      }
    })
  }
}

async function textOf(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of answer) {
      bytes += (chunk as Buffer).length
      if (bytes > ANSWER_BYTES_MAX) throw new StoreError('rejected', 'answer_too_large')
      chunks.push(chunk as Buffer)
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
  } catch (error) {
    if (error instanceof StoreError) throw error
    throw new StoreError('unavailable', codeOf(error as NodeJS.ErrnoException))
  }
}

function objectOf(text: string): VaultAnswer | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** 412: a standby that has not yet seen what was written; 473 and the like are answers to `sys/health` only. */
const FAULT_OF: Record<number, StoreFault> = {
  401: 'denied',
  403: 'denied',
  408: 'unavailable',
  412: 'unavailable',
  429: 'throttled',
}
const UPGRADING = 'Upgrading from non-versioned to versioned data'

function refusal(status: number, answer: VaultAnswer | undefined): StoreError {
  const [reason] = Array.isArray(answer?.['errors']) ? answer['errors'] : []
  if (status === 404) return missing(answer, reason)
  // A mount that was just made says 400 for some seconds.
  if (status === 400 && String(reason).startsWith(UPGRADING))
    return new StoreError('unavailable', 'upgrading')
  const byClass = status >= 400 && status < 500 ? 'rejected' : 'unavailable'
  return new StoreError(FAULT_OF[status] ?? byClass, `http_${status}`)
}

// Where nothing is kept, the product says 404 with no reason; with one, it is the mount or the namespace that is missing,
// and what is no JSON came from somebody else. Neither may read as a secret that is gone.
function missing(answer: VaultAnswer | undefined, reason: unknown): StoreError {
  if (!answer) return new StoreError('rejected', 'http_404')
  return reason === undefined
    ? new StoreError('not_found', 'http_404')
    : new StoreError('rejected', 'no_such_route')
}

/** The name of a system's or TLS error; never its message. */
function codeOf({ code }: NodeJS.ErrnoException): string {
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : 'no_answer'
}

/** Ends an act after `ms` as `unavailable`, whatever it waits for, and lets nothing but a StoreError out. */
export async function within<T>(ms: number, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const control = new AbortController()
  const over = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    over.reject(new StoreError('unavailable', 'deadline'))
    control.abort()
  }, ms)
  try {
    return await Promise.race([act(control.signal), over.promise])
  } catch (error) {
    throw error instanceof StoreError ? error : new StoreError('rejected', 'unexpected')
  } finally {
    clearTimeout(timer)
  }
}
