import type { protos } from '@google-cloud/secret-manager'
import { NIL_UUID } from '../src/core/names.ts'
import type { Locator } from '../src/core/locator.ts'
import type {
  CopyOwner,
  LinkedSecret,
  LinkReader,
  SecretStore,
  StoreKind,
  StoreOptions,
} from '../src/core/secret-store.ts'
import { isRefUnder, StoreError } from '../src/core/secret-store.ts'
import { crc32c } from './crc32c.ts'
import { GcpClient } from './gcp-client.ts'

type Secret = protos.google.cloud.secretmanager.v1.ISecret
type Accessed = protos.google.cloud.secretmanager.v1.IAccessSecretVersionResponse

/** What the stores file says of such a store. */
export interface GcpSettings {
  project: string
  /** Set for regional secrets. */
  location?: string
  /** `projects/…/locations/…/keyRings/…/cryptoKeys/…`. */
  kms_key?: string
  endpoint?: string
}

const SEPARATOR = '__'
const SECRET_ID_LENGTH_MAX = 255

// No underscore at either end and no two in a row: so no segment holds the separator or makes one with its neighbour.
const SEGMENT = /^[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*$/

/** Google Secret Manager, global or regional: a secret for each ref, with one version. */
export const gcpSecretManager: StoreKind<GcpSettings> = {
  provider: 'gcp-secret-manager',
  settings: {
    properties: {
      project: { type: 'string', pattern: '^([a-z0-9.-]+:)?[a-z0-9-]{1,63}$' },
      location: { type: 'string', pattern: '^[a-z0-9-]{1,63}$' },
      kms_key: {
        type: 'string',
        pattern: '^projects/[^/]+/locations/[a-z0-9-]+/keyRings/[^/]+/cryptoKeys/[^/]+$',
      },
      endpoint: { type: 'string', format: 'https-url' },
    },
    required: ['project'],
  },
  valueBytesMax: 32_768,
  // With every other character a slash it is 102 + 50, and the workspace and the UUID want 103 of the 255.
  prefixLengthMax: 102,
  segment: SEGMENT,
  open: async (settings, options) => {
    const { endpoint, location, project } = settings
    const host = location ? `secretmanager.${location}.rep.googleapis.com` : 'secretmanager.googleapis.com'
    const url = new URL(endpoint ?? `https://${host}`)
    const client = await GcpClient.open(url, project, options.timeoutMs)
    return new GcpSecretManager(client, settings, options)
  },
}

class GcpSecretManager implements SecretStore, LinkReader {
  readonly #client: GcpClient
  readonly #parent: string
  readonly #encryption: Secret
  readonly #options: StoreOptions

  constructor(client: GcpClient, settings: GcpSettings, options: StoreOptions) {
    const { location, project } = settings
    this.#client = client
    this.#parent = `projects/${project}${location ? `/locations/${location}` : ''}`
    this.#encryption = encryptionOf(settings)
    this.#options = options
  }

  async put(ref: string, value: string, owner?: CopyOwner): Promise<void> {
    const secretId = this.#secretIdOf(ref)
    const until = this.#until()
    const created = await this.#create(secretId, owner, until)
    // A put that ended between the secret and its version is carried on here.
    if (!created && (await this.#keeps(secretId, value, until))) return
    const added = await this.#add(secretId, Buffer.from(value), until)
    // Of two puts at once one makes version 2, and the first version is what counts.
    const first = added.name?.endsWith('/versions/1') && added.clientSpecifiedPayloadChecksum
    if (!first && !(await this.#keeps(secretId, value, until)))
      throw new StoreError('unavailable', 'NOT_KEPT')
  }

  async get(ref: string): Promise<string> {
    return (await this.#access(this.#secretIdOf(ref), '1', this.#until())).text
  }

  async read(locator: Locator): Promise<LinkedSecret> {
    const secretId = locator.segments.join(SEPARATOR)
    const sound =
      locator.segments.every((segment) => SEGMENT.test(segment)) &&
      !locator.isUnder(`${this.#options.prefix}/`)
    if (!sound || secretId.length > SECRET_ID_LENGTH_MAX) throw new StoreError('rejected', 'NAME')
    return this.#access(secretId, 'latest', this.#until())
  }

  async delete(ref: string): Promise<void> {
    const name = this.#nameOf(this.#secretIdOf(ref))
    try {
      await this.#client.send(this.#until(), (sdk, options) => sdk.deleteSecret({ name }, options))
    } catch (error) {
      if (!failedAs(error, 'NOT_FOUND')) throw error
    }
  }

  async check(): Promise<void> {
    try {
      await this.get(`${this.#options.prefix}/check/${NIL_UUID}`)
    } catch (error) {
      if (!failedAs(error, 'NOT_FOUND')) throw error
    }
  }

  async close(): Promise<void> {
    await this.#client.close()
  }

  #until(): number {
    return performance.now() + this.#options.timeoutMs
  }

  #secretIdOf(ref: string): string {
    const secretId = ref.replaceAll('/', SEPARATOR)
    if (!isRefUnder(this.#options.prefix, ref) || secretId.length > SECRET_ID_LENGTH_MAX)
      throw new StoreError('rejected', 'NAME')
    return secretId
  }

  #nameOf(secretId: string): string {
    return `${this.#parent}/secrets/${secretId}`
  }

  /** @returns false where the secret is there already, with a version or without. */
  async #create(secretId: string, owner: CopyOwner | undefined, until: number): Promise<boolean> {
    const annotations = owner && {
      'strongroom-workspace': owner.workspace,
      'strongroom-credential': owner.credential,
    }
    const secret: Secret = {
      ...this.#encryption,
      labels: { 'managed-by': 'strongroom' },
      ...(annotations && { annotations }),
    }
    try {
      const request = { parent: this.#parent, secretId, secret }
      await this.#client.send(until, (sdk, options) => sdk.createSecret(request, options))
      return true
    } catch (error) {
      if (failedAs(error, 'ALREADY_EXISTS')) return false
      throw failedAs(error, 'NOT_FOUND') ? new StoreError('rejected', 'NO_PROJECT') : error
    }
  }

  async #add(secretId: string, data: Buffer, until: number) {
    const request = { parent: this.#nameOf(secretId), payload: { data, dataCrc32c: crc32c(data) } }
    try {
      return await this.#client.send(until, (sdk, options) => sdk.addSecretVersion(request, options))
    } catch (error) {
      // Deleted meanwhile: a put that is done again makes it anew.
      throw failedAs(error, 'NOT_FOUND') ? new StoreError('unavailable', 'DELETED_MEANWHILE') : error
    }
  }

  /** @returns false where there is no version yet. @throws StoreError `rejected` where another value is kept. */
  async #keeps(secretId: string, value: string, until: number): Promise<boolean> {
    try {
      const { text } = await this.#access(secretId, '1', until)
      if (text === value) return true
    } catch (error) {
      if (failedAs(error, 'NOT_FOUND')) return false
      throw error
    }
    throw new StoreError('rejected', 'OTHER_VALUE')
  }

  // What lies under a ref is asked for by its number, which counts at once: the alias `latest` lags.
  async #access(secretId: string, version: '1' | 'latest', until: number): Promise<Required<LinkedSecret>> {
    const name = `${this.#nameOf(secretId)}/versions/${version}`
    const answer = await this.#client.send(until, (sdk, options) =>
      sdk.accessSecretVersion({ name }, options),
    )
    // The project comes back as its number.
    const [, secret, read] = /\/secrets\/([^/]+)\/versions\/([0-9]+)$/.exec(answer.name ?? '') ?? []
    const asked = secret === secretId && (version === 'latest' || read === version)
    if (!asked || !read) throw new StoreError('unavailable', 'OTHER_SECRET')
    return { text: textOf(answer), version: read }
  }
}

function encryptionOf({ kms_key: kmsKeyName, location }: GcpSettings): Secret {
  const keyed = kmsKeyName ? { customerManagedEncryption: { kmsKeyName } } : {}
  // A regional secret has no replication.
  if (location) return keyed
  const keyLocation = kmsKeyName?.split('/')[3] ?? 'global'
  if (keyLocation === 'global') return { replication: { automatic: keyed } }
  return { replication: { userManaged: { replicas: [{ location: keyLocation, ...keyed }] } } }
}

function textOf({ payload }: Accessed): string {
  const { data, dataCrc32c } = payload ?? {}
  if (!(data instanceof Uint8Array) || String(dataCrc32c) !== String(crc32c(data)))
    throw new StoreError('unavailable', 'CHECKSUM')
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data)
  } catch {
    throw new StoreError('rejected', 'NOT_UTF8')
  }
}

function failedAs(error: unknown, code: string): boolean {
  return error instanceof StoreError && error.message === code
}
