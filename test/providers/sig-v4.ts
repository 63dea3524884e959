import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** Who may sign, and for what. */
export interface Signer {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string
  region: string
  service: string
}

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/
const SKEW_MS_MAX = 5 * 60_000

/**
 * What AWS has against a request's signature, by the name of its error; undefined when it is sound. Written from the
 * specification and not from the SDK, so that the two check each other.
 *
 * @see AWS Identity and Access Management User Guide, "Create a signed AWS API request"
 */
export function signatureFault(request: IncomingMessage, body: Buffer, signer: Signer): string | undefined {
  const header = request.headers.authorization
  if (header === undefined) return 'MissingAuthenticationTokenException'
  const [, accessKeyId, day, region, service, signedHeaders, signature] = AUTHORIZATION.exec(header) ?? []
  if (signature === undefined) return 'IncompleteSignatureException'
  const names = signedHeaders!.split(';')
  const must = ['host', ...Object.keys(request.headers).filter((name) => name.startsWith('x-amz-'))]
  if (!must.every((name) => names.includes(name))) return 'InvalidSignatureException'
  if (accessKeyId !== signer.accessKeyId) return 'UnrecognizedClientException'
  if (region !== signer.region || service !== signer.service) return 'InvalidSignatureException'

  const date = String(request.headers['x-amz-date'])
  const [, y, mo, d, h, mi, s] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date) ?? []
  const signedAt = Date.parse(`${y}-${mo}-${d}T${h}:${mi}:${s}Z`)
  if (!(Math.abs(Date.now() - signedAt) < SKEW_MS_MAX) || !date.startsWith(day!))
    return 'InvalidSignatureException'

  const headers = names.map((name) => `${name}:${String(request.headers[name] ?? '').trim()}\n`).join('')
  const [path, query = ''] = request.url!.split('?')
  const canonical = [request.method, path, query, headers, signedHeaders, sha256(body)].join('\n')
  const scope = `${day}/${region}/${service}/aws4_request`
  const toSign = ['AWS4-HMAC-SHA256', date, scope, sha256(canonical)].join('\n')
  let key: Buffer = Buffer.from(`AWS4${signer.secretAccessKey}`)
  for (const part of scope.split('/')) key = hmac(key, part)
  if (!timingSafeEqual(hmac(key, toSign), Buffer.from(signature, 'hex'))) return 'InvalidSignatureException'
  if (request.headers['x-amz-security-token'] !== signer.sessionToken) return 'UnrecognizedClientException'
  return undefined
}

function sha256(data: Buffer | string): string {
  return createHash('sha256').update(data).digest('hex')
}

function hmac(key: Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest()
}
