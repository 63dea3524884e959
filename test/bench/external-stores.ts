import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { hashicorpVault } from '../../providers/hashicorp-vault.ts'
import { readConfig } from '../../src/config.ts'
import { createLogger } from '../../src/log.ts'
import { makeAdministrator } from '../../src/server.ts'
import { TUNING } from '../../src/tuning.ts'
import { valueOf } from './fill.ts'
import type { LoadOrder } from './load.ts'
import { load, startScript, startService, type Started } from './processes.ts'
import { ask, type Ask, type RotationGround } from './rotation.ts'
import type { Row } from './rows.ts'
import { atLeast, atMost, median } from './rows.ts'
import { fillWorkspace } from './workspace-fill.ts'

/** How long and how often. */
export interface ExternalStoresOrder {
  /** For what the processes read. */
  directory: string
  port: number
  rounds: number
  seconds: number
}

const VALUE_BYTES = 1024
const OUTSIDE = { workspace: 'outside', store: 'team-vault', credentials: 20_000 }
const STUCK = { workspace: 'stuck', store: 'hanging', credentials: 1_000 }
const MOVING = { workspace: 'moving', store: 'local', credentials: 2_000 }
const WARM_AT_ONCE = 4
const STUCK_CALLERS = 16
const STUCK_PAUSE_MS = 200
// A put makes two requests, and what is moved is read back by a third: two thirds would be all that can be reached.
const MIGRATION_SHARE_MIN = 0.25

/** Leases whose copies lie in an external store, leases beside one that hangs, and a store migration to one. */
export async function externalStores(ground: RotationGround, order: ExternalStoresOrder): Promise<Row[]> {
  const key = ground.keys[1]
  const kept = join(order.directory, 'kept.json')
  const outside = await fillWorkspace(ground.superuserUrl, { ...OUTSIDE, key, bytes: VALUE_BYTES })
  for (const one of [STUCK, MOVING])
    await fillWorkspace(ground.superuserUrl, { ...one, key, bytes: VALUE_BYTES })
  await writeFile(kept, JSON.stringify(outside))
  const vault = await startScript('vault-server.ts', [kept], {})
  const hanging = await startScript('vault-server.ts', [kept, 'hang'], {})
  const storesFile = join(order.directory, 'stores.json')
  const stores = {
    [OUTSIDE.store]: { ...settingsOf(vault), cache_seconds: 86_400 },
    [STUCK.store]: settingsOf(hanging),
  }
  await writeFile(storesFile, JSON.stringify({ stores }))
  const env = {
    STRONGROOM_DATABASE_URL: ground.databaseUrl,
    STRONGROOM_KEYS: key,
    STRONGROOM_STORES_FILE: storesFile,
    STRONGROOM_RATE_LIMIT: '0',
  }
  const owner = { ...env, STRONGROOM_DATABASE_OWNER_URL: ground.ownerUrl }
  const { token } = await makeAdministrator(await readConfig(owner, 'owner'), 'bench', createLogger('error'))
  const service = await startService(env, order.port)
  const admin: Ask = (method, path, body) => ask(order.port + 1, token, method, path, body)
  try {
    await cacheAll(service, ground.filled.tokens)
    return [
      await cachedLeases(service, ground, order),
      await besideHanging(service, ground, order),
      await migration(admin, vault, order.rounds),
    ]
  } finally {
    for (const one of [service, vault, hanging]) await one.stop()
  }
}

/** What a stores file says of such a server. */
function settingsOf({ url }: Started) {
  const auth = { method: 'token' as const, token_file: url.searchParams.get('token_file')! }
  return { provider: 'hashicorp-vault', address: url.origin, auth }
}

function orderOf(workspace: string, { filled }: RotationGround, seconds: number) {
  return {
    connections: 64,
    seconds,
    warmUpSeconds: 1,
    tokens: filled.tokens,
    names: filled.credentials,
    path: `/v1/workspaces/${workspace}/credentials/{n}/leases`,
    body: '{"ttl_seconds":300,"run_id":"bench"}',
    batch: 0,
  } satisfies Omit<LoadOrder, 'host' | 'port'>
}

/** Leases every copy that lies outside once. */
async function cacheAll(service: Started, tokens: readonly string[]): Promise<void> {
  const names = Array.from({ length: OUTSIDE.credentials }, (_, number) => `cred-${number}`)
  const lane = async (token: string): Promise<void> => {
    while (names.length > 0) {
      const path = `/v1/workspaces/${OUTSIDE.workspace}/leases`
      const answer = await post(service, token, path, { credentials: names.splice(0, 100) })
      const { results } = (await answer.json()) as { results: object[] }
      if (!results.every((one) => 'value' in one)) throw new Error('a copy could not be leased')
    }
  }
  await Promise.all(tokens.slice(0, WARM_AT_ONCE).map(lane))
}

/** The same service and the same number of credentials, here and there. */
async function cachedLeases(
  service: Started,
  ground: RotationGround,
  { rounds, seconds }: ExternalStoresOrder,
): Promise<Row> {
  const local: number[] = []
  const cached: number[] = []
  for (let round = 0; round < rounds; round++) {
    local.push((await wellLoaded(service, orderOf('acme', ground, seconds))).requestsPerSecond)
    const from = { ...orderOf(OUTSIDE.workspace, ground, seconds), names: OUTSIDE.credentials }
    cached.push((await wellLoaded(service, from)).requestsPerSecond)
  }
  const [rate, localRate] = [median(cached), median(local)]
  const work = 'lease from an external store, copy cached'
  return atLeast(work, `${rate}/s`, `local ${localRate}/s`, rate / localRate, 0.8)
}

/** Leases of local copies, while others wait for a store that takes every request and answers none. */
async function besideHanging(
  service: Started,
  ground: RotationGround,
  { rounds, seconds }: ExternalStoresOrder,
): Promise<Row> {
  const order = orderOf('acme', ground, seconds)
  const alone: number[] = []
  const beside: number[] = []
  let refused = 0
  for (let round = 0; round < rounds; round++) {
    alone.push((await wellLoaded(service, order)).p99Ms)
    let stopped = false
    const callers = ground.filled.tokens.slice(0, STUCK_CALLERS).map(async (token, caller) => {
      const path = `/v1/workspaces/${STUCK.workspace}/credentials/cred-${caller}/leases`
      while (!stopped) {
        const { status } = await post(service, token, path, {})
        if (status !== 503) throw new Error(`a lease of a store that hangs was answered with ${status}`)
        refused++
        await sleep(STUCK_PAUSE_MS)
      }
    })
    beside.push((await wellLoaded(service, order)).p99Ms)
    stopped = true
    await Promise.all(callers)
  }
  const [p99, p99Alone] = [median(beside), median(alone)]
  const work = `p99 of local leases beside a store that hangs, with ${STUCK_CALLERS} callers`
  return atMost(work, `${p99} ms, ${refused} refused there`, `without: ${p99Alone} ms`, p99 / p99Alone, 2.5)
}

/** There, and back again by a rollback; between them the same values are put and nothing else is done. */
async function migration(admin: Ask, vault: Started, rounds: number): Promise<Row> {
  const moved: number[] = []
  const bare: number[] = []
  const body = { from: MOVING.store, to: OUTSIDE.store, workspaces: [MOVING.workspace] }
  for (let round = 0; round < rounds; round++) {
    const { id } = await admin('POST', '/v1/admin/store-migrations', body)
    const run = await settled(admin, String(id), 'done')
    const seconds = (Date.parse(String(run['finished_at'])) - Date.parse(String(run['started_at']))) / 1000
    moved.push(Math.round(Number(run['moved']) / seconds))
    bare.push(await barePuts(vault))
    await admin('POST', `/v1/admin/store-migrations/${String(id)}/rollback`, {})
    await settled(admin, String(id), 'rolled_back')
  }
  const [rate, bareRate] = [median(moved), median(bare)]
  const work = `store migration of ${MOVING.credentials} copies of 1 KiB, each read back, to an external store`
  const reference = `bare loop of put, ${TUNING.relocationLanes} at once: ${bareRate}/s`
  return atLeast(work, `${rate} copies/s`, reference, rate / bareRate, MIGRATION_SHARE_MIN)
}

async function settled(admin: Ask, id: string, as: string): Promise<Record<string, unknown>> {
  for (;;) {
    const run = await admin('GET', `/v1/admin/store-migrations/${id}`)
    if (run['state'] === as) return run
    if (run['state'] !== 'running') throw new Error(`the store migration ended as ${String(run['state'])}`)
    await sleep(100)
  }
}

/** The provider's own `put` of as many values, as many at once as a store migration puts. @returns values a second */
async function barePuts(vault: Started): Promise<number> {
  const { address, auth } = settingsOf(vault)
  const store = await hashicorpVault.open({ address, auth }, { prefix: 'strongroom', timeoutMs: 5_000 })
  const values = Array.from({ length: MOVING.credentials }, (_, number) => valueOf(number, VALUE_BYTES))
  const owner = { workspace: 'bare', credential: 'bare' }
  const beganAt = performance.now()
  const lane = async (): Promise<void> => {
    for (let value = values.pop(); value !== undefined; value = values.pop())
      await store.put(`strongroom/bare/${randomUUID()}`, value, owner)
  }
  await Promise.all(Array.from({ length: TUNING.relocationLanes }, lane))
  const seconds = (performance.now() - beganAt) / 1000
  await store.close()
  return Math.round(MOVING.credentials / seconds)
}

async function wellLoaded(service: Started, order: Omit<LoadOrder, 'host' | 'port'>) {
  const result = await load(service, order)
  if (result.failed > 0) throw new Error(`${result.failed} leases failed`)
  return result
}

function post({ url }: Started, token: string, path: string, body: object): Promise<Response> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  return fetch(new URL(path, url), { method: 'POST', headers, body: JSON.stringify(body) })
}
