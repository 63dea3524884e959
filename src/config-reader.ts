import { readFileSync } from 'node:fs'
import { parseAddress, parseNumber, serviceUrl, type Address } from './config-forms.ts'
import { Secret } from './core/secret.ts'

/** Variables by name, such as the process has. */
export type Environment = Record<string, string | undefined>

const SECRETS = ['DATABASE_URL', 'DATABASE_OWNER_URL', 'KEYS', 'TOKEN']
const PLAIN = [
  ...['MODE', 'STORES_FILE', 'DATA_DIR', 'LISTEN', 'ADMIN_LISTEN', 'TLS', 'TRUSTED_PROXIES', 'RATE_LIMIT'],
  ...['TLS_CERT_FILE', 'TLS_KEY_FILE', 'TLS_CLIENT_CA_FILE', 'DEADLINE_SECONDS', 'LOG_LEVEL'],
  ...['URL', 'ADMIN_URL', 'WORKSPACE'],
]
const KNOWN = new Set([...PLAIN, ...SECRETS, ...SECRETS.map((name) => `${name}_FILE`)])

/** Reads variables and remembers every fault; names are without their `STRONGROOM_`. */
export class SettingsReader {
  readonly #env: Environment
  /** Each begins with the variable's name. */
  readonly faults: string[] = []

  constructor(env: Environment) {
    this.#env = env
    for (const [name, value] of Object.entries(env)) {
      const short = /^STRONGROOM_(.*)$/.exec(name)?.[1]
      if (short === undefined || value === undefined) continue
      if (!KNOWN.has(short)) {
        if (!isFromKubernetes(short, value)) this.judge(short, 'is no setting of this version')
      } else if (value === '') this.judge(short, 'is empty: give it a value or leave it out')
    }
  }

  /** Whether it is set, itself or by its file, be it rightly or not. */
  given(name: string): boolean {
    return [name, `${name}_FILE`].some((one) => this.#env[`STRONGROOM_${one}`] !== undefined)
  }

  /** The variable that a secret comes from. */
  sourceOf(name: string): string {
    return this.#env[`STRONGROOM_${name}`] === undefined ? `${name}_FILE` : name
  }

  text(name: string): string | undefined {
    return this.#env[`STRONGROOM_${name}`] || undefined
  }

  secret(name: string): Secret | undefined {
    const text = this.text(name)
    const path = this.text(`${name}_FILE`)
    if (text !== undefined && path !== undefined) {
      this.judge(name, `is set, and so is STRONGROOM_${name}_FILE: only one of the two`)
      return undefined
    }
    if (path === undefined) return text === undefined ? undefined : new Secret(text)
    const read = this.file(`${name}_FILE`, path)?.toString().trim()
    if (read === '') this.judge(`${name}_FILE`, 'names an empty file')
    return read ? new Secret(read) : undefined
  }

  file(name: string, path: string): Buffer | undefined {
    try {
      return readFileSync(path)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      this.judge(name, `names a file that cannot be read (${code ?? 'it has no such path'})`)
      return undefined
    }
  }

  oneOf<const T extends string>(name: string, choices: readonly T[]): T | undefined {
    const text = this.text(name)
    const choice = choices.find((one) => one === text)
    if (text !== undefined && !choice) this.judge(name, `must be ${choices.join(' or ')}`)
    return choice
  }

  address(name: string): Address | undefined {
    const text = this.text(name)
    const address = text === undefined ? undefined : parseAddress(text)
    if (text !== undefined && !address)
      this.judge(name, 'must be host:port, such as 127.0.0.1:7400 or [::1]:7400')
    return address
  }

  number(name: string, least: number, most: number, whole?: 'whole'): number | undefined {
    const text = this.text(name)
    const number = text === undefined ? undefined : parseNumber(text, least, most, whole !== undefined)
    const kind = whole ? 'a whole number' : 'a number'
    if (text !== undefined && number === undefined)
      this.judge(name, `must be ${kind} from ${least} to ${most}`)
    return number
  }

  url(name: string): string | undefined {
    const text = this.text(name)
    const url = text === undefined ? undefined : serviceUrl(text)
    if (text !== undefined && !url)
      this.judge(name, 'must be a URL such as http://127.0.0.1:7400, without a login')
    return url
  }

  list(name: string, faultOf: (item: string) => string | undefined): string[] {
    const items = (this.text(name) ?? '').split(',').map((item) => item.trim())
    const kept = items.filter((item) => item !== '')
    this.judge(
      name,
      kept.map(faultOf).find((fault) => fault !== undefined),
    )
    return kept
  }

  judge(name: string, fault: string | undefined): void {
    if (fault) this.faults.push(`STRONGROOM_${name}: ${fault}`)
  }
}

/** Kubernetes tells every container in the namespace of a Service `strongroom…` where that is, by such variables. */
function isFromKubernetes(name: string, value: string): boolean {
  if (/(^|_)PORT$/.test(name)) return /^(tcp|udp|sctp):\/\//.test(value)
  return /(^|_)(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/.test(
    name,
  )
}
