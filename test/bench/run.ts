// npm run bench: "Figures" of README.md, every figure beside its references from the same run. `--json FILE` keeps the
// rows, `--only leases|starts|stores|rotation` measures a part.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { FernetKey } from '../../src/core/fernet.ts'
import { removeEmbeddedServer, startEmbeddedServer } from '../../src/postgres/embedded-server.ts'
import { setUpEmbedded } from '../../src/postgres/embedded-setup.ts'
import { upgradeDatabase } from '../../src/postgres/upgrade.ts'
import { externalStores } from './external-stores.ts'
import { fill, type Filled } from './fill.ts'
import { rotation } from './rotation.ts'
import type { Row } from './rows.ts'
import { absolute, atLeast, median, table } from './rows.ts'
import { load, residentMiB, startScript, startService, type Started } from './processes.ts'

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    'warm-up': { type: 'string', default: '15' },
    port: { type: 'string', default: '17400' },
    only: { type: 'string' },
  },
})
const ROUNDS = Number(options.rounds)
const SECONDS = Number(options.seconds)
// V8 goes on compiling the service for some twelve seconds of load, and the bare server for one or two: before that a
// figure tells of the compiler.
const WARM_UP_SECONDS = Number(options['warm-up'])
const PORT = Number(options.port)
const CONNECTIONS = 64
const CREDENTIALS = 20_000
const VALUE_BYTES = 1024
const COPIES = 100_000
const BATCH = 20
const MEMORY_MIB_MAX = 130
/** Headers that each server writes by itself. */
const OF_EACH_SERVER = ['connection', 'content-length', 'date', 'keep-alive']

const directory = await mkdtemp(join(tmpdir(), 'strongroom-bench-'))
const places: string[] = []
try {
  const rows = await bench()
  process.stdout.write(table(rows))
  if (options.json) await writeFile(options.json, `${JSON.stringify({ rows }, null, 2)}\n`)
  process.exitCode = rows.every((row) => row.reached) ? 0 : 1
} finally {
  for (const place of places) await removeEmbeddedServer(place)
  await rm(directory, { recursive: true, force: true })
}

async function bench(): Promise<Row[]> {
  const wants = (part: string): boolean => options.only === undefined || options.only === part
  const rows: Row[] = []
  const first = wants('starts') ? [await firstStart()] : []
  const one = await filledLedger('leases', CREDENTIALS)
  const two = wants('rotation') ? await filledLedger('rotation', COPIES) : undefined
  try {
    const env = { STRONGROOM_DATABASE_URL: one.databaseUrl, STRONGROOM_KEYS: one.keys[1] }
    if (wants('leases')) rows.push(...(await leases(env, one.filled)))
    if (wants('starts')) rows.push(...(await starts(env)), ...first)
    // Last of what is measured on this ledger: from here on it has copies outside.
    const order = { directory, port: PORT, rounds: ROUNDS, seconds: SECONDS }
    if (wants('stores')) rows.push(...(await externalStores(one, order)))
    if (two) rows.push(...(await rotation(two, PORT, Math.min(ROUNDS, 3))))
    return rows
  } finally {
    await one.server.stop()
    await two?.server.stop()
  }
}

/** A database of its own on the bench's server, filled under the second of two keys. */
async function filledLedger(name: string, credentials: number) {
  const place = join(directory, name)
  places.push(place)
  await mkdir(place, { recursive: true, mode: 0o700 })
  const server = await startEmbeddedServer({ dataDirectory: place })
  const { ownerUrl, serviceUrl } = await setUpEmbedded(server)
  await upgradeDatabase(ownerUrl, serviceUrl)
  const superuserUrl = new URL(server.superuserUrl)
  superuserUrl.pathname = '/strongroom'
  const pair = [FernetKey.generate(), FernetKey.generate()] as const
  const keys: [string, string] = [pair[0].text.reveal(), pair[1].text.reveal()]
  const filled = await fill(superuserUrl.href, [keys[1]], {
    callers: CONNECTIONS,
    credentials,
    bytes: VALUE_BYTES,
  })
  return {
    server,
    databaseUrl: serviceUrl.reveal(),
    ownerUrl: ownerUrl.reveal(),
    superuserUrl: superuserUrl.href,
    keys,
    keyIds: [pair[0].key.id, pair[1].key.id] as [string, string],
    filled,
  }
}

/** Interleaved rounds, so that all figures of a ratio saw the same machine. */
async function leases(env: Record<string, string>, filled: Filled): Promise<Row[]> {
  const service = await startService(env, PORT)
  const answer = join(directory, 'answer.json')
  await writeFile(answer, JSON.stringify(await oneAnswer(service, filled)))
  const bare = await startScript('bare-server.ts', [answer], {})
  const listen = { STRONGROOM_LISTEN: '127.0.0.1:0', STRONGROOM_ADMIN_LISTEN: '127.0.0.1:0' }
  const oneByOne = await startScript('one-by-one-server.ts', [], { ...env, ...listen })
  const single = {
    connections: CONNECTIONS,
    seconds: SECONDS,
    warmUpSeconds: 1,
    tokens: filled.tokens,
    names: filled.credentials,
    path: '/v1/workspaces/acme/credentials/{n}/leases',
    body: '{"ttl_seconds":300,"run_id":"bench"}',
    batch: 0,
  }
  const batch = {
    ...single,
    path: '/v1/workspaces/acme/leases',
    body: '{"credentials":{batch}}',
    batch: BATCH,
  }
  const seen = {
    bare: [] as number[],
    lease: [] as number[],
    oneByOne: [] as number[],
    batch: [] as number[],
  }
  const p99: number[] = []
  try {
    for (const server of [bare, service, oneByOne])
      await load(server, { ...single, seconds: WARM_UP_SECONDS })
    await load(service, { ...batch, seconds: WARM_UP_SECONDS })
    for (let round = 0; round < ROUNDS; round++) {
      seen.bare.push(await rate(bare, single))
      const leased = await load(service, single)
      if (leased.failed > 0) throw new Error(`${leased.failed} leases failed`)
      seen.lease.push(leased.requestsPerSecond)
      p99.push(leased.p99Ms)
      seen.oneByOne.push(await rate(oneByOne, single))
      seen.batch.push((await rate(service, batch)) * BATCH)
    }
  } finally {
    for (const one of [service, bare, oneByOne]) await one.stop()
  }
  const [bareRate, leaseRate, oneRate, batchRate] = [seen.bare, seen.lease, seen.oneByOne, seen.batch].map(
    median,
  )
  const work = `lease, local store, ${CONNECTIONS} connections, 64 tokens, 20,000 credentials of 1 KiB`
  const measured = `${leaseRate}/s, p99 ${median(p99)} ms`
  return [
    atLeast(work, measured, `bare Fastify POST ${bareRate}/s`, leaseRate! / bareRate!, 0.4),
    atLeast(work, measured, `one transaction a request ${oneRate}/s`, leaseRate! / oneRate!, 4),
    atLeast(
      `batch lease of ${BATCH}`,
      `${batchRate} values/s`,
      `single leases ${leaseRate}/s`,
      batchRate! / leaseRate!,
      4,
    ),
  ]
}

async function rate(server: Started, order: Parameters<typeof load>[1]): Promise<number> {
  const { requestsPerSecond, failed } = await load(server, order)
  if (failed > 0) throw new Error(`${failed} requests failed`)
  return requestsPerSecond
}

/** What the bare server answers with. */
async function oneAnswer(
  service: Started,
  filled: Filled,
): Promise<{ headers: Record<string, string>; body: unknown }> {
  const answer = await fetch(new URL('/v1/workspaces/acme/credentials/cred-1/leases', service.url), {
    method: 'POST',
    headers: { authorization: `Bearer ${filled.tokens[0]}`, 'content-type': 'application/json' },
    body: '{"ttl_seconds":300,"run_id":"bench"}',
  })
  if (answer.status !== 201) throw new Error(`a lease was answered with ${answer.status}`)
  const own = Object.fromEntries([...answer.headers].filter(([name]) => !OF_EACH_SERVER.includes(name)))
  return { headers: own, body: await answer.json() }
}

async function starts(env: Record<string, string>): Promise<Row[]> {
  const times: number[] = []
  const memory: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const service = await startService(env, PORT)
    times.push(Math.round(service.readyMs))
    if (round < 3) {
      await sleep(2_000)
      memory.push(residentMiB(service.child))
    }
    await service.stop()
  }
  const [startMs, memoryMiB] = [median(times), median(memory)]
  return [
    absolute('start to ready, existing database', `${startMs} ms`, '≤ 500 ms', startMs <= 500),
    absolute('memory, idle', `${memoryMiB} MiB RSS`, '≤ 130 MB RSS', memoryMiB * 1.048576 <= MEMORY_MIB_MAX),
  ]
}

/** From nothing at all: data directory, key, embedded database, schema, administrator. */
async function firstStart(): Promise<Row> {
  const times: number[] = []
  for (let round = 0; round < 3; round++) {
    const fresh = join(directory, `first-${round}`)
    const service = await startService({ STRONGROOM_DATA_DIR: fresh }, PORT)
    times.push(Math.round(service.readyMs))
    await service.stop()
    await removeEmbeddedServer(fresh)
  }
  return absolute(
    'start to ready, embedded, first time',
    `${median(times)} ms`,
    '≤ 5000 ms',
    median(times) <= 5000,
  )
}
