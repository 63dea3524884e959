import { Agent } from 'node:http'
import { createRequire } from 'node:module'
import type { Socket } from 'node:net'
import type { v1 } from '@google-cloud/secret-manager'
import type { StoreFault } from '../src/core/secret-store.ts'
import { StoreError } from '../src/core/secret-store.ts'
import type { Gax } from './gcp-connections.ts'
import { Connections } from './gcp-connections.ts'

type Sdk = v1.SecretManagerServiceClient
type Stub = Awaited<ReturnType<Sdk['initialize']>>

/** What the SDK's call is given with its request: no retries of its own, and the time that is left. */
export interface SdkOptions {
  timeout: number
  retry: null
}

// A secret has at most 64 KiB; what is longer is not read into memory.
const ANSWER_BYTES_MAX = 1_048_576

// The pause that matters is the breaker's: this one only must not outlast an outage by minutes.
const RECONNECT_MS = { first: 100, max: 1000 }

/** The faults by the names of gRPC's codes. */
const FAULT_OF: Record<string, StoreFault> = {
  NOT_FOUND: 'not_found',
  PERMISSION_DENIED: 'denied',
  UNAUTHENTICATED: 'denied',
  RESOURCE_EXHAUSTED: 'throttled',
  ABORTED: 'unavailable',
  CANCELLED: 'unavailable',
  DATA_LOSS: 'unavailable',
  DEADLINE_EXCEEDED: 'unavailable',
  INTERNAL: 'unavailable',
  UNAVAILABLE: 'unavailable',
  UNKNOWN: 'unavailable',
  ALREADY_EXISTS: 'rejected',
  FAILED_PRECONDITION: 'rejected',
  INVALID_ARGUMENT: 'rejected',
  OUT_OF_RANGE: 'rejected',
  UNIMPLEMENTED: 'rejected',
}

/**
 * The SDK's client, with what it lacks: a deadline over login and connection too, a login that fails without ending the
 * process, and errors that show nothing.
 */
export class GcpClient {
  readonly #gax: Gax
  readonly #make: () => Sdk
  readonly #connections: Connections
  readonly #timeoutMs: number
  #loggedIn: Promise<{ sdk: Sdk; stub: Stub }> | undefined
  #closed = false

  private constructor(gax: Gax, make: () => Sdk, connections: Connections, timeoutMs: number) {
    this.#gax = gax
    this.#make = make
    this.#connections = connections
    this.#timeoutMs = timeoutMs
  }

  /**
   * Loads the SDK; neither logs in nor connects.
   *
   * @param endpoint Over http, which is for loopback only, it is asked without TLS and without a login.
   */
  static async open(endpoint: URL, project: string, timeoutMs: number): Promise<GcpClient> {
    const { SecretManagerServiceClient } = await import('@google-cloud/secret-manager')
    const gax = quietGax()
    const connections = new Connections()
    const { credentials } = gax.grpc
    const createSsl: typeof credentials.createSsl = (...of) => connections.known(credentials.createSsl(...of))
    const plain = endpoint.protocol === 'http:'
    const make = () =>
      new SecretManagerServiceClient({
        apiEndpoint: endpoint.hostname,
        port: Number(endpoint.port || (plain ? 80 : 443)),
        // Otherwise the login looks for it, and runs the gcloud command to do so.
        projectId: project,
        grpc: { ...gax.grpc, credentials: { ...credentials, createSsl } },
        clientOptions: { transporterOptions: { ...DIRECT, signal: connections.closed } },
        'grpc.enable_http_proxy': 0,
        'grpc.enable_retries': 0,
        'grpc.service_config_disable_resolution': 1,
        'grpc.max_receive_message_length': ANSWER_BYTES_MAX,
        'grpc.initial_reconnect_backoff_ms': RECONNECT_MS.first,
        'grpc.max_reconnect_backoff_ms': RECONNECT_MS.max,
        ...(plain && {
          sslCreds: connections.known(credentials.createInsecure()),
          authClient: new gax.googleAuthLibrary.PassThroughClient(),
        }),
      })
    // The first one parses the API's description, which takes a tenth of a second of no call's time.
    make()
    return new GcpClient(gax, make, connections, timeoutMs)
  }

  /**
   * Does one call.
   *
   * @param until On the clock of `performance.now()`; after it the call has failed.
   * @throws StoreError whose message is the name of gRPC's code, or a name of ours.
   */
  async send<Answer>(
    until: number,
    call: (sdk: Sdk, options: SdkOptions) => Promise<[Answer, ...unknown[]]>,
  ): Promise<Answer> {
    if (this.#closed) throw new StoreError('unavailable', 'CLOSED')
    const { sdk } = await within(until, this.#logIn())
    const beganAt = performance.now()
    const timeout = Math.ceil(until - beganAt)
    if (timeout <= 0) throw late()
    const heard = this.#connections.bytesHeard()
    const asked = (async () => call(sdk, { timeout, retry: null }))().catch((error: unknown) => {
      throw this.#storeErrorOf(error)
    })
    try {
      const [answer] = await within(until, asked)
      return answer
    } catch (error) {
      const waited = performance.now() - beganAt > this.#timeoutMs / 2
      if (waited && this.#connections.bytesHeard() === heard) this.#connections.cut()
      throw error
    }
  }

  /** Calls in flight fail. */
  async close(): Promise<void> {
    this.#closed = true
    // A login that hangs is not waited for: its client never connects.
    void this.#loggedIn?.then(
      // The SDK's own close first opens a second client, for locations, to close it.
      ({ stub }) => (stub as { close?(): void }).close?.(),
      () => undefined,
    )
    this.#connections.close()
  }

  // Each call of the SDK also logs in beside its own promise and throws what goes wrong there, which ends the process.
  // So nothing is called before a login has succeeded; one that failed is made anew, because the SDK would keep it.
  #logIn(): Promise<{ sdk: Sdk; stub: Stub }> {
    if (this.#loggedIn) return this.#loggedIn
    const begun = this.#begin()
    this.#loggedIn = begun
    begun.catch(() => {
      if (this.#loggedIn === begun) this.#loggedIn = undefined
    })
    return begun
  }

  async #begin(): Promise<{ sdk: Sdk; stub: Stub }> {
    try {
      const sdk = this.#make()
      const stub = await sdk.initialize()
      return { sdk, stub }
    } catch {
      // Whether a metadata server is there it asks once and remembers for the whole process: also a "no" of one that was
      // only away.
      this.#gax.googleAuthLibrary.gcpMetadata.resetIsAvailableCache()
      throw new StoreError('denied', 'NO_LOGIN')
    }
  }

  // Of an SDK's error only the code is used: its text, metadata and details repeat what was sent.
  #storeErrorOf(error: unknown): StoreError {
    const { code, details } = error as { code?: unknown; details?: unknown }
    const name = typeof code === 'number' ? this.#gax.grpc.status[code] : undefined
    const says = (text: string) => typeof details === 'string' && details.startsWith(text)
    if (says('Getting metadata from plugin failed')) return new StoreError('unavailable', 'LOGIN_FAILED')
    if (says('Received message larger than max')) return new StoreError('rejected', 'ANSWER_TOO_LARGE')
    return new StoreError((name && FAULT_OF[name]) || 'unavailable', name ?? 'NO_CODE')
  }
}

/** Neither proxies nor redirects for what the login sends. */
const DIRECT = { noProxy: [/^/], redirect: 'error' as const }

// All clients ask the metadata server over the same one, so that none can end its requests: nothing waits for them.
class UnheldAgent extends Agent {
  override createConnection(
    ...of: Parameters<Agent['createConnection']>
  ): ReturnType<Agent['createConnection']> {
    const socket = super.createConnection(...of) as Socket
    return socket.unref()
  }
}
const UNHELD = new UnheldAgent({ keepAlive: false })

// On Google's machines the login would wait without end, and elsewhere ask four times.
const METADATA_MS = 5000
async function onlyOnce<Request extends object>(request: Request): Promise<Request> {
  return Object.assign(request, { retryConfig: { retry: 0 }, signal: AbortSignal.timeout(METADATA_MS) })
}

// The SDK's own copy, so that the credentials are of the classes that it knows.
function quietGax(): Gax {
  const gax = createRequire(import.meta.resolve('@google-cloud/secret-manager'))('google-gax') as Gax
  // With GOOGLE_SDK_NODE_LOGGING set it would print requests and answers, and values with them.
  gax.loggingUtils.setBackend(null)
  // The metadata server is asked over this one, and its answer is a token.
  const { defaults, interceptors } = gax.googleAuthLibrary.gaxios.instance
  Object.assign(defaults, DIRECT, { agent: UNHELD })
  interceptors.request.clear()
  interceptors.request.add({ resolved: onlyOnce })
  return gax
}

function late(): StoreError {
  return new StoreError('unavailable', 'DEADLINE_EXCEEDED')
}

async function within<T>(until: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const timedOut = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), Math.max(0, until - performance.now()))
  })
  try {
    return await Promise.race([work, timedOut])
  } finally {
    clearTimeout(timer)
  }
}
