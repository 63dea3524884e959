import type { SecretsManager } from '@aws-sdk/client-secrets-manager'
import { Locator } from '../src/core/locator.ts'
import type {
  CopyOwner,
  LinkedSecret,
  LinkReader,
  SecretStore,
  StoreFault,
  StoreKind,
  StoreOptions,
} from '../src/core/secret-store.ts'
import { StoreError } from '../src/core/secret-store.ts'

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

const UUID = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'
const BELOW_PREFIX = new RegExp(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/${UUID}$`)
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
    const sound = ref.startsWith(`${this.#prefix}/`) && BELOW_PREFIX.test(ref.slice(this.#prefix.length + 1))
    if (!sound) throw new StoreError('rejected', 'not a ref of this store')
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

const NAMES: Record<StoreFault, string> = {
  not_found: 'ResourceNotFoundException',
  // A key that is switched off or not granted is for its administrator, like a policy.
  denied: `AccessDeniedException AccessDenied NotAuthorized OptInRequired MissingAuthenticationTokenException
    MissingAuthenticationToken IncompleteSignatureException IncompleteSignature InvalidSignatureException
    SignatureDoesNotMatch UnrecognizedClientException InvalidClientTokenId ExpiredTokenException ExpiredToken
    RequestExpired InvalidIdentityTokenException InvalidIdentityToken CredentialsProviderError TokenProviderError
    DecryptionFailure EncryptionFailure KMSAccessDeniedException KMSDisabledException KMSInvalidStateException`,
  throttled: `ThrottlingException Throttling ThrottledException TooManyRequestsException RequestLimitExceeded
    RequestThrottled RequestThrottledException SlowDown LimitExceededException`,
  unavailable: `InternalServiceError InternalServiceErrorException InternalServerError InternalFailure
    ServiceUnavailable ServiceUnavailableException RequestTimeout RequestTimeoutException TimeoutError AbortError
    IDPCommunicationErrorException IDPCommunicationError`,
  rejected: `InvalidParameterException InvalidRequestException ResourceExistsException ValidationException
    ValidationError PreconditionNotMetException MalformedPolicyDocumentException PublicPolicyException
    SerializationException UnknownOperationException KMSNotFoundException AnswerTooLong EndpointError`,
}
const FAULT_OF_NAME = new Map(
  Object.entries(NAMES).flatMap(([fault, names]) =>
    names.split(/\s+/).map((name) => [name, fault as StoreFault] as const),
  ),
)
/** Node's own codes, such as ECONNREFUSED and ERR_TLS_CERT_ALTNAME_INVALID. */
const NODE_CODE = /^[A-Z][A-Z0-9_]{2,63}$/

function isNamed(error: unknown, name: string): boolean {
  return error instanceof StoreError && error.message === name
}

function storeErrorOf(error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const {
    name,
    code,
    $metadata: about,
  } = Object(error) as Record<'name' | 'code', unknown> & {
    $metadata?: { httpStatusCode?: number; clockSkewCorrected?: boolean }
  }
  // The SDK has set its clock by this answer, so that the next try may well succeed.
  if (about?.clockSkewCorrected === true) return new StoreError('unavailable', 'clock skew')
  const fault = FAULT_OF_NAME.get(String(name))
  if (fault !== undefined) return new StoreError(fault, String(name))
  const status = about?.httpStatusCode
  if (status === undefined) {
    return new StoreError('unavailable', NODE_CODE.test(String(code)) ? String(code) : 'no answer')
  }
  const refused = status >= 300 && status < 500
  return new StoreError(refused ? 'rejected' : 'unavailable', `status ${status} without a known name`)
}
