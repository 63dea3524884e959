import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import type { RequestOptions } from 'node:https'
import type { RequestContext } from '@kubernetes/client-node'
import type { StoreFault } from '../src/core/secret-store.ts'
import { StoreError } from '../src/core/secret-store.ts'

/** What the API server's words for a failure mean; of those that it has not used here, the status decides. */
const FAULT_OF_REASON = new Map<string, StoreFault>(
  Object.entries({
    NotFound: 'not_found',
    Unauthorized: 'denied',
    Forbidden: 'denied',
    TooManyRequests: 'throttled',
    AlreadyExists: 'rejected',
    BadRequest: 'rejected',
    Invalid: 'rejected',
    MethodNotAllowed: 'rejected',
    NotAcceptable: 'rejected',
    RequestEntityTooLarge: 'rejected',
    UnsupportedMediaType: 'rejected',
    // Somebody else wrote the same at that moment, such as a quota's counter.
    Conflict: 'unavailable',
    InternalError: 'unavailable',
    ServerTimeout: 'unavailable',
    ServiceUnavailable: 'unavailable',
    Timeout: 'unavailable',
  } as const),
)

// A Secret has at most 1 MiB of data; its Base64 and everything around it fit twice over.
const ANSWER_BYTES_MAX = 4 * 1024 * 1024
/** Strict: what is no UTF-8 is no text. */
export const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Whatever the server said. */
export interface Answer {
  status: number
  type: string
  body: Buffer
}

/** Follows no redirect, and knows no proxy: the environment's settings reach only agents that ask for them. */
export async function exchange(asked: RequestContext, options: RequestOptions): Promise<Answer> {
  try {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      request(asked.getUrl(), options, resolve).on('error', reject).end(asked.getBody())
    })
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > ANSWER_BYTES_MAX) throw new StoreError('rejected', 'answer too long')
      chunks.push(chunk)
    }
    const type = answer.headers['content-type'] ?? ''
    return { status: answer.statusCode!, type, body: Buffer.concat(chunks) }
  } catch (error) {
    if (error instanceof StoreError) throw error
    const { code } = error as NodeJS.ErrnoException
    throw new StoreError('unavailable', /^[A-Z][A-Z0-9_]+$/.test(String(code)) ? code! : 'transport')
  }
}

/** Why it was not done, in the API server's word, or `LoginFailed` before it was asked. */
export class Refusal extends StoreError {
  readonly reason: string

  constructor(fault: StoreFault, reason: string) {
    super(fault, reason)
    this.reason = reason
  }
}

/** By the reason of its Status document; a word that is not known here is never repeated. */
export function refusalOf(status: number, body: Buffer, asked: RequestContext): Refusal {
  const { kind, reason, details } = statusOf(body)
  const fault = kind === 'Status' ? FAULT_OF_REASON.get(reason as string) : undefined
  if (fault === 'not_found') {
    // A namespace may be missing as well, or somebody between us and the server may know nothing of it.
    const name = new URL(asked.getUrl()).pathname.split('/').at(-1)
    const missing = details?.kind === 'secrets' && details.name === name
    return missing ? new Refusal(fault, 'NotFound') : new Refusal('rejected', 'NotFound of something else')
  }
  if (fault) return new Refusal(fault, reason as string)
  if (status === 401) return new Refusal('denied', 'Unauthorized')
  if (status === 403) return new Refusal('denied', 'Forbidden')
  // Said in plain text by the server's own overload protection.
  if (status === 429) return new Refusal('throttled', 'TooManyRequests')
  return new Refusal(status >= 500 ? 'unavailable' : 'rejected', `HTTP ${status}`)
}

interface Status {
  kind?: unknown
  reason?: unknown
  details?: { kind?: unknown; name?: unknown } | null
}

function statusOf(body: Buffer): Status {
  try {
    return (JSON.parse(UTF8.decode(body)) as Status | null) ?? {}
  } catch {
    return {}
  }
}
