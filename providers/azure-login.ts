import type { TokenCredential } from '@azure/identity'
import { StoreError } from '../src/core/secret-store.ts'

type GetToken = TokenCredential['getToken']
type Token = NonNullable<Awaited<ReturnType<GetToken>>>

const MARGIN_MS = 60_000
const RETRY_MS = 30_000

/**
 * Keeps the vault's token and asks for the next one in good time.
 *
 * The SDK does so too, but a refresh that fails in its background is a rejection that nobody handles, which ends the
 * process, and managed identities fail a call while the token at hand is still good. So it is told that every token has
 * expired, and asks here each time. The fetch has a time of its own: a call that gives up must not end it for the others.
 */
export class AzureLogin implements TokenCredential {
  readonly #credential: TokenCredential
  readonly #timeoutMs: number
  #kept: { token: Token; about: string; refreshAt: number } | undefined
  #fetch: { token: Promise<Token>; about: string } | undefined

  constructor(credential: TokenCredential, timeoutMs: number) {
    this.#credential = credential
    this.#timeoutMs = timeoutMs
  }

  /** @throws StoreError `denied` where the login is refused or missing, `unavailable` where nobody could be asked. */
  getToken: GetToken = async (scopes, options = {}) => {
    const about = JSON.stringify([scopes, options.tenantId, options.claims])
    const kept = this.#kept?.about === about ? this.#kept : undefined
    const now = Date.now()
    if (!kept || kept.token.expiresOnTimestamp - MARGIN_MS / 2 <= now) {
      return expired(await this.#fetchOnce(about, scopes, options))
    }
    if (kept.refreshAt <= now) {
      kept.refreshAt = now + RETRY_MS
      void this.#fetchOnce(about, scopes, options).catch(() => undefined)
    }
    return expired(kept.token)
  }

  async #fetchOnce(about: string, ...[scopes, options]: Parameters<GetToken>): Promise<Token> {
    if (this.#fetch?.about === about) return this.#fetch.token
    const fetch = { about, token: this.#ask(about, scopes, options) }
    this.#fetch = fetch
    try {
      return await fetch.token
    } finally {
      if (this.#fetch === fetch) this.#fetch = undefined
    }
  }

  async #ask(about: string, ...[scopes, options]: Parameters<GetToken>): Promise<Token> {
    let token: Token | null
    try {
      const abortSignal = AbortSignal.timeout(this.#timeoutMs)
      token = await this.#credential.getToken(scopes, { ...options, abortSignal })
    } catch (error) {
      if (wasAnswered(error)) throw new StoreError('denied', 'no login was accepted')
      throw new StoreError('unavailable', 'the login was not answered')
    }
    if (!token) throw new StoreError('denied', 'no login was accepted')
    const { expiresOnTimestamp, refreshAfterTimestamp } = token
    const refreshAt = refreshAfterTimestamp ?? expiresOnTimestamp - 2 * MARGIN_MS
    this.#kept = { token, about, refreshAt }
    return token
  }
}

function expired({ token }: Token): Token {
  return { token, expiresOnTimestamp: 0 }
}

// Managed identities wrap everything in one error, so what happened is searched for in its causes.
function wasAnswered(error: unknown, depth = 0): boolean {
  if (typeof error !== 'object' || error === null || depth > 5) return true
  const { name, errorCode, status, statusCode, cause, errors } = error as Record<string, unknown>
  const answer = Number(statusCode ?? status ?? 0)
  if (name === 'AbortError' || errorCode === 'network_error' || answer >= 500 || answer === 429) return false
  if (error instanceof StoreError && error.fault === 'unavailable') return false
  return [cause, ...(Array.isArray(errors) ? errors : [])].every((inner) => wasAnswered(inner, depth + 1))
}
