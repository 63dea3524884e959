import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { databaseFault, isLoopback, proxyFault, readTls } from './config-forms.ts'
import type { Address, TlsFiles } from './config-forms.ts'
import { SettingsReader, type Environment } from './config-reader.ts'
import { Keyring, KeyringError, parseKeyLines } from './core/keyring.ts'
import { isSlug } from './core/names.ts'
import { Secret } from './core/secret.ts'
import { parseToken } from './core/token.ts'
import { dataDirectoryFault } from './data-directory-fault.ts'
import type { StoresFile } from './stores-file.ts'

/** Everything that the service is told from outside (README.md, "Settings"), checked as a whole. */
export interface Config {
  mode: 'development' | 'production'
  /** The service's own role; absent: an embedded PostgreSQL under the data directory, in development only. */
  databaseUrl?: Secret
  /** Absent for `serve`, which never reads it. */
  databaseOwnerUrl?: Secret
  /** The keys' texts in their order, from the variable or the file; at least one. */
  keys?: Secret[]
  /** Absolute; to be read again when it changes. */
  keysFile?: string
  /** The external stores; without a file there are none. */
  stores: StoresFile
  /** Absolute. */
  dataDirectory: string
  listen: Address
  adminListen: Address
  tls?: TlsFiles | 'proxy'
  /** IP addresses and CIDR ranges. */
  trustedProxies: string[]
  /** Credentials a second for one token; 0 for no limit. */
  rateLimit: number
  /** May be a fraction. */
  deadlineSeconds: number
  logLevel: string
}

/** What the commands that call a running service are told from outside. */
export interface ClientConfig {
  /** Without a slash at its end. */
  url: string
  /** Without a slash at its end. */
  adminUrl: string
  token?: Secret
  workspace?: string
  dataDirectory: string
  /** Absolute: the file that is named, else the data directory's. Absent where STRONGROOM_KEYS holds the keys. */
  keysFile?: string
}

/** `owner` is what `init` needs, `upgrade` what `db-upgrade` needs: that one opens no value. */
export type Purpose = 'serve' | 'owner' | 'upgrade'

/** The configuration is refused: every fault of it, by the variable's name and never with its value. */
export class ConfigError extends Error {
  readonly faults: string[]

  constructor(faults: string[]) {
    super(faults.join('; '))
    this.name = 'ConfigError'
    this.faults = faults
  }
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/**
 * Reads the service's configuration.
 *
 * @throws ConfigError with all faults at once
 */
export async function readConfig(
  env: Environment = process.env,
  purpose: Purpose = 'serve',
): Promise<Config> {
  const from = new SettingsReader(env)
  const config: Config = {
    mode: from.oneOf('MODE', ['development', 'production']) ?? 'development',
    dataDirectory: resolve(from.text('DATA_DIR') ?? '.strongroom'),
    listen: from.address('LISTEN') ?? { host: '127.0.0.1', port: 7400 },
    adminListen: from.address('ADMIN_LISTEN') ?? { host: '127.0.0.1', port: 7401 },
    trustedProxies: from.list('TRUSTED_PROXIES', proxyFault),
    rateLimit: from.number('RATE_LIMIT', 0, 1e6, 'whole') ?? 1000,
    deadlineSeconds: from.number('DEADLINE_SECONDS', 0.1, 60) ?? 2,
    logLevel: from.oneOf('LOG_LEVEL', LOG_LEVELS) ?? 'info',
    stores: { byDefault: 'local', stores: [] },
  }
  readDatabases(from, config, purpose)
  readKeys(from, config, purpose)
  judgeDataDirectory(from, config, purpose)
  readListeners(from, config, purpose)
  // The owner's commands ask no store, and must work whatever has become of them.
  if (purpose === 'serve') await readStores(from, config)
  if (from.faults.length > 0) throw new ConfigError(from.faults)
  return config
}

/**
 * Reads what the commands that call a service need.
 *
 * @throws ConfigError with all faults at once
 */
export function readClientConfig(env: Environment = process.env): ClientConfig {
  const from = new SettingsReader(env)
  const config: ClientConfig = {
    url: from.url('URL') ?? 'http://127.0.0.1:7400',
    adminUrl: from.url('ADMIN_URL') ?? 'http://127.0.0.1:7401',
    dataDirectory: resolve(from.text('DATA_DIR') ?? '.strongroom'),
  }
  if (from.text('KEYS') === undefined)
    config.keysFile = resolve(from.text('KEYS_FILE') ?? join(config.dataDirectory, 'keys'))
  const token = from.secret('TOKEN')
  if (token && !parseToken(token.reveal()))
    from.judge(from.sourceOf('TOKEN'), 'is not the text of a Strongroom token')
  if (token) config.token = token
  const workspace = from.text('WORKSPACE')
  if (workspace !== undefined && !isSlug(workspace)) from.judge('WORKSPACE', 'is not the name of a workspace')
  if (workspace !== undefined) config.workspace = workspace
  if (from.faults.length > 0) throw new ConfigError(from.faults)
  return config
}

/**
 * The token for an operator's command: the one that is set, else the data directory's.
 *
 * @throws ConfigError where there is none
 */
export function operatorToken(config: ClientConfig): Secret {
  if (config.token) return config.token
  try {
    const text = readFileSync(join(config.dataDirectory, 'admin.token'), 'utf8').trim()
    if (parseToken(text)) return new Secret(text)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
  }
  const instead = 'and the data directory (STRONGROOM_DATA_DIR) has no admin.token that can be read'
  throw new ConfigError([`STRONGROOM_TOKEN: is not set, ${instead}`])
}

function readDatabases(from: SettingsReader, config: Config, purpose: Purpose): void {
  const production = config.mode === 'production'
  const url = from.secret('DATABASE_URL')
  if (url) {
    from.judge(from.sourceOf('DATABASE_URL'), databaseFault(url, production))
    config.databaseUrl = url
  } else if (!from.given('DATABASE_URL')) {
    const none = 'is not set, and in production there is no embedded database'
    if (production && purpose === 'serve') from.judge('DATABASE_URL', none)
    const unnamed = 'is not set, and this command makes the role that it names'
    if (purpose === 'upgrade') from.judge('DATABASE_URL', unnamed)
  }
  if (purpose === 'serve') return
  const ownerUrl = from.secret('DATABASE_OWNER_URL')
  if (ownerUrl) {
    from.judge(from.sourceOf('DATABASE_OWNER_URL'), databaseFault(ownerUrl, production))
    config.databaseOwnerUrl = ownerUrl
  } else if (!from.given('DATABASE_OWNER_URL')) {
    from.judge('DATABASE_OWNER_URL', 'is not set, and this command works as the owner of the database')
  }
}

function readKeys(from: SettingsReader, config: Config, purpose: Purpose): void {
  const text = from.secret('KEYS')
  if (text) {
    const keys = parseKeyLines(text.reveal())
    try {
      Keyring.parse(keys)
    } catch (error) {
      if (!(error instanceof KeyringError)) throw error
      from.judge(from.sourceOf('KEYS'), error.message)
    }
    config.keys = keys.map((key) => new Secret(key))
    const file = from.text('KEYS_FILE')
    if (file !== undefined) config.keysFile = resolve(file)
  } else if (!from.given('KEYS') && purpose !== 'upgrade') {
    if (from.given('DATABASE_URL'))
      from.judge('KEYS', 'is not set, and a database is of no use without its keys')
    else if (config.mode === 'production') from.judge('KEYS', 'is not set, and in production no key is made')
    else if (purpose === 'owner') from.judge('KEYS', 'is not set, and this command needs the keys')
  }
}

/** Where there is no other database: what is wrong there is told with all the other faults, before anything is made. */
function judgeDataDirectory(from: SettingsReader, config: Config, purpose: Purpose): void {
  if (purpose !== 'serve' || config.mode === 'production' || from.given('DATABASE_URL')) return
  from.judge('DATA_DIR', dataDirectoryFault(config.dataDirectory, from.given('KEYS')))
}

async function readStores(from: SettingsReader, config: Config): Promise<void> {
  const path = from.text('STORES_FILE')
  const bytes = path === undefined ? undefined : from.file('STORES_FILE', path)
  if (!bytes) return
  // Whoever has no external store need not wait for what judges them.
  const { parseStoresFile } = await import('./stores-file.ts')
  const { STORE_KINDS } = await import('./store-kinds.ts')
  const read = await parseStoresFile(bytes, STORE_KINDS, config.deadlineSeconds)
  if ('file' in read) config.stores = read.file
  else for (const fault of read.faults) from.judge('STORES_FILE', fault)
}

function readListeners(from: SettingsReader, config: Config, purpose: Purpose): void {
  const { listen, adminListen } = config
  if (listen.port !== 0 && listen.port === adminListen.port && listen.host === adminListen.host) {
    from.judge('ADMIN_LISTEN', 'is the same address as STRONGROOM_LISTEN')
  }
  const byProxy = from.oneOf('TLS', ['proxy'])
  const named = ['TLS_CERT_FILE', 'TLS_KEY_FILE', 'TLS_CLIENT_CA_FILE'].filter((name) => from.given(name))
  const [cert, key, clientCa] = ['TLS_CERT_FILE', 'TLS_KEY_FILE', 'TLS_CLIENT_CA_FILE'].map((name) => {
    const path = from.text(name)
    return path === undefined ? undefined : from.file(name, path)
  })
  if (byProxy) {
    config.tls = 'proxy'
    for (const name of named) from.judge(name, 'is set, and so is STRONGROOM_TLS=proxy: only one of the two')
  } else if (named.length > 0) {
    for (const name of ['TLS_CERT_FILE', 'TLS_KEY_FILE']) {
      if (!from.given(name)) from.judge(name, 'is not set, and TLS needs both the certificate and its key')
    }
    const { tls, faults } = readTls(cert, key, clientCa)
    for (const [name, fault] of faults) from.judge(name, fault)
    if (tls) config.tls = tls
  }
  if (config.mode !== 'production' || purpose !== 'serve' || from.given('TLS') || named.length > 0) return
  for (const [name, address] of [['LISTEN', listen] as const, ['ADMIN_LISTEN', adminListen] as const]) {
    const need = 'STRONGROOM_TLS_CERT_FILE and STRONGROOM_TLS_KEY_FILE, or STRONGROOM_TLS=proxy'
    if (!isLoopback(address.host))
      from.judge(name, `is beyond loopback, and in production that needs ${need}`)
  }
}
