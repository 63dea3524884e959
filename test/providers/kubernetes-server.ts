import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Trouble } from '../conformance/secret-store.ts'
import { loopbackCertificate } from './loopback-certificate.ts'
import type { ProviderServer, ServedCall } from './provider-server.ts'

/** A Secret as the API server keeps it. */
export interface KeptSecret {
  apiVersion: string
  kind: string
  metadata: {
    name: string
    namespace: string
    uid: string
    resourceVersion: string
    creationTimestamp: string
    deletionTimestamp?: string
    finalizers?: string[]
    labels?: Record<string, string>
    annotations?: Record<string, string>
  }
  type: string
  immutable?: boolean
  data?: Record<string, string>
}

/** What a test lets the server say in place of its own answer. */
export interface Canned {
  status: number
  headers?: Record<string, string>
  body: string
}

/** A loopback API server for the Secrets of one namespace, over TLS, reached by a kubeconfig. */
export interface KubernetesServer extends ProviderServer {
  url: string
  namespace: string
  /** Who shows another bearer token is Unauthorized. */
  token: string
  secrets: Map<string, KeptSecret>
  /** Method and path of every request, whoever made it. */
  asked: string[]
  /** Connections that have been made to it so far. */
  connections: number
  canned: Canned | undefined
  /** Writes the kubeconfig anew, with what the test says differently. */
  configure(changes?: { cluster?: object; user?: object; currentContext?: string }): void
}

const NAMESPACE = 'connectors'
const SUBDOMAIN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/
const LABEL = /^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/
const ANNOTATION_BYTES_MAX = 256 * 1024
const DATA_BYTES_MAX = 1024 * 1024

/** @param certificate Shown by the server; the kubeconfig trusts one and the same unless a test says otherwise. */
export async function openKubernetesServer(certificate = loopbackCertificate()): Promise<KubernetesServer> {
  const directory = mkdtempSync(join(tmpdir(), 'strongroom-kubernetes-'))
  const kubeconfig = join(directory, 'config')
  const server = createServer(certificate)
  const drips = new Set<NodeJS.Timeout>()
  let version = 1000
  let trouble: Trouble | undefined

  const listen = (port: number): Promise<void> =>
    new Promise((resolve) => server.listen(port, '127.0.0.1', resolve))
  const unlisten = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  await listen(0)
  const { port } = server.address() as AddressInfo

  const api: KubernetesServer = {
    settings: { provider: 'kubernetes', namespace: NAMESPACE },
    env: { KUBECONFIG: kubeconfig },
    url: `https://127.0.0.1:${port}`,
    namespace: NAMESPACE,
    // Marked, so that whoever looks for a value in an error finds the token as well.
    token: `d41d8cd98f00b204.${randomBytes(8).toString('hex')}`,
    secrets: new Map(),
    asked: [],
    connections: 0,
    canned: undefined,
    onCall: undefined,
    configure({ cluster, user, currentContext } = {}) {
      const authority = Buffer.from(certificate.cert).toString('base64')
      const of = { server: api.url, 'certificate-authority-data': authority, ...cluster }
      const context = (name: string, who: string) => ({ name, context: { cluster: 'loopback', user: who } })
      const config = {
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [{ name: 'loopback', cluster: of }],
        users: [
          { name: 'vault', user: user ?? { token: api.token } },
          { name: 'stranger', user: { token: 'd41d8cd98f00b204.stranger' } },
        ],
        contexts: [context('vault', 'vault'), context('stranger', 'stranger')],
        'current-context': currentContext ?? 'vault',
      }
      writeFileSync(kubeconfig, JSON.stringify(config))
    },
    kept: () =>
      [...api.secrets.values()]
        .filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/managed-by'] === 'strongroom')
        .map(({ metadata }) => metadata.name.replaceAll('.', '/')),
    recoverable: () => [],
    async plant(locator, planted) {
      const members = Object.entries(JSON.parse(planted) as Record<string, string>)
      const data = members.map(([member, value]) => [member, Buffer.from(value).toString('base64')])
      keep({
        metadata: { name: locator.replaceAll('/', '.') },
        type: 'Opaque',
        data: Object.fromEntries(data),
      })
    },
    async suffer(next) {
      trouble = next
      if (next === 'refuse-connections') await unlisten()
    },
    async recover() {
      if (trouble === 'refuse-connections') await listen(port)
      trouble = undefined
    },
    async close() {
      for (const drip of drips) clearInterval(drip)
      await unlisten()
      rmSync(directory, { recursive: true })
    },
  }
  api.configure()

  function keep(sent: {
    metadata: { name: string }
    type?: string
    data?: Record<string, string>
  }): KeptSecret {
    const kept: KeptSecret = {
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'Opaque',
      ...sent,
      metadata: {
        ...sent.metadata,
        namespace: NAMESPACE,
        uid: randomUUID(),
        resourceVersion: String(++version),
        creationTimestamp: new Date().toISOString().replace(/\.\d+/, ''),
      },
    }
    api.secrets.set(kept.metadata.name, kept)
    return kept
  }

  function act(method: string, name: string | undefined, body: string): [number, object] {
    if (method === 'POST' && !name) {
      const sent = JSON.parse(body) as KeptSecret
      const fault = faultOf(sent)
      if (fault)
        return statusOf(422, 'Invalid', `Secret "${sent.metadata?.name}" is invalid: ${fault}: ${body}`)
      if (api.secrets.has(sent.metadata.name)) return exists(sent.metadata.name)
      return [201, keep(sent)]
    }
    const kept = name === undefined ? undefined : api.secrets.get(name)
    if (name === undefined || (method !== 'GET' && method !== 'DELETE'))
      return statusOf(
        405,
        'MethodNotAllowed',
        'the server does not allow this method on the requested resource',
      )
    const details = { name, kind: 'secrets' }
    if (!kept) return statusOf(404, 'NotFound', `secrets "${name}" not found`, details)
    if (method === 'GET') return [200, kept]
    if (kept.metadata.finalizers?.length) {
      kept.metadata.deletionTimestamp ??= new Date().toISOString()
      return [200, kept]
    }
    api.secrets.delete(name)
    const gone = { status: 'Success', details: { ...details, uid: kept.metadata.uid } }
    return [200, { kind: 'Status', apiVersion: 'v1', metadata: {}, ...gone }]
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request
    api.asked.push(`${method} ${url}`)
    const body = await text(request)
    if (trouble === 'hang') return
    if (trouble === 'drip') return drip(response)
    if (api.canned) {
      const { status, headers, body } = api.canned
      return void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)
    }
    const path = /^\/api\/v1\/namespaces\/([^/?]+)\/secrets(?:\/([^/?]+))?$/.exec(url)
    const call: ServedCall = method === 'POST' ? 'put' : method === 'GET' ? 'get' : 'delete'
    const form = method !== 'POST' || request.headers['content-type'] === 'application/json'
    const refused =
      request.headers.authorization !== `Bearer ${api.token}`
        ? statusOf(401, 'Unauthorized', 'Unauthorized')
        : !form
          ? statusOf(415, 'UnsupportedMediaType', 'the body of the request was in an unknown format')
          : !path
            ? statusOf(404, 'NotFound', 'the server could not find the requested resource', {})
            : (refusal(trouble, method, body) ?? missingNamespace(path[1]!, method))
    if (refused) return send(response, refused)
    await api.onCall?.(call, 'before')
    const answer = act(method, path?.[2] && decodeURIComponent(path[2]), body)
    await api.onCall?.(call, 'after')
    send(response, answer)
  }

  function drip(response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json' })
    drips.add(setInterval(() => response.write(' '), 50))
  }

  server.on('connection', () => api.connections++)
  server.on('request', (request, response) => {
    // A hook that throws loses the answer.
    serve(request, response).catch(() => request.socket.destroy())
  })
  return api
}

function send(response: ServerResponse, [status, body]: [number, object]): void {
  const wait = status === 429 ? { 'retry-after': '1' } : {}
  response.writeHead(status, { 'content-type': 'application/json', ...wait }).end(JSON.stringify(body))
}

/** A failure, as the API server writes it. */
export function statusOf(code: number, reason: string, message: string, details?: object): [number, object] {
  const failure = { status: 'Failure', message, reason, ...(details && { details }), code }
  return [code, { kind: 'Status', apiVersion: 'v1', metadata: {}, ...failure }]
}

const exists = (name: string): [number, object] =>
  statusOf(409, 'AlreadyExists', `secrets "${name}" already exists`, { name, kind: 'secrets' })

// Each repeats the body, as a webhook or a validation may.
function refusal(trouble: Trouble | undefined, method: string, body: string): [number, object] | undefined {
  const who = 'User "system:serviceaccount:strongroom:default"'
  if (trouble === 'deny')
    return statusOf(403, 'Forbidden', `secrets is forbidden: ${who} cannot ${method}: ${body}`)
  if (trouble === 'throttle') return statusOf(429, 'TooManyRequests', `too many requests: ${body}`)
  if (trouble === 'break') return statusOf(500, 'InternalError', `Internal error occurred: ${body}`)
  return undefined
}

function missingNamespace(namespace: string, method: string): [number, object] | undefined {
  if (namespace === NAMESPACE || method !== 'POST') return undefined
  const details = { name: namespace, kind: 'namespaces' }
  return statusOf(404, 'NotFound', `namespaces "${namespace}" not found`, details)
}

function faultOf({ apiVersion, kind, metadata, data = {} }: KeptSecret): string | undefined {
  if (apiVersion !== 'v1' || kind !== 'Secret') return 'apiVersion, kind'
  const { name = '', labels = {}, annotations = {} } = metadata ?? {}
  if (!SUBDOMAIN.test(name) || name.length > 253) return 'metadata.name'
  if (!Object.values(labels).every((label) => LABEL.test(label))) return 'metadata.labels'
  if (Object.entries(annotations).flat().join('').length > ANNOTATION_BYTES_MAX) return 'metadata.annotations'
  if (!Object.keys(data).every((member) => /^[-._a-zA-Z0-9]+$/.test(member))) return 'data'
  const values = Object.values(data).map((value) => Buffer.from(value, 'base64'))
  if (!Object.values(data).every((value, at) => values[at]!.toString('base64') === value)) return 'data'
  return Buffer.concat(values).length > DATA_BYTES_MAX ? 'data' : undefined
}
