import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isObject } from '../src/core/json-value.ts'
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
import type { VaultAnswer, VaultRequest } from './hashicorp-vault-client.ts'
import { VaultClient, within } from './hashicorp-vault-client.ts'
import type { VaultAuth } from './hashicorp-vault-login.ts'
import { AUTH, MOUNT, VaultLogin } from './hashicorp-vault-login.ts'

/** What the stores file says of such a store. */
export interface VaultSettings {
  address: string
  /** Where the KV engine, version 2, is mounted. */
  mount?: string
  namespace?: string
  auth: VaultAuth
  /** Who signs the server's certificate, in place of those that the system trusts. */
  ca_file?: string
}

/** Keeps copies in HashiCorp Vault or OpenBao, as version 1 of a secret of the KV engine, version 2. */
export const hashicorpVault: StoreKind<VaultSettings> = {
  provider: 'hashicorp-vault',
  settings: {
    properties: {
      address: { type: 'string', format: 'https-url' },
      mount: MOUNT,
      namespace: MOUNT,
      auth: AUTH,
      ca_file: { type: 'string', format: 'file' },
    },
    required: ['address', 'auth'],
  },
  valueBytesMax: 32_768,
  async open(settings, options) {
    const { default: nodeVault } = await import('node-vault')
    const { address, namespace, ca_file } = settings
    const ca = ca_file === undefined ? undefined : await certificateIn(ca_file)
    return new VaultStore(settings, options, new VaultClient(nodeVault, { address, namespace, ca }))
  },
}

const SEGMENT = /^[A-Za-z0-9_.-]+$/

class VaultStore implements SecretStore, LinkReader {
  readonly #mount: string
  readonly #prefix: string
  readonly #timeoutMs: number
  readonly #client: VaultClient
  readonly #login: VaultLogin
  #versioned = false

  constructor({ mount, auth }: VaultSettings, { prefix, timeoutMs }: StoreOptions, client: VaultClient) {
    this.#mount = mount ?? 'secret'
    this.#prefix = prefix
    this.#timeoutMs = timeoutMs
    this.#client = client
    this.#login = new VaultLogin(auth, client, timeoutMs)
  }

  async put(ref: string, value: string, owner?: CopyOwner): Promise<void> {
    const path = this.#pathOf(ref)
    const endsAt = performance.now() + this.#timeoutMs
    await within(this.#timeoutMs, (signal) => this.#keep(path, value, signal))
    if (!owner) return
    const { workspace, credential } = owner
    const request = { method: 'POST', json: { custom_metadata: { workspace, credential } } } as const
    // An operator misses it at most; the value is kept.
    await within(endsAt - performance.now(), (signal) =>
      this.#ask({ ...request, path: this.#at('metadata', path), signal }),
    ).catch(() => {})
  }

  async get(ref: string): Promise<string> {
    const path = this.#pathOf(ref)
    return await within(this.#timeoutMs, async (signal) => valueOf((await this.#read(path, signal)).data))
  }

  async read(locator: Locator): Promise<LinkedSecret> {
    const path = locator.toString()
    const sound = path.split('/').every((part) => SEGMENT.test(part) && part !== '.' && part !== '..')
    if (!sound || path.startsWith(`${this.#prefix}/`)) throw new StoreError('rejected', 'locator')
    const { data, version } = await within(this.#timeoutMs, (signal) => this.#read(path, signal))
    return { text: JSON.stringify(data), version }
  }

  // The metadata and with it all versions: what is only marked as deleted could be brought back.
  async delete(ref: string): Promise<void> {
    const path = this.#at('metadata', this.#pathOf(ref))
    await within(this.#timeoutMs, (signal) => this.#ask({ method: 'DELETE', path, signal })).catch(
      (error: StoreError) => {
        if (error.fault !== 'not_found') throw error
      },
    )
  }

  async check(): Promise<void> {
    await within(this.#timeoutMs, async (signal) => {
      await this.#mustBeVersioned(signal)
      await this.#read(`${this.#prefix}/${NIL_UUID}`, signal)
    }).catch((error: StoreError) => {
      if (error.fault !== 'not_found') throw error
    })
  }

  async close(): Promise<void> {
    this.#login.close()
    this.#client.close()
  }

  async #keep(path: string, value: string, signal: AbortSignal): Promise<void> {
    await this.#mustBeVersioned(signal)
    const json = { options: { cas: 0 }, data: { value } }
    try {
      const { data } = await this.#ask({ method: 'POST', path: this.#at('data', path), json, signal })
      if (!isObject(data) || data['version'] !== 1) throw new StoreError('rejected', 'not_kept_as_version_1')
    } catch (error) {
      // Refused, perhaps because it is there already: then the answer to an earlier put was lost, and all is well.
      if ((error as StoreError).fault !== 'rejected') throw error
      const kept = await this.#read(path, signal).catch((readBack: StoreError) => {
        throw readBack.fault === 'not_found' ? error : readBack
      })
      if (valueOf(kept.data) !== value) throw error
    }
  }

  async #read(path: string, signal: AbortSignal): Promise<{ data: VaultAnswer; version: string }> {
    const answer = await this.#ask({ method: 'GET', path: this.#at('data', path), signal })
    const { data, metadata } = isObject(answer['data']) ? answer['data'] : {}
    const version = isObject(metadata) ? metadata['version'] : undefined
    if (!isObject(data) || typeof version !== 'number') throw new StoreError('rejected', 'answer_not_kv_2')
    return { data, version: String(version) }
  }

  /**
   * Version 1 of the engine takes what is meant for version 2 as a secret of that shape, in the clear and where no delete
   * finds it. So it is asked before the first put, the way the product's own command line does.
   */
  async #mustBeVersioned(signal: AbortSignal): Promise<void> {
    if (this.#versioned) return
    const path = `sys/internal/ui/mounts/${this.#mount}`
    const { data } = await this.#ask({ method: 'GET', path, signal })
    const options = isObject(data) && data['type'] === 'kv' ? data['options'] : undefined
    if (!isObject(options) || options['version'] !== '2') throw new StoreError('rejected', 'mount_not_kv_2')
    this.#versioned = true
  }

  /** Once more with another token, where the first was refused and there is another. */
  async #ask(request: Omit<VaultRequest, 'token'>): Promise<VaultAnswer> {
    const token = await this.#login.token()
    try {
      return await this.#client.ask({ ...request, token })
    } catch (error) {
      const another = (error as StoreError).fault === 'denied' && (await this.#login.another(token))
      if (!another) throw error
      return await this.#client.ask({ ...request, token: another })
    }
  }

  #at(part: 'data' | 'metadata', path: string): string {
    return `${this.#mount}/${part}/${path}`
  }

  #pathOf(ref: string): string {
    if (!isRefUnder(this.#prefix, ref)) throw new StoreError('rejected', 'ref')
    return ref
  }
}

function valueOf({ value }: VaultAnswer): string {
  if (typeof value !== 'string') throw new StoreError('rejected', 'no_value')
  return value
}

// An empty `ca` would mean those whom the system trusts.
async function certificateIn(path: string): Promise<string> {
  try {
    const text = await readFile(path, 'utf8')
    return new X509Certificate(text) && text
  } catch {
    throw new StoreError('rejected', 'ca_file_unreadable')
  }
}
