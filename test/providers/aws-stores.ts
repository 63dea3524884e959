import type { Test } from 'tap'
import type { AwsSettings } from '../../providers/aws-secrets-manager.ts'
import { awsSecretsManager } from '../../providers/aws-secrets-manager.ts'
import type { LinkReader, SecretStore } from '../../src/core/secret-store.ts'
import type { AwsServer } from './aws-secrets-manager-server.ts'
import { startAwsServer } from './aws-secrets-manager-server.ts'

/** Short enough that a test may wait for it. */
export const HASTY_MS = 600
/** For calls that are answered, also on a machine that does much else. */
export const PATIENT_MS = 8_000
/** With a slash in it, as an operator may have. */
export const PREFIX = 'strongroom/eu'

/** What keeps the SDK from this machine's own logins. */
export const NO_LOGIN: Record<string, string> = {
  AWS_CONFIG_FILE: '/dev/null',
  AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
  AWS_EC2_METADATA_DISABLED: 'true',
}

/** Sets the environment as given, undefined meaning unset, until the test ends. */
export function withEnvironment(t: Test, env: Record<string, string | undefined>): void {
  const before = Object.fromEntries(Object.keys(env).map((name) => [name, process.env[name]]))
  const set = (values: Record<string, string | undefined>) => {
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) Reflect.deleteProperty(process.env, name)
      else process.env[name] = value
    }
  }
  set(env)
  t.teardown(() => set(before))
}

/** Opens a store at the server; it is closed when the test ends. */
export async function openAt(
  t: Test,
  server: AwsServer,
  settings: Partial<AwsSettings> = {},
  timeoutMs = PATIENT_MS,
): Promise<SecretStore & LinkReader> {
  const { provider: _, ...rest } = server.settings
  const options = { prefix: PREFIX, timeoutMs }
  const store = await awsSecretsManager.open({ ...(rest as unknown as AwsSettings), ...settings }, options)
  t.teardown(() => store.close())
  return store
}

/** A server of the test's own, the login to it, and a store there. */
export async function startedStore(
  t: Test,
  settings: Partial<AwsSettings> = {},
  timeoutMs = PATIENT_MS,
): Promise<{ server: AwsServer; store: SecretStore & LinkReader }> {
  const server = await startAwsServer()
  t.teardown(() => server.close())
  withEnvironment(t, { ...NO_LOGIN, ...server.env })
  return { server, store: await openAt(t, server, settings, timeoutMs) }
}
