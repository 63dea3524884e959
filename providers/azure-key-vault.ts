import { setTimeout as sleep } from 'node:timers/promises'
import type { TokenCredential } from '@azure/identity'
import type { KeyVaultSecret, SecretClient } from '@azure/keyvault-secrets'
import { NIL_UUID } from '../src/core/names.ts'
import type { Locator } from '../src/core/locator.ts'
import type {
  CopyOwner,
  LinkedSecret,
  LinkReader,
  SecretStore,
  StoreFault,
  StoreKind,
  StoreOptions,
} from '../src/core/secret-store.ts'
import { isRefUnder, StoreError } from '../src/core/secret-store.ts'
import { BEING_DELETED, faultOf } from './azure-faults.ts'
import { AzureLogin } from './azure-login.ts'
import { AzureTransport } from './azure-transport.ts'

/** What the stores file says of such a store. */
export interface AzureKeyVaultSettings {
  vault_url: string
  /** Of a managed identity that was assigned by a user. */
  managed_identity_client_id?: string
}

const NAME_LENGTH_MAX = 127
const WORKSPACE_LENGTH_MAX = 63

// Names know letters, digits and `-` only, and take upper and lower case for the same: so `--` stands for `/`, no segment
// holds it or has a `-` at an end to build it with, and upper case is refused, though a secret may be called so there.
const SEGMENT = /^[a-z0-9]+(-[a-z0-9]+)*$/
const SEPARATOR = '--'

/** Of a call's time, for the wait until what is deleted can be purged: what is left is for the guard's own repeats. */
const PURGE_SHARE = 0.25

/** Azure Key Vault, by its secrets. */
export const azureKeyVault: StoreKind<AzureKeyVaultSettings> = {
  provider: 'azure-key-vault',
  settings: {
    properties: {
      vault_url: { type: 'string', format: 'https-url' },
      managed_identity_client_id: { type: 'string', minLength: 1 },
    },
    required: ['vault_url'],
  },
  valueBytesMax: 25_600,
  prefixLengthMax: NAME_LENGTH_MAX - WORKSPACE_LENGTH_MAX - 36 - 2 * SEPARATOR.length,
  segment: SEGMENT,
  async open(settings, options) {
    const segments = options.prefix.split('/')
    const prefix = segments.join(SEPARATOR)
    if (!segments.every((part) => SEGMENT.test(part)) || prefix.length > azureKeyVault.prefixLengthMax!) {
      throw new StoreError('rejected', 'the prefix has -- or is too long')
    }
    const url = new URL(settings.vault_url)
    const plain = url.protocol === 'http:'
    if (plain && !['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname)) {
      throw new StoreError('rejected', 'the vault is asked over http')
    }
    const { SecretClient } = await import('@azure/keyvault-secrets')
    const transport = new AzureTransport(options.timeoutMs, url.origin)
    const loginTransport = new AzureTransport(options.timeoutMs)
    // Less than a call's time, so that a silent login is told as such, and the next call does not join one that is ending.
    const login = new AzureLogin(await chain(settings, loginTransport), 0.75 * options.timeoutMs)
    const client = new SecretClient(url.origin, login, {
      ...pipeline(transport),
      allowInsecureConnection: plain,
      disableChallengeResourceVerification: plain,
    })
    return new AzureKeyVault(client, [transport, loginTransport], prefix, options)
  },
}

/** A proxy is named so that the SDK does not look for one in the environment; the transport uses none. */
function pipeline(httpClient: AzureTransport): object {
  return {
    httpClient,
    retryOptions: { maxRetries: 0 },
    redirectOptions: { maxRetries: 0 },
    proxyOptions: { host: 'http://127.0.0.1', port: 9 },
  }
}

/**
 * The logins of `DefaultAzureCredential` that a service can have, in its order. Not that class itself: where none of them
 * works it goes on to start `az`, `pwsh` and `azd`, one after the other (as tried here, at every call that had no token), and
 * a developer's own login is not the service's.
 */
async function chain(settings: AzureKeyVaultSettings, httpClient: AzureTransport): Promise<TokenCredential> {
  const sdk = await import('@azure/identity')
  const clientId = settings.managed_identity_client_id
  const makers: (() => TokenCredential)[] = [
    () => new sdk.EnvironmentCredential(pipeline(httpClient)),
    () => new sdk.WorkloadIdentityCredential(pipeline(httpClient)),
    () => new sdk.ManagedIdentityCredential({ ...pipeline(httpClient), ...(clientId && { clientId }) }),
  ]
  const credentials = makers.flatMap((make) => {
    try {
      return [make()]
    } catch {
      // Its environment is not set, or not fully; so does DefaultAzureCredential.
      return []
    }
  })
  return new sdk.ChainedTokenCredential(...credentials)
}

interface CallOptions {
  abortSignal: AbortSignal
}

class AzureKeyVault implements SecretStore, LinkReader {
  readonly #client: SecretClient
  readonly #transports: readonly AzureTransport[]
  readonly #prefix: string
  readonly #refPrefix: string
  readonly #timeoutMs: number

  constructor(
    client: SecretClient,
    transports: readonly AzureTransport[],
    prefix: string,
    options: StoreOptions,
  ) {
    this.#client = client
    this.#transports = transports
    this.#prefix = prefix
    this.#refPrefix = options.prefix
    this.#timeoutMs = options.timeoutMs
  }

  async put(ref: string, value: string, owner?: CopyOwner): Promise<void> {
    const name = this.#nameOf(ref)
    await this.#within(async (options) => {
      // Each set makes another version, so it is first asked what is there. (This also means that the request by which the
      // SDK asks how to log in, which may go out without a login, never carries a value.)
      const kept = await orWhen('not_found', this.#get(name, options))
      if (kept?.value === value) return
      if (kept) throw new StoreError('rejected', 'another value is kept there')
      const tags = owner && {
        workspace: owner.workspace.slice(0, 256),
        credential: owner.credential.slice(0, 256),
      }
      await this.#client.setSecret(name, value, {
        ...options,
        contentType: 'application/json',
        ...(tags && { tags }),
      })
    })
  }

  async get(ref: string): Promise<string> {
    const name = this.#nameOf(ref)
    return (await this.#within((options) => this.#get(name, options))).value
  }

  async read(locator: Locator): Promise<LinkedSecret> {
    const name = locator.segments.join(SEPARATOR)
    const sound = locator.segments.every((segment) => SEGMENT.test(segment))
    if (!sound || name.length > NAME_LENGTH_MAX || name.startsWith(this.#prefix + SEPARATOR)) {
      throw new StoreError('rejected', 'not a name of this vault')
    }
    const { value, properties } = await this.#within((options) => this.#get(name, options))
    return { text: value, ...(properties.version !== undefined && { version: properties.version }) }
  }

  async delete(ref: string, forGood = false): Promise<void> {
    const name = this.#nameOf(ref)
    const untilMs = performance.now() + this.#timeoutMs * PURGE_SHARE
    await this.#within(async (options) => {
      let deleting = true
      try {
        const { recoveryId } =
          (await this.#client.beginDeleteSecret(name, options)).getOperationState().result ?? {}
        // A vault from before 2020, without a recovery window.
        if (recoveryId === undefined) return
      } catch (error) {
        const { fault, detail } = faultOf(error)
        if (fault === 'not_found') deleting = false
        else if (detail !== BEING_DELETED) throw error
      }
      if (forGood) await this.#purge(name, deleting, untilMs, options)
    })
  }

  /**
   * What is on its way into the recovery window takes Azure some seconds, in which the vault is well. So it is waited for
   * only for so long that the call can still say so: who asks again later finds it there.
   */
  async #purge(name: string, deleting: boolean, untilMs: number, options: CallOptions): Promise<void> {
    for (let pauseMs = 50; ; pauseMs *= 2) {
      try {
        const { properties } = await this.#client.getDeletedSecret(name, options)
        // With purge protection nobody can do more: Azure itself purges when the recovery window ends.
        if (!properties.recoveryLevel?.includes('Purgeable')) return
        await this.#client.purgeDeletedSecret(name, options)
        return
      } catch (error) {
        const { fault, detail } = faultOf(error)
        if (detail === 'NotSupported') return
        if (fault === 'not_found' && !deleting) return
        if (fault !== 'not_found' && detail !== BEING_DELETED) throw error
      }
      if (performance.now() + pauseMs > untilMs) throw new StoreError('throttled', BEING_DELETED)
      await sleep(pauseMs, undefined, { signal: options.abortSignal })
    }
  }

  async check(): Promise<void> {
    const name = [this.#prefix, 'check', NIL_UUID].join(SEPARATOR)
    await this.#within((options) => orWhen('not_found', this.#get(name, options)))
  }

  async close(): Promise<void> {
    for (const transport of this.#transports) transport.close()
  }

  async #get(name: string, options: CallOptions): Promise<KeyVaultSecret & { value: string }> {
    const secret = await this.#client.getSecret(name, options)
    if (secret.name.toLowerCase() !== name) throw new StoreError('rejected', 'another secret was answered')
    if (typeof secret.value !== 'string') throw new StoreError('rejected', 'a secret without a value')
    return { ...secret, value: secret.value }
  }

  #nameOf(ref: string): string {
    if (!isRefUnder(this.#refPrefix, ref)) throw new StoreError('rejected', 'not a ref of this store')
    return ref.replaceAll('/', SEPARATOR)
  }

  /** Ends in time whatever the SDK does: it hands the signal to its requests, but not to all that a login waits for. */
  async #within<T>(act: (options: CallOptions) => Promise<T>): Promise<T> {
    const ended = new AbortController()
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      reject(new StoreError('unavailable', 'deadline'))
      ended.abort()
    }, this.#timeoutMs)
    try {
      return await Promise.race([act({ abortSignal: ended.signal }), late])
    } catch (error) {
      const { fault, detail } = faultOf(error)
      throw new StoreError(fault, detail)
    } finally {
      clearTimeout(timer)
    }
  }
}

async function orWhen<T>(fault: StoreFault, call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (faultOf(error).fault === fault) return undefined
    throw error
  }
}
