import { randomUUID } from 'node:crypto'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Trouble } from '../conformance/secret-store.ts'
import type { ProviderServer, ServedCall } from './provider-server.ts'
import type { Signer } from './sig-v4.ts'
import { signatureFault } from './sig-v4.ts'

/** A secret as this server keeps it. */
export interface KeptSecret {
  name: string
  /** By version id. */
  versions: Map<string, { text?: string; binary?: string }>
  current: string
  tags: { Key: string; Value: string }[]
  kmsKeyId: string | undefined
  /** In seconds; set while only the recovery window holds it. */
  deletedAt?: number
  /** Planted: somebody else's. */
  foreign: boolean
}

/** A request that came, judged or not. */
export interface SeenRequest {
  action: string
  input: Record<string, unknown>
  headers: IncomingMessage['headers']
}

/** An answer in the place of the true one. */
export interface Answer {
  status: number
  body: unknown
  headers?: Record<string, string>
}

/** AWS Secrets Manager, as far as a store asks it. */
export interface AwsServer extends ProviderServer {
  url: string
  secrets: Map<string, KeptSecret>
  seen: SeenRequest[]
  /** Answers by itself when it gives something; the request has been judged, and was not acted upon. */
  answer: ((request: SeenRequest) => Answer | undefined) | undefined
}

/** What the vendor refuses, as it writes it. */
class Refusal extends Error {
  readonly status: number

  constructor(name: string, message = 'The request was refused.', status = 400) {
    super(message)
    this.name = name
    this.status = status
  }
}

const SIGNER: Signer = {
  accessKeyId: 'AKIDSTRONGROOMTEST01',
  secretAccessKey: 'test+secret/access+key+of+nobody+0000000',
  sessionToken: 'test-session-token',
  region: 'eu-west-1',
  service: 'secretsmanager',
}
const CALL: Record<string, ServedCall> = {
  CreateSecret: 'put',
  GetSecretValue: 'get',
  DeleteSecret: 'delete',
}
const TROUBLES: Partial<Record<Trouble, Refusal>> = {
  deny: new Refusal('AccessDeniedException', 'User is not authorized to perform this operation.'),
  throttle: new Refusal('ThrottlingException', 'Rate exceeded'),
  break: new Refusal('InternalServiceError', 'An error occurred on the server side.', 500),
}
const SCHEDULED =
  "You can't perform this operation on the secret because it was already scheduled for deletion."
const DRIP_MS = 60

/** Starts it on a free port of the loopback interface, behind TLS where it is given a certificate. */
export async function startAwsServer(tls?: { key: Buffer; cert: Buffer }): Promise<AwsServer> {
  const secrets = new Map<string, KeptSecret>()
  const seen: SeenRequest[] = []
  let trouble: Trouble | undefined
  let port = 0
  let http: Server | undefined

  async function listen(): Promise<void> {
    const take = (request: IncomingMessage, response: ServerResponse) =>
      void serve(request, response).catch(() => response.destroy())
    http = tls ? createTlsServer(tls, take) : createServer(take)
    await new Promise<void>((resolve) => http!.listen(port, '127.0.0.1', resolve))
    port = (http.address() as AddressInfo).port
  }

  async function shut(): Promise<void> {
    const closing = http
    http = undefined
    if (!closing) return
    const closed = new Promise((resolve) => closing.close(resolve))
    closing.closeAllConnections()
    await closed
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = Buffer.concat(await request.toArray())
    const [service, action = ''] = String(request.headers['x-amz-target']).split('.')
    const entry: SeenRequest = { action, input: {}, headers: request.headers }
    seen.push(entry)
    if (trouble === 'hang') return
    let answer: Answer
    try {
      const sound =
        request.method === 'POST' &&
        request.url === '/' &&
        request.headers['content-type'] === 'application/x-amz-json-1.1' &&
        service === 'secretsmanager'
      if (!sound) throw new Refusal('UnknownOperationException')
      const fault = signatureFault(request, body, SIGNER)
      if (fault) throw new Refusal(fault)
      entry.input = JSON.parse(body.toString())
      const refusal = trouble && TROUBLES[trouble]
      if (refusal) throw refusal
      if (trouble === 'drip') return await drip(response)
      const call = CALL[action]
      if (call) await server.onCall?.(call, 'before')
      answer = server.answer?.(entry) ?? { status: 200, body: act(action, entry.input) }
      if (call) await server.onCall?.(call, 'after')
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      answer = { status: error.status, body: { __type: error.name, message: error.message } }
    }
    write(response, answer)
  }

  /** What would be an answer, if it ever ended; nothing was done for it. */
  async function drip(response: ServerResponse): Promise<void> {
    response.writeHead(200, { 'content-type': 'application/x-amz-json-1.1' })
    for (const byte of Buffer.from(JSON.stringify(shown('dripping')))) {
      if (response.destroyed) return
      response.write(Buffer.of(byte))
      await sleep(DRIP_MS)
    }
    response.end()
  }

  function write(response: ServerResponse, { status, body, headers }: Answer): void {
    const bytes = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body))
    response.writeHead(status, {
      'content-type': 'application/x-amz-json-1.1',
      'content-length': bytes.length,
      'x-amzn-requestid': randomUUID(),
      ...headers,
    })
    response.end(bytes)
  }

  function act(action: string, input: Record<string, unknown>): unknown {
    switch (action) {
      case 'CreateSecret':
        return createSecret(input)
      case 'GetSecretValue':
        return getSecretValue(input)
      case 'DescribeSecret': {
        allow(input, ['SecretId'])
        const { name, deletedAt } = find(input['SecretId'])
        return { ...shown(name), ...(deletedAt !== undefined && { DeletedDate: deletedAt }) }
      }
      case 'DeleteSecret':
        return deleteSecret(input)
      default:
        throw new Refusal('UnknownOperationException')
    }
  }

  function createSecret(input: Record<string, unknown>): unknown {
    allow(input, ['Name', 'SecretString', 'ClientRequestToken', 'KmsKeyId', 'Tags'])
    const { Name: name, SecretString: text, ClientRequestToken: token } = input as Record<string, string>
    if (!/^[a-zA-Z0-9/_+=.@-]{1,512}$/.test(name!)) throw new Refusal('InvalidParameterException')
    if (!/^.{32,64}$/.test(token!)) throw new Refusal('InvalidParameterException')
    if (typeof text !== 'string' || text === '' || Buffer.byteLength(text) > 65_536) {
      throw new Refusal('InvalidParameterException')
    }
    const tags = (input['Tags'] ?? []) as { Key: string; Value: string }[]
    for (const { Key, Value } of tags) {
      const sound = /^(?!aws:)[\p{L}\p{Z}\p{N}_.:/=+@-]*$/u
      if (!sound.test(Key) || Key === '' || Key.length > 128) throw new Refusal('InvalidParameterException')
      if (!sound.test(Value) || Value.length > 256) throw new Refusal('InvalidParameterException')
    }
    const there = secrets.get(name!)
    if (there?.deletedAt !== undefined) {
      throw new Refusal(
        'InvalidRequestException',
        "You can't create this secret because a secret with this name is already scheduled for deletion.",
      )
    }
    if (there && there.versions.get(token!)?.text !== text) {
      throw new Refusal('ResourceExistsException', 'The operation failed because the secret already exists.')
    }
    const kmsKeyId = input['KmsKeyId'] as string | undefined
    const versions = new Map([[token!, { text }]])
    if (!there) secrets.set(name!, { name: name!, versions, current: token!, tags, kmsKeyId, foreign: false })
    return { ...shown(name!), VersionId: token }
  }

  function getSecretValue(input: Record<string, unknown>): unknown {
    allow(input, ['SecretId', 'VersionStage'])
    // Left out, AWS takes AWSCURRENT; of a store we ask that it says so.
    if (input['VersionStage'] !== 'AWSCURRENT') throw new Refusal('InvalidParameterException')
    const { name, versions, current, deletedAt } = find(input['SecretId'])
    if (deletedAt !== undefined) throw new Refusal('InvalidRequestException', SCHEDULED)
    const { text, binary } = versions.get(current)!
    return {
      ...shown(name),
      VersionId: current,
      VersionStages: ['AWSCURRENT'],
      CreatedDate: 1_764_000_000.123,
      ...(text !== undefined ? { SecretString: text } : { SecretBinary: binary }),
    }
  }

  function deleteSecret(input: Record<string, unknown>): unknown {
    allow(input, ['SecretId', 'RecoveryWindowInDays', 'ForceDeleteWithoutRecovery'])
    const { RecoveryWindowInDays: days, ForceDeleteWithoutRecovery: force } = input
    const sound = force === true ? days === undefined : Number.isInteger(days) && +days! >= 7 && +days! <= 30
    if (!sound) throw new Refusal('InvalidParameterException')
    const id = String(input['SecretId'])
    const now = Date.now() / 1000
    // By force, also what was never kept, and what the recovery window holds.
    if (force === true) {
      secrets.delete(id)
      return { ...shown(id), DeletionDate: now }
    }
    const secret = find(id)
    if (secret.deletedAt !== undefined) throw new Refusal('InvalidRequestException', SCHEDULED)
    secret.deletedAt = now
    return { ...shown(id), DeletionDate: now + Number(days) * 86_400 }
  }

  function find(id: unknown): KeptSecret {
    const secret = secrets.get(String(id))
    if (!secret) {
      throw new Refusal('ResourceNotFoundException', "Secrets Manager can't find the specified secret.")
    }
    return secret
  }

  function names(deleted: boolean): string[] {
    const ours = [...secrets.values()].filter((secret) => !secret.foreign)
    return ours.filter(({ deletedAt }) => (deletedAt !== undefined) === deleted).map(({ name }) => name)
  }

  await listen()
  const url = `${tls ? 'https' : 'http'}://127.0.0.1:${port}`
  const server: AwsServer = {
    url,
    secrets,
    seen,
    answer: undefined,
    settings: { provider: 'aws-secrets-manager', region: SIGNER.region, endpoint: url },
    env: {
      AWS_ACCESS_KEY_ID: SIGNER.accessKeyId,
      AWS_SECRET_ACCESS_KEY: SIGNER.secretAccessKey,
      AWS_SESSION_TOKEN: SIGNER.sessionToken!,
    },
    onCall: undefined,
    kept: () => names(false),
    recoverable: () => names(true),
    async plant(locator, text) {
      const current = randomUUID()
      const versions = new Map([[current, { text }]])
      secrets.set(locator, { name: locator, versions, current, tags: [], kmsKeyId: undefined, foreign: true })
    },
    async suffer(what) {
      trouble = what
      if (what === 'refuse-connections') await shut()
    },
    async recover() {
      trouble = undefined
      if (!http) await listen()
    },
    close: shut,
  }
  return server
}

function allow(input: Record<string, unknown>, members: string[]): void {
  const unknown = Object.keys(input).filter((member) => !members.includes(member))
  if (unknown.length > 0) throw new Refusal('SerializationException')
}

function shown(name: string): { ARN: string; Name: string } {
  return { ARN: `arn:aws:secretsmanager:eu-west-1:123456789012:secret:${name}-AbCdEf`, Name: name }
}
