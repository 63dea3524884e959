import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import type { VaultAuth } from '../../providers/hashicorp-vault-login.ts'
import type { Trouble } from '../conformance/secret-store.ts'
import type { VaultReply } from './hashicorp-vault-kv.ts'
import { KvEngine, ok, refuse } from './hashicorp-vault-kv.ts'
import type { TokenTimes } from './hashicorp-vault-tokens.ts'
import { VaultTokens } from './hashicorp-vault-tokens.ts'
import type { ProviderServer, ServedCall } from './provider-server.ts'

/** An answer written by hand: `cut` breaks the connection before its end, `hold` never comes to it. */
export interface ForgedReply {
  status: number
  headers?: Record<string, string>
  body?: string | Buffer
  cut?: boolean
  hold?: boolean
}

/** What the tests turn on such a server. */
export interface VaultServerOptions {
  method?: VaultAuth['method']
  mount?: string
  namespace?: string
  times?: TokenTimes
  /** Speaks TLS: its own key and certificate, who signs it and the callers, and a caller's. */
  tls?: Record<'key_file' | 'cert_file' | 'ca_file' | 'client_key_file' | 'client_cert_file', string> & {
    key: Buffer
    cert: Buffer
    ca: Buffer
  }
}

/** The server, its insides open to the tests. */
export interface VaultServer extends ProviderServer {
  kv: KvEngine
  tokens: VaultTokens
  /** The login's file: a token, a secret id or a JWT. */
  loginFile: string
  /** Each request that arrived, as `METHOD path`. */
  requests: string[]
  connections(): number
  /** In place of what would be answered. */
  forge: ((request: string) => ForgedReply | undefined) | undefined
  port: number
}

const ROLE = 'strongroom'
const CALLS: Record<string, ServedCall> = {
  'POST data': 'put',
  'GET data': 'get',
  'DELETE metadata': 'delete',
}
const REFUSALS: Partial<Record<Trouble, VaultReply>> = {
  deny: refuse(403, 'permission denied'),
  throttle: refuse(429, 'request path "secret/data/MARKED": rate limit quota exceeded'),
  break: refuse(500, 'internal error'),
}

/** Starts a loopback server that speaks as much of the API as the provider needs, and takes nothing else. */
export async function startVaultServer(options: VaultServerOptions = {}): Promise<VaultServer> {
  const { method = 'token', mount = 'secret', namespace, times = { ttl: 0 }, tls } = options
  const kv = new KvEngine()
  const tokens = new VaultTokens(times)
  const home = mkdtempSync(join(tmpdir(), 'strongroom-vault-'))
  const loginFile = join(home, 'login')
  const secretId = 'd41d8cd98f00b204-secret-id'
  writeFileSync(loginFile, method === 'token' ? `${tokens.issue()}\n` : secretId, { mode: 0o600 })
  let trouble: Trouble | undefined
  let connections = 0

  function reply(request: IncomingMessage, path: string, body: Record<string, unknown>): VaultReply {
    const { 'x-vault-token': token, 'x-vault-namespace': space, 'x-vault-request': own } = request.headers
    if (own !== 'true') return refuse(412, 'missing required header')
    if (space !== namespace) return refuse(404, 'namespace not found')
    if (path === `auth/${method}/login`)
      return token === undefined ? login(request, body) : refuse(400, 'a token')
    if (!tokens.lives(token as string | undefined)) {
      const reason = '2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n'
      return token === undefined ? refuse(403, 'missing client token') : refuse(403, reason)
    }
    const [, act] = /^auth\/token\/([a-z-]+)$/.exec(path) ?? []
    if (act) return tokens.self(request.method!, act, token as string)
    if (path === `sys/internal/ui/mounts/${mount}`)
      return ok({ data: { path: `${mount}/`, type: 'kv', options: { version: '2' } } })
    if (path.startsWith('sys/')) return refuse(403, 'permission denied')
    const [, part, below] = /^(data|metadata)\/(.+)$/.exec(path.slice(mount.length + 1)) ?? []
    if (!path.startsWith(`${mount}/`) || !part || !below)
      return refuse(404, `no handler for route "${path}". route entry not found.`)
    const allowed = below.startsWith('strongroom/') || (below.startsWith('apps/') && part === 'data')
    if (!allowed) return refuse(403, '1 error occurred:\n\t* permission denied\n\n')
    return kv.reply(request.method!, part, below, body)
  }

  function login(request: IncomingMessage, body: Record<string, unknown>): VaultReply {
    const shown = tls && (request.socket as TLSSocket).getPeerCertificate()
    const sound = {
      token: false,
      approle: body['role_id'] === ROLE && body['secret_id'] === secretId,
      kubernetes: body['role'] === ROLE && body['jwt'] === secretId,
      cert: shown?.subject?.CN === 'client' && (request.socket as TLSSocket).authorized,
    }[method]
    if (sound) return tokens.login()
    return method === 'kubernetes'
      ? refuse(403, 'permission denied')
      : refuse(400, 'invalid role or secret ID')
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const line = `${request.method} ${request.url}`
    served.requests.push(line)
    if (trouble === 'hang') return
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const path = request.url!.slice('/v1/'.length)
    const call = CALLS[`${request.method} ${path.slice(mount.length + 1).split('/')[0]}`]
    if (call) await served.onCall?.(call, 'before')
    const forged = served.forge?.(line)
    if (forged) return answerForged(response, forged)
    if (trouble === 'drip') return await drip(response)
    const { status, body } = REFUSALS[trouble!] ?? replyTo(request, path, Buffer.concat(chunks))
    if (call) await served.onCall?.(call, 'after')
    response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    response.end(body && JSON.stringify(body) + '\n')
  }

  function replyTo(request: IncomingMessage, path: string, bytes: Buffer): VaultReply {
    const odd = /[%?#\\]|\/\/|\/\.\.?(\/|$)/.test(request.url!)
    if (odd || !request.url!.startsWith('/v1/')) return refuse(400, 'odd path')
    if (bytes.length === 0) return reply(request, path, {})
    if (request.headers['content-type'] !== 'application/json') return refuse(400, 'not JSON')
    return reply(request, path, JSON.parse(bytes.toString()) as Record<string, unknown>)
  }

  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    // A caller that has gone is what the tests of deadlines are about.
    serve(request, response).catch(() => response.destroy())
  }
  const server: Server = tls
    ? createTlsServer({ ...tls, requestCert: true, rejectUnauthorized: false }, listener)
    : createServer(listener)
  server.on(tls ? 'secureConnection' : 'connection', (socket: Socket) => {
    connections += 1
    socket.on('error', () => {})
  })
  const listen = (port: number): Promise<void> =>
    new Promise((resolve) => server.listen(port, '127.0.0.1', resolve))
  const shut = (): void => {
    server.close()
    server.closeAllConnections()
  }
  await listen(0)
  const { port } = server.address() as AddressInfo

  const refs = (paths: string[]): string[] => paths.filter((path) => path.startsWith('strongroom/'))
  const auth = {
    token: { token_file: loginFile },
    approle: { role_id: ROLE, secret_id_file: loginFile },
    kubernetes: { role: ROLE, jwt_file: loginFile },
    cert: { cert_file: tls?.client_cert_file, key_file: tls?.client_key_file },
  }[method]
  const served: VaultServer = {
    settings: {
      provider: 'hashicorp-vault',
      address: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
      ...(options.mount && { mount }),
      ...(namespace && { namespace }),
      auth: { method, ...auth },
      ...(tls && { ca_file: tls.ca_file }),
    },
    env: {},
    onCall: undefined,
    kept: () => refs(kv.paths(true)),
    recoverable: () => refs(kv.paths(false)),
    async plant(locator, text) {
      const parsed: unknown = text.startsWith('{') ? JSON.parse(text) : { value: text }
      kv.reply('POST', 'data', locator, { data: parsed })
    },
    async suffer(next) {
      trouble = next
      if (next === 'refuse-connections') shut()
    },
    async recover() {
      const refused = trouble === 'refuse-connections'
      trouble = undefined
      if (refused) await listen(port)
    },
    async close() {
      shut()
      rmSync(home, { recursive: true, force: true })
    },
    kv,
    tokens,
    loginFile,
    requests: [],
    connections: () => connections,
    forge: undefined,
    port,
  }
  return served
}

async function drip(response: ServerResponse): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/json' })
  for (const byte of `{"data":${' '.repeat(10_000)}`) {
    if (response.destroyed) return
    response.write(byte)
    await sleep(50)
  }
}

function answerForged(
  response: ServerResponse,
  { status, headers, body = '', cut, hold }: ForgedReply,
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  if (!cut && !hold) return void response.end(body)
  response.write(body)
  if (cut) setTimeout(() => response.destroy(), 20)
}
