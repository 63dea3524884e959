import type { Test } from 'tap'
import { kubernetes } from '../../providers/kubernetes.ts'
import type { LinkReader, SecretStore } from '../../src/core/secret-store.ts'
import type { KubernetesServer } from './kubernetes-server.ts'
import { openKubernetesServer } from './kubernetes-server.ts'

/** What the tests of the provider open their stores with. */
export const OPTIONS = { prefix: 'strongroom', timeoutMs: 8_000 }
/** The same where a test waits until the time is over. */
export const HASTY = { ...OPTIONS, timeoutMs: 500 }

/** A server, and a store that finds it by its kubeconfig; both are closed at the test's end. */
export async function openKubernetes(
  t: Test,
  settings: { context?: string } = {},
  options = OPTIONS,
): Promise<{ server: KubernetesServer; store: SecretStore & LinkReader }> {
  const server = await openKubernetesServer()
  setEnvironment(t, server.env)
  const store = await kubernetes.open({ namespace: server.namespace, ...settings }, options)
  t.teardown(async () => {
    await store.close()
    await server.close()
  })
  return { server, store }
}

/** Sets variables until the test's end; undefined takes one away. */
export function setEnvironment(t: Test, variables: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(variables)) {
    const before = process.env[name]
    const set = (to: string | undefined): void => {
      if (to === undefined) Reflect.deleteProperty(process.env, name)
      else process.env[name] = to
    }
    set(value)
    t.teardown(() => set(before))
  }
}
