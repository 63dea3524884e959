import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { VaultError } from '../src/core/errors.ts'
import { Locator } from '../src/core/locator.ts'
import type { StoreFault } from '../src/core/secret-store.ts'
import { StoreError } from '../src/core/secret-store.ts'
import { Secret } from '../src/core/secret.ts'
import { CODE_OF_FAULT, storeProblem } from '../src/core/store-problems.ts'
import { GuardedStore } from '../src/guarded-store.ts'
import { problemOf, retryAfterOf } from '../src/http/problems.ts'
import { STORE_KINDS } from '../src/store-kinds.ts'
import { endsByTime, FAULT_OF, type Trouble } from './conformance/secret-store.ts'
import { startAwsServer } from './providers/aws-secrets-manager-server.ts'
import { AzureKeyVaultServer } from './providers/azure-key-vault-server.ts'
import { startGcpServer } from './providers/gcp-secret-manager-server.ts'
import { startVaultServer } from './providers/hashicorp-vault-server.ts'
import { openKubernetesServer } from './providers/kubernetes-server.ts'
import type { ProviderServer } from './providers/provider-server.ts'
import { troubledStore, within } from './troubled-store.ts'

// docs/faults.md is made here, by running each provider against its loopback server: `npm run faults`.

const root = join(import.meta.dirname, '..')
const page = join(root, 'docs/faults.md')
const OWNER = { workspace: 'acme', credential: 'orders-db' }
const PATIENT_MS = 15_000
// For what never ends.
const HASTY_MS = 1_000

const SERVERS: Record<string, () => Promise<ProviderServer>> = {
  'hashicorp-vault': startVaultServer,
  'aws-secrets-manager': startAwsServer,
  'gcp-secret-manager': () => startGcpServer(),
  'azure-key-vault': () => AzureKeyVaultServer.start(),
  kubernetes: openKubernetesServer,
}

/** What happens at the other end, in a reader's words. */
const HAPPENINGS: Record<Trouble, string> = {
  deny: 'It refuses Strongroom the access',
  throttle: 'It says that these are too many requests',
  break: 'It answers that it has failed',
  hang: 'It accepts the request and never answers',
  drip: 'It answers one byte at a time',
  'refuse-connections': 'Nobody listens there',
}

/** The codes that calls come to, each named once. */
async function codesOf(calls: Promise<unknown>[]): Promise<string> {
  const outcomes = calls.map((call) =>
    call.then(
      () => 'no fault',
      (error) => {
        const problem = storeProblem('store', error)
        return problem instanceof VaultError ? problem.code : String(error)
      },
    ),
  )
  return [...new Set(await Promise.all(outcomes))].map((code) => `\`${code}\``).join(', ')
}

/** What each happening at a store of this kind comes to, behind the guard. */
async function columnOf(provider: string): Promise<Record<string, string>> {
  const server = await SERVERS[provider]!()
  Object.assign(process.env, server.env)
  const kind = await STORE_KINDS[provider]!.load()
  const { provider: _, ...settings } = server.settings
  const open = async (timeoutMs: number): Promise<GuardedStore> =>
    new GuardedStore(await kind.open(settings, { prefix: 'strongroom', timeoutMs }), {
      name: provider,
      provider,
      prefix: 'strongroom',
      links: {},
      versionsKept: 10,
      valueBytesMax: kind.valueBytesMax,
      segment: kind.segment,
      limits: { concurrency: 16, timeoutMs },
      cacheSeconds: 0,
      onEvent: () => {},
      tuning: { retriesMax: 0, breakerFailuresMax: 1_000 },
    })
  const patient = await open(PATIENT_MS)
  const hasty = await open(HASTY_MS)
  t.teardown(async () => {
    await patient.close()
    await hasty.close()
    await server.close()
  })
  const mint = (prefix = 'strongroom'): string => `${prefix}/acme/${randomUUID()}`
  const call = () => within(2 * PATIENT_MS)
  const put = (store: GuardedStore, ref: string) => store.put(ref, new Secret('"kept"'), OWNER, call())
  const read = (store: GuardedStore, locator: string) => store.read(Locator.parse(locator)!, call())
  const kept = mint()
  // An SDK loads the rest of itself at its first call, which may take its time.
  await put(patient, kept)
  await hasty.get(kept, call()).catch(() => {})
  await server.plant('apps/acme/db', '{"user":"reader"}')
  const column: Record<string, string> = {
    'Nothing is kept there': await codesOf([patient.get(mint(), call()), read(patient, 'apps/acme/none')]),
  }
  for (const [trouble, happening] of Object.entries(HAPPENINGS) as [Trouble, string][]) {
    await server.suffer(trouble)
    const store = endsByTime(trouble) ? hasty : patient
    const calls = [
      put(store, mint()),
      store.get(kept, call()),
      read(store, 'apps/acme/db'),
      store.delete(kept, false, call()),
    ]
    column[happening] = await codesOf(calls)
    await server.recover()
  }
  const stray = mint('elsewhere')
  const strays = [put(patient, stray), patient.get(stray, call()), patient.delete(stray, false, call())]
  column['The name is none of its own: nothing is sent'] = await codesOf(strays)
  return column
}

/** What a fault is for a caller and for the store, found by having a store fail so. */
async function rowOf(fault: StoreFault): Promise<string[]> {
  const { store, calls, trouble } = await troubledStore(t)
  trouble.onCall = () => {
    throw new StoreError(fault, 'as it was told to')
  }
  const error = await store.getBack('strongroom/acme/a', within(500)).catch((reason) => reason)
  const problem = storeProblem('store', error) as VaultError
  const { code, status, detail } = problemOf(problem, 'id')
  const retryAfter = retryAfterOf(problem)
  return [
    `\`${fault}\``,
    `\`${code}\``,
    String(status),
    retryAfter === undefined ? 'no' : `after ${retryAfter} s`,
    calls.length > 1 ? `${calls.length - 1} times` : 'no',
    store.state().reachable ? 'no' : 'yes',
    detail,
  ]
}

function tableOf(head: string[], rows: string[][]): string {
  const lines = [head, head.map(() => '---'), ...rows]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

const providers = Object.keys(SERVERS)
const columns = await Promise.all(providers.map(columnOf))
const faults = Object.keys(CODE_OF_FAULT) as StoreFault[]

const told = tableOf(
  [
    'fault',
    'code',
    'status',
    'worth repeating',
    'tried again here',
    'opens the breaker',
    'what a caller reads',
  ],
  await Promise.all(faults.map(rowOf)),
)
const found = tableOf(
  ['what happens there', ...providers],
  Object.keys(columns[0]!).map((happening) => [happening, ...columns.map((column) => column[happening]!)]),
)
const text = `# Faults of stores

A store's provider tells five faults apart, and each is a code of its own to the caller, whatever he asked for: a write, a
lease, a part of a batch, a link's lease. The problem names the store in its member \`store\`. A write that meets a fault has
switched nothing; a lease that meets one is \`failed\`, which its audit event says too, and no value has left.

This page is made by \`test/fault-table.test.ts\`, which runs each provider with its own SDK against a server on loopback;
it fails when the page is stale, and \`npm run faults\` writes it anew.

## What a caller is told

${told}

## What is which fault

${found}

What a vendor's own error codes mean stands in the tables of the tests in \`test/providers/\`. A call that ends as
\`unavailable\` may have been carried out all the same: a copy that was put so is swept, and one that was to be deleted is
deleted again.
`

if (process.argv.includes('--write')) writeFileSync(page, text)

t.test('docs/faults.md is what the providers do', async (t) => {
  t.equal(existsSync(page) && readFileSync(page, 'utf8'), text, 'npm run faults writes the page anew')
})

t.test('every kind of store that a stores file may ask for has a column', async (t) => {
  const written = Object.keys(STORE_KINDS).filter((each) => existsSync(join(root, `providers/${each}.ts`)))
  t.same(providers.toSorted(), written.toSorted())
})

t.test('a trouble is the same fault in every kind of store', async (t) => {
  for (const [index, column] of columns.entries()) {
    for (const [trouble, happening] of Object.entries(HAPPENINGS) as [Trouble, string][])
      t.equal(column[happening], `\`${CODE_OF_FAULT[FAULT_OF[trouble]]}\``, `${providers[index]} ${trouble}`)
  }
})
