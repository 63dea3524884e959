import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { BlockList, isIP } from 'node:net'
import { createSecureContext } from 'node:tls'
import type { Secret } from './core/secret.ts'

// What a setting may look like. What is wrong is told in words that never repeat the setting.

/** Where a listener listens. */
export interface Address {
  /** A name or an IP address, an IPv6 one without its brackets. */
  host: string
  /** 0 for any that is free. */
  port: number
}

/** What TLS needs, as PEM. */
export interface TlsFiles {
  cert: Buffer
  key: Buffer
  /** Whoever calls must show a certificate of this authority. */
  clientCa?: Buffer
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

/** Whether what listens or is called there is on this machine only. */
export function isLoopback(host: string): boolean {
  const family = isIP(host)
  if (family === 0) return host.toLowerCase() === 'localhost'
  return LOOPBACK.check(host, family === 4 ? 'ipv4' : 'ipv6')
}

/** Reads `host:port` or `[IPv6]:port`; undefined for anything else. */
export function parseAddress(text: string): Address | undefined {
  const parts = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})$/.exec(text)
  if (!parts) return undefined
  const [, bracketed, plain, digits] = parts
  const port = Number(digits)
  if (port > 65_535 || (bracketed !== undefined && isIP(bracketed) !== 6)) return undefined
  return { host: bracketed ?? plain!, port }
}

/** Reads a decimal number without sign or exponent; undefined for anything else or out of range. */
export function parseNumber(text: string, least: number, most: number, whole: boolean): number | undefined {
  if (!(whole ? /^[0-9]{1,15}$/ : /^[0-9]{1,15}(\.[0-9]{1,15})?$/).test(text)) return undefined
  const number = Number(text)
  return number >= least && number <= most ? number : undefined
}

/** Reads where a service is called, and leaves out a slash at its end; undefined for anything else. */
export function serviceUrl(text: string): string | undefined {
  const url = URL.parse(text)
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.username || url.password) return undefined
  return /[?#]/.test(text) ? undefined : url.href.replace(/\/+$/, '')
}

/** What is wrong with one proxy that is trusted, if anything is. */
export function proxyFault(text: string): string | undefined {
  const [address = '', prefix, ...rest] = text.split('/')
  const family = isIP(address)
  const bits = family === 4 ? 32 : 128
  const sound = family !== 0 && rest.length === 0
  if (sound && (prefix === undefined || parseNumber(prefix, 0, bits, true) !== undefined)) return undefined
  return 'must be IP addresses or ranges such as 10.0.0.0/8, by comma'
}

/**
 * What is wrong with a PostgreSQL URL, if anything is.
 *
 * Only what the driver's own reading cannot take another way is let pass: so what is judged here is where it connects.
 */
export function databaseFault(secret: Secret, production: boolean): string | undefined {
  const text = secret.reveal()
  const form = 'must be a URL such as postgres://user:password@host:5432/database'
  if (!/^postgres(ql)?:\/\//.test(text) || /[\s\\]|%(?![0-9A-Fa-f]{2})/.test(text)) return form
  // A URL may leave its host to the parameter `host`, and WHATWG has no such URL once it names a user.
  const url = URL.parse(text) ?? URL.parse(text.replace('@/', '@unnamed/'))
  if (!url) return form
  const names = [...url.searchParams.keys()]
  if (new Set(names).size !== names.length) return 'names a parameter twice'
  const named = url.hostname !== '' && URL.canParse(text)
  const byParameter = url.searchParams.get('host')
  if (named && byParameter !== null) return 'names its host twice'
  const host = byParameter ?? (named ? decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, '$1') : '')
  if (host === '') return 'must name its host'
  for (const file of ['sslrootcert', 'sslcert', 'sslkey']) {
    const path = url.searchParams.get(file)
    if (path !== null && !isReadable(path)) return `names a file by ${file} that cannot be read`
  }
  const away = !host.startsWith('/') && !isLoopback(host)
  if (production && away && url.searchParams.get('sslmode') !== 'verify-full') {
    return 'is beyond loopback, and in production that needs sslmode=verify-full'
  }
  return undefined
}

/** Judges TLS's files together; each fault comes with the variable's name. */
export function readTls(
  cert: Buffer | undefined,
  key: Buffer | undefined,
  clientCa: Buffer | undefined,
): { tls?: TlsFiles; faults: [name: string, fault: string][] } {
  const faults: [string, string][] = []
  const certificate = cert && attempt(() => new X509Certificate(cert))
  const privateKey = key && attempt(() => createPrivateKey(key))
  if (cert && !certificate) faults.push(['TLS_CERT_FILE', 'names a file that is no PEM certificate'])
  if (key && !privateKey) faults.push(['TLS_KEY_FILE', 'names a file that is no unencrypted PEM private key'])
  if (certificate && privateKey && !certificate.checkPrivateKey(privateKey)) {
    faults.push(['TLS_KEY_FILE', 'names a key that is not the key of the certificate'])
  }
  if (clientCa && !attempt(() => new X509Certificate(clientCa) && createSecureContext({ ca: clientCa }))) {
    faults.push(['TLS_CLIENT_CA_FILE', 'names a file that is no PEM certificate'])
  }
  if (!cert || !key || faults.length > 0) return { faults }
  return { tls: { cert, key, ...(clientCa && { clientCa }) }, faults }
}

function isReadable(path: string): boolean {
  return attempt(() => readFileSync(path)) !== undefined
}

/** What these throw quotes what it was given, so only that they threw is kept. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
