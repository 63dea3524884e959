import type { Trouble } from '../conformance/secret-store.ts'

/** A call of a provider, as its server sees it. */
export type ServedCall = 'put' | 'get' | 'delete'

/** A loopback server that speaks a provider's protocol to the provider's own SDK, with its back end in the tester's hand. */
export interface ProviderServer {
  /** What a stores file says of a store here, `provider` included. */
  settings: Record<string, unknown>
  /** What the SDK's own chain of logins reads from the environment, for a service in another process. */
  env: Record<string, string>
  /**
   * Awaited before the server acts on a call, and after it has acted but before it answers: a test can stop the caller
   * here, or hold the call up.
   */
  onCall: ((call: ServedCall, moment: 'before' | 'after') => void | Promise<void>) | undefined
  /** The refs that are kept now, whatever the server's own names for them; not what only a recovery window still holds. */
  kept(): string[]
  /** Of the secrets that were deleted, those that the store's own recovery window still holds, as refs. */
  recoverable(): string[]
  /** Keeps a secret as somebody else would, for links. */
  plant(locator: string, text: string): Promise<void>
  suffer(trouble: Trouble): Promise<void>
  recover(): Promise<void>
  close(): Promise<void>
}
