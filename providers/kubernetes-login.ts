import { spawn } from 'node:child_process'
import type { ChildProcess, SpawnOptions } from 'node:child_process'
import type { RequestOptions } from 'node:https'
import type * as sdk from '@kubernetes/client-node'
import { StoreError } from '../src/core/secret-store.ts'
import { Refusal } from './kubernetes-exchange.ts'

/** The SDK, as it is loaded when a store is opened. */
export type Sdk = typeof sdk

/** Where the cluster is and who asks, as the kubeconfig or the pod said when this was made. */
export class Login {
  readonly server: string
  readonly #config: sdk.KubeConfig
  #pending: Promise<RequestOptions> | undefined

  constructor({ KubeConfig }: Sdk, context: string | undefined, timeoutMs: number, closing: AbortSignal) {
    this.#config = new KubeConfig()
    try {
      this.#config.loadFromDefault()
    } catch {
      throw new StoreError('denied', 'kubeconfig cannot be read')
    }
    // So the SDK calls what it makes up, a server in the clear on port 8080 of this machine, when it finds nothing.
    if (this.#config.getCurrentContext() === 'loaded-context') throw new StoreError('denied', 'no kubeconfig')
    if (context !== undefined) this.#config.setCurrentContext(context)
    const cluster = this.#config.getCurrentCluster()
    if (!cluster) throw new StoreError('denied', 'no such context')
    if (!cluster.server.startsWith('https://')) throw new StoreError('rejected', 'server is not https')
    if (cluster.skipTLSVerify) throw new StoreError('rejected', 'insecure-skip-tls-verify is set')
    // The SDK's agents for proxies keep to no deadline.
    if (cluster.proxyUrl) throw new StoreError('rejected', 'proxy-url is set')
    // The SDK runs the commands of some of them while the whole process waits, and others ask a server of their own.
    const provider = this.#config.getCurrentUser()?.authProvider
    if (provider && provider.name !== 'tokenFile') throw new StoreError('rejected', 'auth-provider is set')
    this.server = cluster.server
    // The SDK gives a login plugin no deadline, and one that hangs would outlive the store.
    for (const authenticator of Reflect.get(this.#config, 'authenticators') as object[]) {
      if ('execFn' in authenticator) authenticator.execFn = boundedSpawn(timeoutMs, closing)
    }
  }

  /** TLS and headers for the next request: files are read again and a plugin is run when it is time, one at a time. */
  options(): Promise<RequestOptions> {
    this.#pending ??= this.#apply().finally(() => (this.#pending = undefined))
    return this.#pending
  }

  async #apply(): Promise<RequestOptions> {
    const options: RequestOptions = {}
    try {
      await this.#config.applyToHTTPSOptions(options)
    } catch {
      const fault = this.#config.getCurrentUser()?.exec ? 'unavailable' : 'denied'
      throw new Refusal(fault, 'LoginFailed')
    }
    const { ca, cert, key, servername, auth } = options
    const headers = Object.entries(options.headers ?? {}).map(([name, value]) => [name, String(value).trim()])
    // Said outright, so that NODE_TLS_REJECT_UNAUTHORIZED counts for nothing.
    const tls = { ca, cert, key, servername, rejectUnauthorized: true }
    return { ...tls, auth, headers: Object.fromEntries(headers) }
  }
}

function boundedSpawn(timeoutMs: number, signal: AbortSignal) {
  return (command: string, args: string[] | undefined, options: SpawnOptions): ChildProcess => {
    const bounds = { timeout: timeoutMs, signal, killSignal: 'SIGKILL' } as const
    const plugin = spawn(command, args ?? [], { ...options, ...bounds, stdio: ['ignore', 'pipe', 'pipe'] })
    // What it started itself may live on and hold its output open.
    plugin.once('exit', (code) => {
      if (code === null) for (const output of [plugin.stdout, plugin.stderr]) output.destroy()
    })
    return plugin
  }
}
