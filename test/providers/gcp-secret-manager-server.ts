import { createRequire } from 'node:module'
import * as grpc from '@grpc/grpc-js'
import { fromJSON } from '@grpc/proto-loader'
import { crc32c } from '../../providers/crc32c.ts'
import type { Trouble } from '../conformance/secret-store.ts'
import { layLine } from './gcp-line.ts'
import type { ProviderServer, ServedCall } from './provider-server.ts'

type Message = { [field: string]: unknown }

/** A call as it came in. */
export interface Asked {
  method: string
  request: Message
  metadata: grpc.Metadata
}

/** How a test has Google's server. */
export interface GcpServerOptions {
  project?: string
  location?: string
  /** With TLS a login is asked for; without, one that is sent all the same is refused. */
  tls?: { cert: string; key: string; knows: (authorization: string) => boolean }
}

/** Google Secret Manager on loopback, from the protos that its SDK ships. */
export interface GcpServer extends ProviderServer {
  port: number
  asked: Asked[]
  /** What a secret was created with. */
  secretOf(id: string): Message | undefined
  versionsOf(id: string): Version[]
  /** Every call fails with it. */
  failWith: { code: grpc.status; details: string; metadata?: grpc.Metadata } | undefined
  /** Changes an answer on its way out; what is a Buffer goes out as it is. */
  tamper: ((method: string, answer: Message) => Message | Buffer) | undefined
}

/** One version of a secret; their numbers begin at 1. */
export interface Version {
  data: Buffer
  state: 'ENABLED' | 'DISABLED' | 'DESTROYED'
}

const { status } = grpc
const PROJECT_NUMBER = '424242424242'
const PAYLOAD_BYTES_MAX = 65_536
// The SDK's pause between two connections, and its jitter, are over by then.
const RECONNECTED_MS = 1300
const SERVED: Record<string, ServedCall> = {
  CreateSecret: 'put',
  AddSecretVersion: 'put',
  AccessSecretVersion: 'get',
  DeleteSecret: 'delete',
}

/** Starts it on a port of its own. */
export async function startGcpServer(options: GcpServerOptions = {}): Promise<GcpServer> {
  const { location, project = 'data-platform', tls } = options
  const parent = `projects/${project}${location ? `/locations/${location}` : ''}`
  const outward = (name: string) => name.replace(`projects/${project}`, `projects/${PROJECT_NUMBER}`)
  const secrets = new Map<string, { secret: Message; versions: Version[] }>()
  const planted = new Set<string>()
  let suffered: Trouble | undefined

  const secretAt = (name: string) => {
    const id = name.startsWith(`${parent}/secrets/`) ? name.slice(`${parent}/secrets/`.length) : ''
    if (!/^[A-Za-z0-9_-]{1,255}$/.test(id)) throw refusal(status.INVALID_ARGUMENT, `invalid name ${name}`)
    const found = secrets.get(id)
    if (!found) throw refusal(status.NOT_FOUND, `Secret [${outward(name)}] not found.`)
    return { ...found, id }
  }

  const acts: Record<string, (request: Message) => Message> = {
    CreateSecret: ({ parent: under, secretId, secret }) => {
      if (under !== parent) throw refusal(status.NOT_FOUND, `Project ${String(under)} not found.`)
      const id = String(secretId)
      if (!/^[A-Za-z0-9_-]{1,255}$/.test(id)) throw refusal(status.INVALID_ARGUMENT, 'invalid secret_id')
      demandSound(secret as Message, location)
      const name = outward(`${parent}/secrets/${id}`)
      if (secrets.has(id)) throw refusal(status.ALREADY_EXISTS, `Secret [${name}] already exists.`)
      secrets.set(id, { secret: secret as Message, versions: [] })
      return { ...(secret as Message), name }
    },
    AddSecretVersion: ({ parent: under, payload }) => {
      const { versions } = secretAt(String(under))
      const { data, dataCrc32c } = payload as { data: Buffer; dataCrc32c?: string }
      if (data.length > PAYLOAD_BYTES_MAX)
        throw refusal(status.INVALID_ARGUMENT, 'payload exceeds 65536 bytes')
      if (dataCrc32c !== undefined && dataCrc32c !== String(crc32c(data)))
        throw refusal(status.INVALID_ARGUMENT, `checksum mismatch for ${data.toString()}`)
      const name = `${outward(String(under))}/versions/${versions.push({ data, state: 'ENABLED' })}`
      return { name, state: 'ENABLED', clientSpecifiedPayloadChecksum: dataCrc32c !== undefined }
    },
    AccessSecretVersion: ({ name }) => {
      const [, under, which] = /^(.*)\/versions\/(latest|[0-9]+)$/.exec(String(name)) ?? []
      if (!under) throw refusal(status.INVALID_ARGUMENT, `invalid name ${String(name)}`)
      const { versions } = secretAt(under)
      const number = which === 'latest' ? versions.length : Number(which)
      const version = versions[number - 1]
      const numbered = `${outward(under)}/versions/${number}`
      if (!version)
        throw refusal(status.NOT_FOUND, `Secret [${outward(under)}] not found or has no versions.`)
      if (version.state !== 'ENABLED')
        throw refusal(
          status.FAILED_PRECONDITION,
          `Secret Version [${numbered}] is in ${version.state} state.`,
        )
      const { data } = version
      return { name: numbered, payload: { data, dataCrc32c: String(crc32c(data)) } }
    },
    DeleteSecret: ({ name }) => {
      secrets.delete(secretAt(String(name)).id)
      return {}
    },
  }

  const serve = async ({ method, request, metadata }: Asked): Promise<Message | Buffer> => {
    server.asked.push({ method, request, metadata })
    demandHeaders(request, metadata, tls?.knows)
    if (server.failWith) throw server.failWith
    const text = JSON.stringify(request, (_, part) => (Buffer.isBuffer(part) ? part.toString() : part))
    // As unkind as can be: the refusal repeats the request.
    const refused = suffered && TROUBLES[suffered]
    if (refused) throw refusal(refused, `${status[refused]} for ${text}`)
    // What drips is worth nothing when it is through: nothing is done for it.
    if (suffered === 'drip') return {}
    const act = acts[method]
    if (!act) throw refusal(status.UNIMPLEMENTED, method)
    await server.onCall?.(SERVED[method]!, 'before')
    const answer = act(request)
    await server.onCall?.(SERVED[method]!, 'after')
    return server.tamper?.(method, answer) ?? answer
  }

  const { server: behind, port: portBehind } = await startGrpc(serve, tls)
  const line = await layLine(portBehind)
  const server: GcpServer = {
    port: line.port,
    asked: [],
    failWith: undefined,
    tamper: undefined,
    onCall: undefined,
    settings: {
      provider: 'gcp-secret-manager',
      project,
      ...(location && { location }),
      endpoint: `${tls ? 'https' : 'http'}://127.0.0.1:${line.port}`,
    },
    env: {},
    secretOf: (id) => secrets.get(id)?.secret,
    versionsOf: (id) => secrets.get(id)?.versions ?? [],
    // One without a version counts: it too must not be left behind.
    kept: () => [...secrets.keys()].filter((id) => !planted.has(id)).map((id) => id.replaceAll('__', '/')),
    recoverable: () => [],
    plant: async (locator, text) => {
      const id = locator.replaceAll('/', '__')
      planted.add(id)
      const versions = secrets.get(id)?.versions ?? []
      secrets.set(id, { secret: {}, versions: [...versions, { data: Buffer.from(text), state: 'ENABLED' }] })
    },
    suffer: async (trouble) => {
      suffered = trouble
      const modes = { hang: 'silence', drip: 'drip', 'refuse-connections': 'refuse' } as const
      if (trouble in modes) await line.set(modes[trouble as keyof typeof modes])
    },
    recover: async () => {
      const wasCut = suffered && !TROUBLES[suffered]
      suffered = undefined
      await line.set('pass')
      if (wasCut) await new Promise((resolve) => setTimeout(resolve, RECONNECTED_MS))
    },
    close: async () => {
      await line.close()
      behind.forceShutdown()
    },
  }
  return server
}

/** The troubles that are answers. */
const TROUBLES: Partial<Record<Trouble, grpc.status>> = {
  deny: status.PERMISSION_DENIED,
  throttle: status.RESOURCE_EXHAUSTED,
  break: status.INTERNAL,
}

function refusal(code: grpc.status, details: string): Partial<grpc.StatusObject> {
  return { code, details }
}

/** What Google's API asks of a new secret. */
function demandSound(secret: Message, location: string | undefined): void {
  const bad = (why: string) => refusal(status.INVALID_ARGUMENT, why)
  const { annotations = {}, customerManagedEncryption, labels = {}, replication } = secret as SecretMessage
  if (location && replication) throw bad('a regional secret has no replication')
  if (!location && !replication?.replication) throw bad('replication is required')
  if (!location && customerManagedEncryption) throw bad('a global secret has its key in its replication')
  const keyIn = (key: string | undefined, where: string) => {
    if (key !== undefined && !key.includes(`/locations/${where}/`)) throw bad(`the key is not in ${where}`)
  }
  if (location) keyIn(customerManagedEncryption?.kmsKeyName, location)
  keyIn(replication?.automatic?.customerManagedEncryption?.kmsKeyName, 'global')
  for (const replica of replication?.userManaged?.replicas ?? [])
    keyIn(replica.customerManagedEncryption?.kmsKeyName, replica.location)
  for (const [key, value] of Object.entries(labels))
    if (
      !/^[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}$/u.test(key) ||
      !/^[\p{Ll}\p{Lo}\p{N}_-]{0,63}$/u.test(value)
    )
      throw bad(`label ${key}`)
  for (const key of Object.keys(annotations))
    if (!/^[a-z0-9A-Z]([a-z0-9A-Z_.-]{0,61}[a-z0-9A-Z])?$/.test(key)) throw bad(`annotation ${key}`)
}

interface Encryption {
  customerManagedEncryption?: { kmsKeyName: string }
}
interface SecretMessage extends Encryption {
  annotations?: Record<string, string>
  labels?: Record<string, string>
  replication?: {
    replication?: string
    automatic?: Encryption
    userManaged?: { replicas: ({ location: string } & Encryption)[] }
  }
}

function demandHeaders(
  request: Message,
  metadata: grpc.Metadata,
  knows: ((authorization: string) => boolean) | undefined,
): void {
  const [authorization] = metadata.get('authorization').map(String)
  const admitted = knows ? authorization !== undefined && knows(authorization) : authorization === undefined
  if (!admitted) throw refusal(status.UNAUTHENTICATED, `not a login: ${authorization}`)
  // Google routes by this header, not by the message.
  const [key, name] = request.name === undefined ? ['parent', request.parent] : ['name', request.name]
  const routed = metadata.get('x-goog-request-params').map(String)
  if (routed[0] !== `${key}=${encodeURIComponent(String(name))}`)
    throw refusal(status.INVALID_ARGUMENT, `routed by ${routed[0]}`)
}

// Once for all servers: it takes a tenth of a second, in which no other test of the file is served.
const json = createRequire(import.meta.url)('@google-cloud/secret-manager/build/protos/protos.json')
const api = fromJSON(json, { longs: String, enums: String, oneofs: true })
const SERVICE = api['google.cloud.secretmanager.v1.SecretManagerService'] as grpc.ServiceDefinition

async function startGrpc(
  serve: (asked: Asked) => Promise<Message | Buffer>,
  tls: GcpServerOptions['tls'],
): Promise<{ server: grpc.Server; port: number }> {
  const raw: Record<string, grpc.MethodDefinition<unknown, unknown>> = {}
  const handlers: grpc.UntypedServiceImplementation = {}
  for (const [method, definition] of Object.entries(SERVICE)) {
    const responseSerialize = (answer: unknown) =>
      Buffer.isBuffer(answer) ? answer : (definition.responseSerialize as (a: unknown) => Buffer)(answer)
    raw[method] = { ...definition, responseSerialize } as (typeof raw)[string]
    handlers[method] = ((call, callback) => {
      serve({ method, request: call.request, metadata: call.metadata }).then(
        (answer) => callback(null, answer),
        (refused) => callback(refused),
      )
    }) as grpc.handleUnaryCall<Message, Message | Buffer>
  }
  const server = new grpc.Server()
  server.addService(raw as grpc.ServiceDefinition, handlers)
  const credentials = tls
    ? grpc.ServerCredentials.createSsl(null, [
        { cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) },
      ])
    : grpc.ServerCredentials.createInsecure()
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error ? reject(error) : resolve(bound))),
  )
  return { server, port }
}
