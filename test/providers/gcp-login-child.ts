import { promises as dns } from 'node:dns'
import { gcpSecretManager } from '../../providers/gcp-secret-manager.ts'
import type { GcpSettings } from '../../providers/gcp-secret-manager.ts'
import { MARKED } from '../conformance/secret-store.ts'

/** A store that is opened, what is asked of it, and what the environment holds meanwhile beside the process's own. */
export interface Round {
  settings: object
  acts: string[]
  env?: Record<string, string>
  timeoutMs?: number
}

/** What one call came to. */
export interface Outcome {
  act: string
  /** `ok`, or the fault and what the error says. */
  came: string
  ms: number
}

/** What the rounds came to, and the names of hosts that were looked up in each, where none may be. */
export interface Told {
  rounds: { outcomes: Outcome[]; hosts: string[] }[]
  /** When nothing was left to do but to end, on the clock of the machine. */
  doneAt: number
}

// A process of its own, because what it is about is read from the environment: the login, proxies, what the SDK prints.
const { rounds, lookupsFail } = JSON.parse(process.argv[2]!) as { rounds: Round[]; lookupsFail?: boolean }
let hosts: string[] = []
// No name leaves this machine where the test is about which one would be asked for.
if (lookupsFail) {
  dns.lookup = (async (host: string) => {
    hosts.push(host)
    throw Object.assign(new Error('no such host'), { code: 'ENOTFOUND' })
  }) as unknown as typeof dns.lookup
}
const ref = 'strongroom/acme/0190a5b0-0000-7000-8000-000000000000'
const env = process.env
const told: Told = { rounds: [], doneAt: 0 }
for (const { settings, acts, env: more, timeoutMs = 4000 } of rounds) {
  process.env = { ...env, ...more }
  hosts = []
  const store = await gcpSecretManager.open(settings as GcpSettings, { prefix: 'strongroom', timeoutMs })
  const calls: Record<string, () => Promise<unknown>> = {
    put: () => store.put(ref, MARKED, { workspace: 'acme', credential: 'orders-db' }),
    get: () => store.get(ref),
    delete: () => store.delete(ref),
    check: () => store.check(),
  }
  const outcomes: Outcome[] = []
  for (const act of acts) {
    const beganAt = performance.now()
    const came = await calls[act]!().then(
      () => 'ok',
      (error) => `${error.fault} ${error.message}`,
    )
    outcomes.push({ act, came, ms: performance.now() - beganAt })
  }
  await store.close()
  told.rounds.push({ outcomes, hosts })
}
process.stdout.write(JSON.stringify({ ...told, doneAt: Date.now() }))
