import { randomBytes, randomUUID } from 'node:crypto'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Trouble } from '../conformance/secret-store.ts'
import { AzureLoginServer } from './azure-login-server.ts'
import type { ProviderServer, ServedCall } from './provider-server.ts'

const API_VERSIONS = ['7.6', '2025-07-01', '2026-04-01']
const TENANT = '72f988bf-86f1-41af-91ab-2d7cd011db47'
const NAME = /^[0-9A-Za-z-]{1,127}$/

/** One secret of a vault, with all its versions. */
export interface VaultSecret {
  name: string
  versions: { id: string; value: string; contentType?: string; tags?: Record<string, string> }[]
  state: 'active' | 'deleting' | 'recoverable'
  disabled?: boolean
}

interface Answer {
  status: number
  body?: unknown
  headers?: Record<string, string>
  /** Instead of `body`, as it is. */
  raw?: string
}

/** A key vault on loopback: its protocol as Azure documents it, with the challenge that every login begins with. */
export class AzureKeyVaultServer implements ProviderServer {
  onCall: ProviderServer['onCall']
  readonly secrets = new Map<string, VaultSecret>()
  /** As the vault calls it: `Purgeable` is one from before recovery windows, without `Purgeable` it has purge protection. */
  recoveryLevel = 'Recoverable+Purgeable'
  /** How long a secret is on its way into the recovery window; without end it is until {@link arrive}. */
  deletingMs = 0
  /** Answered to every request that has a login, where set. */
  answer: ((request: IncomingMessage) => Answer | undefined) | undefined
  /** What came, in order, and whether with a login. */
  readonly seen: { method: string; path: string; login: boolean; body: string }[] = []
  /** The tokens that were shown, each as often as it was. */
  readonly tokens: string[] = []
  readonly #login: AzureLoginServer
  // Not its address: the SDK keeps tokens by resource for the whole process, and a port may be given a second time.
  readonly #resource = `urn:vault:${randomUUID()}`
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
  #port = 0
  #trouble: Trouble | undefined

  private constructor(login: AzureLoginServer) {
    this.#login = login
  }

  static async start(): Promise<AzureKeyVaultServer> {
    const server = new AzureKeyVaultServer(await AzureLoginServer.get())
    await server.#listen()
    return server
  }

  get settings(): Record<string, unknown> {
    return { provider: 'azure-key-vault', vault_url: this.url }
  }

  get env(): Record<string, string> {
    return this.#login.env
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  kept(): string[] {
    return this.#refs('active')
  }

  recoverable(): string[] {
    return this.#refs('recoverable')
  }

  async plant(locator: string, text: string): Promise<void> {
    const name = locator.replaceAll('/', '--')
    this.secrets.set(name, {
      name,
      state: 'active',
      versions: [{ id: randomBytes(16).toString('hex'), value: text }],
    })
  }

  async suffer(trouble: Trouble): Promise<void> {
    this.#trouble = trouble
    if (trouble === 'refuse-connections') await this.close()
  }

  async recover(): Promise<void> {
    this.#trouble = undefined
    this.disconnect()
    if (!this.#server) await this.#listen()
  }

  async close(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (!server) return
    const closed = new Promise((resolve) => server.close(resolve))
    this.disconnect()
    await closed
  }

  /** Ends the way of every secret into the recovery window. */
  arrive(): void {
    for (const secret of this.secrets.values()) if (secret.state === 'deleting') secret.state = 'recoverable'
  }

  /** Closes every connection, without a word to the other side. */
  disconnect(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  // A prefix is one slug here, and a workspace may hold the separator: so a name is read from its ends.
  #refs(state: VaultSecret['state']): string[] {
    const parts = [...this.secrets.values()]
      .filter((secret) => secret.state === state)
      .map(({ name }) => /^(.+?)--(.+)--([0-9a-f]{8}-[0-9a-f-]{27})$/.exec(name))
    return parts.flatMap((found) => (found ? [found.slice(1).join('/')] : []))
  }

  async #listen(): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response))
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve))
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = ''
    for await (const chunk of request.setEncoding('utf8')) body += chunk
    const { pathname: path, searchParams } = new URL(request.url!, this.url)
    const method = request.method!
    const [, token] = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '') ?? []
    const login = token !== undefined && this.#login.gave(token, this.#resource)
    this.seen.push({ method, path, login, body })
    if (token) this.tokens.push(token)
    if (this.#trouble === 'hang') return
    if (this.#trouble === 'drip') return drip(response)
    let answer = login ? this.#troubled(request) : this.#challenge()
    if (!answer && !API_VERSIONS.includes(searchParams.get('api-version') ?? '')) {
      answer = fail(400, 'BadParameter', 'api-version is missing or unknown')
    }
    if (!answer) {
      const call: ServedCall = method === 'PUT' ? 'put' : method === 'DELETE' ? 'delete' : 'get'
      await this.onCall?.(call, 'before')
      answer = this.#act(method, path, body)
      await this.onCall?.(call, 'after')
    }
    const text = answer.raw ?? (answer.body === undefined ? '' : JSON.stringify(answer.body))
    response.writeHead(answer.status, {
      'content-type': 'application/json; charset=utf-8',
      'content-length': Buffer.byteLength(text),
      'x-ms-keyvault-service-version': '1.9.2.1',
      ...answer.headers,
    })
    response.end(text)
  }

  #challenge(): Answer {
    const challenge = `Bearer authorization="https://login.windows.net/${TENANT}", resource="${this.#resource}"`
    const message = 'AKV10000: Request is missing a Bearer or PoP token.'
    return { ...fail(401, 'Unauthorized', message), headers: { 'www-authenticate': challenge } }
  }

  #troubled(request: IncomingMessage): Answer | undefined {
    if (this.#trouble === 'deny')
      return fail(403, 'Forbidden', 'Caller is not authorized to perform action', 'ForbiddenByRbac')
    if (this.#trouble === 'throttle') {
      const message = 'Request was not processed because too many requests were received.'
      return { ...fail(429, 'Throttled', message), headers: { 'retry-after': '7' } }
    }
    if (this.#trouble === 'break') return { status: 503, raw: '' }
    return this.answer?.(request)
  }

  #act(method: string, path: string, body: string): Answer {
    const [, kind, name = '', version = '', ...more] = path.split('/')
    if (more.length > 0 || !NAME.test(name))
      return fail(400, 'BadParameter', 'The request URI contains an invalid name')
    const secret = this.secrets.get(name.toLowerCase())
    if (kind === 'deletedsecrets' && version === '') return this.#actOnDeleted(method, name, secret)
    if (kind !== 'secrets') return fail(400, 'BadParameter', 'Invalid URI')
    if (secret?.state === 'deleting' && method !== 'GET')
      return fail(409, 'Conflict', `Secret ${name} is currently being deleted.`, 'ObjectIsBeingDeleted')
    if (method === 'PUT' && version === '') return this.#set(name, body, secret)
    if (secret?.state !== 'active')
      return fail(404, 'SecretNotFound', `A secret with (name/id) ${name} was not found in this key vault.`)
    if (method === 'GET') {
      const found = version === '' ? secret.versions.at(-1) : secret.versions.find(({ id }) => id === version)
      if (!found)
        return fail(404, 'SecretNotFound', `A secret with (name/id) ${name}/${version} was not found.`)
      if (secret.disabled)
        return fail(403, 'Forbidden', 'Operation get is not allowed on a disabled secret.', 'SecretDisabled')
      return { status: 200, body: { value: found.value, ...this.#bundle(secret, found) } }
    }
    if (method === 'DELETE' && version === '') return this.#delete(secret)
    return fail(405, 'BadParameter', 'Method not allowed')
  }

  #set(name: string, body: string, secret: VaultSecret | undefined): Answer {
    if (secret?.state === 'recoverable') {
      const message = `Secret ${name} is currently in a deleted but recoverable state, and its name cannot be reused.`
      return fail(409, 'Conflict', message, 'ObjectIsDeletedButRecoverable')
    }
    const { value, contentType, tags = {} } = JSON.parse(body) as VaultSecret['versions'][0]
    const well = Object.entries(tags).every(([key, text]) => key.length <= 256 && text.length <= 256)
    if (
      typeof value !== 'string' ||
      Buffer.byteLength(value) > 25_600 ||
      !well ||
      Object.keys(tags).length > 15
    )
      return fail(400, 'BadParameter', 'The secret is not well')
    const kept = secret ?? { name, state: 'active' as const, versions: [] }
    const version = { id: randomBytes(16).toString('hex'), value, ...(contentType && { contentType }), tags }
    kept.versions.push(version)
    this.secrets.set(name.toLowerCase(), kept)
    return { status: 200, body: { value, ...this.#bundle(kept, version) } }
  }

  #delete(secret: VaultSecret): Answer {
    const key = secret.name.toLowerCase()
    if (this.recoveryLevel === 'Purgeable') this.secrets.delete(key)
    else {
      secret.state = this.deletingMs > 0 ? 'deleting' : 'recoverable'
      if (this.deletingMs < Infinity)
        setTimeout(() => (secret.state = 'recoverable'), this.deletingMs).unref()
    }
    return { status: 200, body: this.#deletedBundle(secret) }
  }

  #actOnDeleted(method: string, name: string, secret: VaultSecret | undefined): Answer {
    if (this.recoveryLevel === 'Purgeable')
      return fail(400, 'NotSupported', 'Operation is not enabled for this vault.')
    if (secret?.state === 'deleting' && method === 'DELETE')
      return fail(409, 'Conflict', `Secret ${name} is currently being deleted.`, 'ObjectIsBeingDeleted')
    if (secret?.state !== 'recoverable')
      return fail(404, 'SecretNotFound', `Deleted Secret not found: ${name}`)
    if (method === 'GET') return { status: 200, body: this.#deletedBundle(secret) }
    if (method !== 'DELETE') return fail(405, 'BadParameter', 'Method not allowed')
    if (!this.recoveryLevel.includes('Purgeable'))
      return fail(403, 'Forbidden', 'Operation "purge" is not allowed because purge protection is enabled.')
    this.secrets.delete(name.toLowerCase())
    return { status: 204 }
  }

  #bundle(secret: VaultSecret, { id, contentType, tags }: VaultSecret['versions'][0]): object {
    const attributes = {
      enabled: !secret.disabled,
      created: 1,
      updated: 1,
      recoveryLevel: this.recoveryLevel,
    }
    return { id: `${this.url}/secrets/${secret.name}/${id}`, contentType, tags, attributes }
  }

  #deletedBundle(secret: VaultSecret): object {
    const bundle = this.#bundle(secret, secret.versions.at(-1)!)
    if (this.recoveryLevel === 'Purgeable') return bundle
    const recoveryId = `${this.url}/deletedsecrets/${secret.name}`
    return { recoveryId, deletedDate: 1, scheduledPurgeDate: 2, ...bundle }
  }
}

function fail(status: number, code: string, message: string, inner?: string): Answer {
  const error = { code, message, ...(inner && { innererror: { code: inner } }) }
  return { status, body: { error } }
}

// An answer that would be well if it ever ended.
function drip(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json' })
  const timer = setInterval(() => response.write(' '), 50)
  response.on('close', () => clearInterval(timer))
}
