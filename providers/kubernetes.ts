import { Agent } from 'node:https'
import type { CoreV1Api, RequestContext, ResponseContext, V1Secret } from '@kubernetes/client-node'
import type { Locator } from '../src/core/locator.ts'
import { NIL_UUID, SLUG_PATTERN } from '../src/core/names.ts'
import type {
  CopyOwner,
  LinkedSecret,
  LinkReader,
  SecretStore,
  StoreKind,
  StoreOptions,
} from '../src/core/secret-store.ts'
import { isRefUnder, StoreError } from '../src/core/secret-store.ts'
import { exchange, Refusal, refusalOf, UTF8 } from './kubernetes-exchange.ts'
import type { Sdk } from './kubernetes-login.ts'
import { Login } from './kubernetes-login.ts'

/** What a stores file says of such a store; where the cluster is and who asks, its kubeconfig or the pod says. */
export interface KubernetesSettings {
  namespace: string
  /** Of the kubeconfig; else its current one. */
  context?: string
}

// Slugs hold no dot, so the dots of a name say where its parts end.
const SEGMENT = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/
const NAME_LENGTH_MAX = 253

/** Keeps each copy as one immutable Secret of a namespace, `<prefix>.<workspace>.<uuid>`. */
export const kubernetes: StoreKind<KubernetesSettings> = {
  provider: 'kubernetes',
  settings: {
    properties: {
      namespace: { type: 'string', pattern: SLUG_PATTERN },
      context: { type: 'string', minLength: 1 },
    },
    required: ['namespace'],
  },
  valueBytesMax: 32_768,
  prefixLengthMax: NAME_LENGTH_MAX - '.'.length - 63 - '.'.length - 36,
  segment: SEGMENT,
  open: async (settings, options) =>
    new KubernetesStore(await import('@kubernetes/client-node'), settings, options),
}

const MANAGED_BY = 'app.kubernetes.io/managed-by'

class KubernetesStore implements SecretStore, LinkReader {
  readonly #sdk: Sdk
  readonly #namespace: string
  readonly #context: string | undefined
  readonly #prefix: string
  readonly #timeoutMs: number
  // The SDK makes a connection and a TLS handshake for each request; this agent keeps them.
  readonly #agent = new Agent({ keepAlive: true, timeout: 30_000 })
  readonly #closing = new AbortController()
  #login: Login | undefined

  constructor(sdk: Sdk, { namespace, context }: KubernetesSettings, { prefix, timeoutMs }: StoreOptions) {
    this.#sdk = sdk
    this.#namespace = namespace
    this.#context = context
    this.#prefix = prefix
    this.#timeoutMs = timeoutMs
  }

  async put(ref: string, value: string, owner?: CopyOwner): Promise<void> {
    const name = this.#nameOf(ref)
    const annotations = owner && {
      'strongroom/workspace': owner.workspace,
      'strongroom/credential': owner.credential,
    }
    const body: V1Secret = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name, labels: { [MANAGED_BY]: 'strongroom' }, ...(annotations && { annotations }) },
      type: 'Opaque',
      immutable: true,
      data: { value: Buffer.from(value).toString('base64') },
    }
    await this.#call(async (api) => {
      try {
        await api.createNamespacedSecret({ namespace: this.#namespace, body })
      } catch (error) {
        if (!(error instanceof Refusal) || error.reason !== 'AlreadyExists') throw error
        const kept = await unlessMissing(this.#secret(api, name))
        if (!kept || textOf(kept.data?.['value']) !== value) throw error
      }
    })
  }

  async get(ref: string): Promise<string> {
    const name = this.#nameOf(ref)
    const secret = await this.#call((api) => this.#secret(api, name))
    return textOf(secret.data?.['value'])
  }

  async read(locator: Locator): Promise<LinkedSecret> {
    const name = locator.segments.join('.')
    const sound = locator.segments.every((segment) => SEGMENT.test(segment)) && name.length <= NAME_LENGTH_MAX
    if (!sound || locator.isUnder(`${this.#prefix}/`))
      throw new StoreError('rejected', 'cannot be the name of a Secret')
    const { metadata, data = {} } = await this.#call((api) => this.#secret(api, name))
    // Of whichever Strongroom: a copy is read by those who hold its lease.
    if (metadata?.labels?.[MANAGED_BY] === 'strongroom') throw new StoreError('rejected', 'a copy, no link')
    const members = Object.entries(data).map(([member, base64]) => [member, textOf(base64)])
    const text = JSON.stringify(Object.fromEntries(members))
    return { text, ...(metadata?.resourceVersion && { version: metadata.resourceVersion }) }
  }

  async delete(ref: string): Promise<void> {
    const name = this.#nameOf(ref)
    await this.#call((api) => unlessMissing(api.deleteNamespacedSecret({ name, namespace: this.#namespace })))
  }

  async check(): Promise<void> {
    await unlessMissing(this.get(`${this.#prefix}/check/${NIL_UUID}`))
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#agent.destroy()
  }

  #nameOf(ref: string): string {
    if (!isRefUnder(this.#prefix, ref)) throw new StoreError('rejected', 'no ref of this store')
    return ref.replaceAll('/', '.')
  }

  async #secret(api: CoreV1Api, name: string): Promise<V1Secret> {
    const secret = await api.readNamespacedSecret({ name, namespace: this.#namespace })
    if (secret?.metadata?.name !== name) throw new StoreError('rejected', 'another answer')
    // Deleted, and shown for as long as somebody's finalizer holds it.
    if (secret.metadata.deletionTimestamp) throw new StoreError('not_found', 'being deleted')
    return secret
  }

  /** One deadline for all that a call does, and whatever the SDK fails with, its text stays here. */
  async #call<T>(act: (api: CoreV1Api) => Promise<T>): Promise<T> {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), this.#timeoutMs)
    const cancelled = new Promise<never>((_, reject) => {
      late.signal.onabort = () => reject(new StoreError('unavailable', 'deadline'))
    })
    try {
      return await Promise.race([this.#loggedIn(act, late.signal), cancelled])
    } catch (error) {
      throw error instanceof StoreError ? error : new StoreError('rejected', 'answer not understood')
    } finally {
      clearTimeout(timer)
    }
  }

  /** A login that fails or is refused is made anew, once: tokens and certificates end, also before their time. */
  async #loggedIn<T>(act: (api: CoreV1Api) => Promise<T>, signal: AbortSignal, again = true): Promise<T> {
    if (this.#closing.signal.aborted) throw new StoreError('unavailable', 'closed')
    const old = this.#login
    const login = old ?? new Login(this.#sdk, this.#context, this.#timeoutMs, this.#closing.signal)
    this.#login = login
    try {
      return await act(this.#api(login, signal))
    } catch (error) {
      if (!(error instanceof Refusal) || !['LoginFailed', 'Unauthorized'].includes(error.reason)) throw error
      if (this.#login === login) this.#login = undefined
      if (!old || !again || signal.aborted) throw error
      return await this.#loggedIn(act, signal, false)
    }
  }

  #api(login: Login, signal: AbortSignal): CoreV1Api {
    const sdk = this.#sdk
    const send = async (asked: RequestContext): Promise<ResponseContext> => {
      const { headers, ...options } = await login.options()
      const method = asked.getHttpMethod()
      const { status, type, body } = await exchange(asked, {
        ...options,
        method,
        headers: { ...asked.getHeaders(), ...headers },
        agent: this.#agent,
        signal,
      })
      if (status < 200 || status > 299) throw refusalOf(status, body, asked)
      const text = async (): Promise<string> => UTF8.decode(body)
      const binary = async (): Promise<Buffer> => body
      return new sdk.ResponseContext(status, { 'content-type': type }, { text, binary, stream: () => null })
    }
    const baseServer = new sdk.ServerConfiguration(login.server, {})
    return new sdk.CoreV1Api(sdk.createConfiguration({ baseServer, httpApi: sdk.wrapHttpLibrary({ send }) }))
  }
}

/** Kubernetes writes canonical Base64; `Buffer` alone drops what it does not understand. */
function textOf(base64: unknown): string {
  const bytes = Buffer.from(typeof base64 === 'string' ? base64 : '', 'base64')
  if (bytes.toString('base64') !== base64) throw new StoreError('rejected', 'no Base64')
  try {
    return UTF8.decode(bytes)
  } catch {
    throw new StoreError('rejected', 'no UTF-8')
  }
}

async function unlessMissing<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (error instanceof StoreError && error.fault === 'not_found') return undefined
    throw error
  }
}
