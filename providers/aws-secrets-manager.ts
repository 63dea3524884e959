import type { SecretsManager } from '@aws-sdk/client-secrets-manager'
import { Locator } from '../src/core/locator.ts'
import type {
  CopyOwner,
  LinkedSecret,
  LinkReader,
  SecretStore,
  StoreKind,
  StoreOptions,
} from '../src/core/secret-store.ts'
import { isRefUnder, StoreError } from '../src/core/secret-store.ts'
import { isNamed, storeErrorOf } from './aws-faults.ts'

/** What the stores file says of a store in AWS Secrets Manager. */
export interface AwsSettings {
  region: string
  kms_key_id?: string
  recovery_days?: number
  endpoint?: string
}

/** Keeps each copy as a secret of AWS Secrets Manager that is named by its ref. */
export const awsSecretsManager: StoreKind<AwsSettings> = {
  provider: 'aws-secrets-manager',
  settings: {
    properties: {
      region: { type: 'string', pattern: '^[a-z0-9]+(-[a-z0-9]+)+$', maxLength: 63 },
      kms_key_id: { type: 'string', minLength: 1, maxLength: 2048 },
      recovery_days: { type: 'integer', minimum: 7, maximum: 30, default: 7 },
      endpoint: { type: 'string', format: 'https-url' },
    },
    required: ['region'],
  },
  valueBytesMax: 32_768,
  // A name has at most 512 characters; the workspace and the UUID take up to 101 of them.
  prefixLengthMax: 411,
  async open(settings, options) {
    const sdk = await import('@aws-sdk/client-secrets-manager')
    return new AwsStore(new sdk.SecretsManager(configOf(settings, options)), settings, options)
  },
}

const silent = { debug: nothing, info: nothing, warn: nothing, error: nothing }
function nothing(): void {}

function configOf({ region, endpoint }: AwsSettings, { timeoutMs }: StoreOptions) {
  return {
    region,
    ...(endpoint !== undefined && { endpoint }),
    // Only the stores file says where values go: neither the environment nor the SDK's own file does.
    ignoreConfiguredEndpointUrls: true,
    maxAttempts: 1,
    retryMode: 'standard',
    logger: silent,
    requestHandler: {
      connectionTimeout: timeoutMs,
      requestTimeout: timeoutMs,
      throwOnRequestTimeout: true,
      socketTimeout: timeoutMs,
      // Said here, because NODE_TLS_REJECT_UNAUTHORIZED=0 would switch it off.
      httpsAgent: { rejectUnauthorized: true },
      logger: silent,
    },
  }
}

const ANSWER_BYTES_MAX = 1024 * 1024
const SCHEDULED = 'scheduled for deletion'

class AwsStore implements SecretStore, LinkReader {
  readonly #aws: SecretsManager
  readonly #settings: AwsSettings
  readonly #prefix: string
  readonly #timeoutMs: number

  constructor(aws: SecretsManager, settings: AwsSettings, { prefix, timeoutMs }: StoreOptions) {
    this.#aws = aws
    this.#settings = settings
    this.#prefix = prefix
    this.#timeoutMs = timeoutMs
    // The SDK itself would read an answer of any length into memory.
    aws.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args)
        const response = result.response as { body: AsyncIterable<Uint8Array> | Uint8Array }
        if (!(response.body instanceof Uint8Array)) response.body = await readBounded(response.body)
        return result
      },
      { step: 'deserialize', priority: 'low', name: 'readBounded' },
    )
  }

  async put(ref: string, value: string, owner?: CopyOwner): Promise<void> {
    const name = this.#nameOf(ref)
    const ending = this.#deadline()
    const input = {
      Name: name,
      SecretString: value,
      // The same for each put of a ref, so that AWS itself knows a put that is repeated.
      ClientRequestToken: ref.slice(ref.lastIndexOf('/') + 1),
      ...(this.#settings.kms_key_id !== undefined && { KmsKeyId: this.#settings.kms_key_id }),
      ...(owner && { Tags: tagsOf(owner) }),
    }
    try {
      await this.#call(ending, (options) => this.#aws.createSecret(input, options))
    } catch (error) {
      // One that waits to be deleted is not brought back: the sweep has given this ref up.
      if (!isNamed(error, 'ResourceExistsException')) throw error
      if ((await this.#valueOfExisting(name, ending)) !== value) throw error
    }
  }

  async get(ref: string): Promise<string> {
    return (await this.#current(this.#nameOf(ref), this.#deadline())).text
  }

  async read(locator: Locator): Promise<LinkedSecret> {
    const name = Locator.parse(locator.toString())?.toString()
    if (name === undefined || `${name}/`.startsWith(`${this.#prefix}/`)) {
      throw new StoreError('rejected', 'not a locator of a link')
    }
    return this.#current(name, this.#deadline())
  }

  async delete(ref: string, forGood = false): Promise<void> {
    const name = this.#nameOf(ref)
    const ending = this.#deadline()
    const how = forGood
      ? { ForceDeleteWithoutRecovery: true }
      : { RecoveryWindowInDays: this.#settings.recovery_days ?? 7 }
    try {
      await this.#call(ending, (options) => this.#aws.deleteSecret({ SecretId: name, ...how }, options))
    } catch (error) {
      if (error instanceof StoreError && error.fault === 'not_found') return
      const done = !forGood && isNamed(error, 'InvalidRequestException') && (await this.#isGone(name, ending))
      if (!done) throw error
    }
  }

  async check(): Promise<void> {
    try {
      // Under the prefix, so that the same policy judges it, and no ref: `-` is no workspace.
      await this.#current(`${this.#prefix}/-/check`, this.#deadline())
    } catch (error) {
      if (!(error instanceof StoreError && error.fault === 'not_found')) throw error
    }
  }

  async close(): Promise<void> {
    this.#aws.destroy()
  }

  #nameOf(ref: string): string {
    if (!isRefUnder(this.#prefix, ref)) throw new StoreError('rejected', 'not a ref of this store')
    return ref
  }

  async #current(name: string, ending: AbortSignal): Promise<LinkedSecret> {
    const input = { SecretId: name, VersionStage: 'AWSCURRENT' }
    try {
      const secret = await this.#call(ending, (options) => this.#aws.getSecretValue(input, options))
      const { Name, SecretString: text, VersionId: version } = secret
      if (Name !== name) throw new StoreError('rejected', 'an answer about another secret')
      if (typeof text !== 'string') throw new StoreError('rejected', 'a secret without a text')
      return { text, ...(typeof version === 'string' && { version }) }
    } catch (error) {
      // So says AWS of a secret that waits to be deleted, and of others that it will not give.
      const gone = isNamed(error, 'InvalidRequestException') && (await this.#isGone(name, ending))
      throw gone ? new StoreError('not_found', SCHEDULED) : error
    }
  }

  /** Of a secret that CreateSecret says exists, and GetSecretValue perhaps does not know of yet. */
  async #valueOfExisting(name: string, ending: AbortSignal): Promise<string> {
    try {
      return (await this.#current(name, ending)).text
    } catch (error) {
      if (isNamed(error, SCHEDULED)) throw new StoreError('rejected', SCHEDULED)
      const early = isNamed(error, 'ResourceNotFoundException')
      throw early ? new StoreError('unavailable', 'ResourceExistsException') : error
    }
  }

  async #isGone(name: string, ending: AbortSignal): Promise<boolean> {
    try {
      const about = await this.#call(ending, (options) =>
        this.#aws.describeSecret({ SecretId: name }, options),
      )
      return about.DeletedDate !== undefined
    } catch (error) {
      if (error instanceof StoreError && error.fault === 'not_found') return true
      throw error
    }
  }

  #deadline(): AbortSignal {
    return AbortSignal.timeout(this.#timeoutMs)
  }

  async #call<T>(
    ending: AbortSignal,
    act: (options: { abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    try {
      // The signal ends the request; the race also ends what the SDK does before it, such as a slow login.
      return await Promise.race([aborted(ending), act({ abortSignal: ending })])
    } catch (error) {
      throw storeErrorOf(error)
    }
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const end = () => reject(signal.reason)
    if (signal.aborted) end()
    else signal.addEventListener('abort', end, { once: true })
  })
}

async function readBounded(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.byteLength
    if (length > ANSWER_BYTES_MAX) throw Object.assign(new Error('too long'), { name: 'AnswerTooLong' })
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** A tag is at most 256 characters, few signs, and never begins with `aws:`. */
function tagsOf(owner: CopyOwner): { Key: string; Value: string }[] {
  const shown = (text: string) => text.replaceAll(/[^A-Za-z0-9._-]/g, '_').slice(0, 256)
  return [
    { Key: 'workspace', Value: shown(owner.workspace) },
    { Key: 'credential', Value: shown(owner.credential) },
  ]
}
