import type { TokenCredential } from '@azure/identity'
import { StoreError } from '../src/core/secret-store.ts'
import { currentLogin } from './azure-transport.ts'

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
    const attempt = { deadline: AbortSignal.timeout(this.#timeoutMs), unanswered: false }
    // The SDK has one error for a login that is wrong and one that could not be asked for, and it quotes the answer.
    const token = await currentLogin
      .run(attempt, () => this.#credential.getToken(scopes, { ...options, abortSignal: attempt.deadline }))
      .catch(() => null)
    if (!token) {
      if (!attempt.unanswered) throw new StoreError('denied', 'no login was accepted')
      throw new StoreError('unavailable', 'the login was not answered')
    }
    const { expiresOnTimestamp, refreshAfterTimestamp } = token
    const refreshAt = refreshAfterTimestamp ?? expiresOnTimestamp - 2 * MARGIN_MS
    this.#kept = { token, about, refreshAt }
    return token
  }
}

function expired({ token }: Token): Token {
  return { token, expiresOnTimestamp: 0 }
}
