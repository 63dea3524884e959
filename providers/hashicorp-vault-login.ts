import { readFile } from 'node:fs/promises'
import { isObject } from '../src/core/json-value.ts'
import { StoreError } from '../src/core/secret-store.ts'
import type { VaultAnswer, VaultClient } from './hashicorp-vault-client.ts'
import { within } from './hashicorp-vault-client.ts'

/** How the store comes by its token, as the stores file says it. */
export type VaultAuth =
  | { method: 'token'; token_file: string }
  | { method: 'approle'; role_id: string; secret_id_file: string; mount?: string }
  | { method: 'kubernetes'; role: string; jwt_file?: string; mount?: string }
  | { method: 'cert'; cert_file: string; key_file: string; role?: string; mount?: string }

const file = { type: 'string', format: 'file' }
const name = { type: 'string', pattern: '^[A-Za-z0-9_.:@-]{1,256}$' }
/** A path of the API's: it stands raw in a URL, so no segment begins with a dot. */
export const MOUNT = {
  type: 'string',
  pattern: '^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$',
}

/** JSON Schema of {@link VaultAuth}. */
export const AUTH = {
  oneOf: [
    method('token', { token_file: file }),
    method('approle', { role_id: name, secret_id_file: file }, { mount: MOUNT }),
    method('kubernetes', { role: name }, { jwt_file: file, mount: MOUNT }),
    method('cert', { cert_file: file, key_file: file }, { role: name, mount: MOUNT }),
  ],
}

function method(method: string, needed: Record<string, object>, more: Record<string, object> = {}): object {
  return {
    type: 'object',
    properties: { method: { type: 'string', const: method }, ...needed, ...more },
    required: ['method', ...Object.keys(needed)],
    additionalProperties: false,
  }
}

interface Lease {
  token: string
  renewable: boolean
  /** How long the token lives from now, in milliseconds; `Infinity` for one without end, or where that is not known. */
  livesMs: number
}

interface Held extends Lease {
  heldAt: number
  endsAt: number
}

const JWT_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/token'
const LOOKUP = 'auth/token/lookup-self'
const SENDABLE = /^[\x21-\x7e]+$/
const REREAD_MS = 1_000
const LOOKUP_AGAIN_MS = 10_000
const TEND_MS_MIN = 500
const TEND_MS_MAX = 86_400_000

/** Holds the store's token: fetches it when a call needs it, and renews it or logs in anew before it ends. */
export class VaultLogin {
  readonly #auth: VaultAuth
  readonly #client: VaultClient
  readonly #timeoutMs: number
  #held: Held | undefined
  #begun: Promise<Held> | undefined
  #readAt = 0
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(auth: VaultAuth, client: VaultClient, timeoutMs: number) {
    this.#auth = auth
    this.#client = client
    this.#timeoutMs = timeoutMs
  }

  /**
   * The token to call with.
   *
   * @throws StoreError `denied` when the login is refused or its file cannot be read.
   */
  async token(): Promise<string> {
    if (this.#auth.method === 'token' && this.#held && performance.now() - this.#readAt >= REREAD_MS) {
      // A file that is just being written, or is gone, is no reason to forget the token.
      await this.#begin().catch(() => {})
    }
    const held = this.#held
    return (held && performance.now() < held.endsAt ? held : await this.#begin()).token
  }

  /** Another token than this one, which was refused; undefined when there is none, or the refusal is not the token's. */
  async another(refused: string): Promise<string | undefined> {
    const held = this.#held
    if (held && held.token !== refused) return held.token
    if (this.#auth.method !== 'token') {
      // A policy that refuses looks the same as a token that has ended. Who logged in at each refusal would fill the
      // other side with tokens.
      if (held && performance.now() - held.heldAt < REREAD_MS) return undefined
      if (await this.#lives(refused)) return undefined
    }
    const { token } = await this.#begin()
    return token === refused ? undefined : token
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  /** All who need a token at the same moment wait for one login. */
  async #begin(): Promise<Held> {
    if (!this.#begun) return await this.#start()
    return await this.#begun.catch((error: StoreError) => {
      // The time of whoever began it is over, ours perhaps not.
      if (error.fault === 'unavailable') return this.#begun ?? this.#start()
      throw error
    })
  }

  #start(): Promise<Held> {
    this.#begun = within(this.#timeoutMs, (signal) => this.#login(signal)).finally(() => {
      this.#begun = undefined
    })
    return this.#begun
  }

  async #login(signal: AbortSignal): Promise<Held> {
    const auth = this.#auth
    if (auth.method === 'token') {
      const token = await secretIn(auth.token_file)
      this.#readAt = performance.now()
      if (this.#held?.token === token) return this.#held
      const held = this.#hold({ token, renewable: false, livesMs: Infinity })
      // Not waited for: the call that needs the token shows whether it is any good.
      void this.#lookUp(held)
      return held
    }
    const json = await this.#proof(auth)
    const path = `auth/${auth.mount ?? auth.method}/login`
    try {
      return this.#hold(leaseOf(await this.#client.ask({ method: 'POST', path, json, signal })))
    } catch (error) {
      // A wrong secret id is a 400, a mount that is not there a 404: to the caller all of that is one thing.
      const { fault, message } = error as StoreError
      if (fault === 'rejected' || fault === 'not_found') throw new StoreError('denied', `login_${message}`)
      throw error
    }
  }

  async #proof(auth: Exclude<VaultAuth, { method: 'token' }>): Promise<object> {
    switch (auth.method) {
      case 'approle':
        return { role_id: auth.role_id, secret_id: await secretIn(auth.secret_id_file) }
      case 'kubernetes':
        return { role: auth.role, jwt: await secretIn(auth.jwt_file ?? JWT_FILE) }
      case 'cert':
        // Read for each login, so that a certificate may be replaced while the service runs.
        this.#client.identify(await textIn(auth.cert_file), await textIn(auth.key_file))
        return auth.role === undefined ? {} : { name: auth.role }
    }
  }

  #hold(lease: Lease, livedMs = lease.livesMs): Held {
    const now = performance.now()
    const held = { ...lease, livesMs: livedMs, heldAt: now, endsAt: now + lease.livesMs }
    this.#held = held
    this.#tendLater(held)
    return held
  }

  // After two thirds of what is left, and so again and again when that fails. A day at most: a longer timer overflows.
  #tendLater(held: Held): void {
    const leftMs = held.endsAt - performance.now()
    const tendable = held.renewable || this.#auth.method !== 'token'
    if (!tendable || leftMs === Infinity || leftMs < TEND_MS_MIN) return clearTimeout(this.#timer)
    this.#after(Math.min((leftMs * 2) / 3, TEND_MS_MAX), () => this.#tend(held))
  }

  #after(ms: number, act: () => Promise<void>): void {
    clearTimeout(this.#timer)
    if (!this.#closed) this.#timer = setTimeout(() => void act(), ms).unref()
  }

  async #tend(held: Held): Promise<void> {
    const renewed = held.renewable ? await this.#renew(held.token) : undefined
    if (this.#held !== held || this.#closed) return
    // Renewed for less than half its first time, it nears an end that no renewal can move; in its last second it is even
    // said to have none.
    const moved = renewed && renewed.livesMs < Infinity
    const enough = moved && (this.#auth.method === 'token' || renewed.livesMs >= held.livesMs / 2)
    if (enough) return void this.#hold(renewed, held.livesMs)
    if (this.#auth.method === 'token') return this.#tendLater(held)
    await this.#begin().catch(() => this.#tendLater(held))
  }

  /** Undefined when that failed: what comes of it is said by the next login or call. */
  async #renew(token: string): Promise<Lease | undefined> {
    try {
      return leaseOf(await this.#askWith(token, 'POST', 'auth/token/renew-self', {}))
    } catch {
      return undefined
    }
  }

  /** Asks how long a token lives that came out of a file. Where that is refused, somebody else must renew it. */
  async #lookUp(held: Held): Promise<void> {
    try {
      const { data } = await this.#askWith(held.token, 'GET', LOOKUP)
      if (this.#held !== held || this.#closed || !isObject(data)) return
      const livesMs = msOf(data['ttl'])
      if (livesMs < Infinity)
        this.#hold({ token: held.token, renewable: data['renewable'] === true, livesMs })
    } catch (error) {
      if ((error as StoreError).fault === 'denied' || this.#held !== held) return
      this.#after(LOOKUP_AGAIN_MS, () => this.#lookUp(held))
    }
  }

  async #lives(token: string): Promise<boolean> {
    try {
      await this.#askWith(token, 'GET', LOOKUP)
      return true
    } catch (error) {
      if ((error as StoreError).fault === 'denied') return false
      throw error
    }
  }

  #askWith(token: string, method: 'GET' | 'POST', path: string, json?: object): Promise<VaultAnswer> {
    return within(this.#timeoutMs, (signal) =>
      this.#client.ask({ method, path, token, signal, ...(json && { json }) }),
    )
  }
}

function leaseOf({ auth }: VaultAnswer): Lease {
  const token = isObject(auth) ? auth['client_token'] : undefined
  // Without a token it asks for a second factor, which a service has not.
  if (!isObject(auth) || typeof token !== 'string' || !SENDABLE.test(token))
    throw new StoreError('denied', 'login_without_token')
  return { token, renewable: auth['renewable'] === true, livesMs: msOf(auth['lease_duration']) }
}

/** Zero is the product's word for: without end. */
function msOf(seconds: unknown): number {
  return typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : Infinity
}

async function textIn(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    throw new StoreError('denied', 'login_file_unreadable')
  }
}

/** A file's one line, which goes into a header or a body. */
async function secretIn(path: string): Promise<string> {
  const text = (await textIn(path)).trim()
  if (!SENDABLE.test(text)) throw new StoreError('denied', 'login_file_malformed')
  return text
}
