import { randomBytes } from 'node:crypto'
import type { VaultReply } from './hashicorp-vault-kv.ts'
import { ok, refuse } from './hashicorp-vault-kv.ts'

/** How long tokens live, in seconds; 0 is without end, as a root token. */
export interface TokenTimes {
  ttl: number
  /** No renewal goes beyond. */
  max?: number
  renewable?: boolean
}

interface Token {
  endsAt: number
  lastEndsAt: number
}

/** Who may call: tokens, the logins that make them, and their renewal. */
export class VaultTokens {
  readonly #tokens = new Map<string, Token>()
  readonly times: TokenTimes
  /** Whether the policy lets a token ask about itself and renew itself. */
  selfService = true
  logins = 0
  renewals = 0

  constructor(times: TokenTimes) {
    this.times = times
  }

  issue(): string {
    // With the mark of the suite's values in it, so that the suite finds a token in an error as well.
    const token = `hvs.d41d8cd98f00b204-${randomBytes(18).toString('base64url')}`
    const lastEndsAt = this.times.max ? Date.now() + this.times.max * 1000 : Infinity
    this.#tokens.set(token, { lastEndsAt, endsAt: this.#endOf(lastEndsAt) })
    return token
  }

  revokeAll(): void {
    this.#tokens.clear()
  }

  lives(token: string | undefined): boolean {
    return Date.now() < (this.#tokens.get(token ?? '')?.endsAt ?? 0)
  }

  /** `auth/token/…-self`. */
  self(method: string, act: string, token: string): VaultReply {
    const { renewable = true } = this.times
    if (!this.selfService) return refuse(403, '1 error occurred:\n\t* permission denied\n\n')
    const held = this.#tokens.get(token)!
    const seconds = (): number =>
      held.endsAt === Infinity ? 0 : Math.floor((held.endsAt - Date.now() + 50) / 1000)
    if (method === 'GET' && act === 'lookup-self')
      return ok({ data: { id: token, ttl: seconds(), renewable: renewable && this.times.ttl > 0 } })
    if (method !== 'POST' || act !== 'renew-self') return refuse(405, 'unsupported operation')
    if (!renewable || this.times.ttl === 0) return refuse(400, 'lease is not renewable')
    this.renewals += 1
    held.endsAt = this.#endOf(held.lastEndsAt)
    return ok({ auth: { client_token: token, lease_duration: seconds(), renewable } })
  }

  login(): VaultReply {
    this.logins += 1
    const { ttl, renewable = true } = this.times
    return ok({ auth: { client_token: this.issue(), lease_duration: ttl, renewable } })
  }

  #endOf(lastEndsAt: number): number {
    return Math.min(lastEndsAt, this.times.ttl === 0 ? Infinity : Date.now() + this.times.ttl * 1000)
  }
}
