import pg from 'pg'
import { readConfig } from '../../src/config.ts'
import type { Secret } from '../../src/core/secret.ts'
import { createLogger } from '../../src/log.ts'
import { makeAdministrator } from '../../src/server.ts'
import type { Filled } from './fill.ts'
import { load, startService, type Started } from './processes.ts'
import type { Row } from './rows.ts'
import { absolute, atLeast, atMost, median } from './rows.ts'

/** Where the rotation is measured: a ledger that is filled under the second of the two keys. */
export interface RotationGround {
  databaseUrl: string
  ownerUrl: string
  superuserUrl: string
  /** The first is the one to rotate to. */
  keys: [string, string]
  keyIds: [string, string]
  filled: Filled
}

const COPIES_PER_SECOND_MIN = 8000
const SAMPLE_SECONDS = 10

/** Rotation with leases idle and under lease load, there and back again. */
export async function rotation(ground: RotationGround, port: number, rounds: number): Promise<Row[]> {
  const env = { STRONGROOM_DATABASE_URL: ground.databaseUrl, STRONGROOM_KEYS: ground.keys.join(',') }
  const owner = { ...env, STRONGROOM_DATABASE_OWNER_URL: ground.ownerUrl }
  const { token } = await makeAdministrator(await readConfig(owner, 'owner'), 'bench', createLogger('error'))
  const service = await startService(env, port)
  const admin = (method: string, path: string, body?: object) => ask(port + 1, token, method, path, body)
  const to = (turn: number): string => ground.keyIds[turn % 2]!
  let turn = 0
  try {
    const rates: number[] = []
    const bare: number[] = []
    for (let round = 0; round < rounds; round++) {
      const { moved, seconds } = await rotate(admin, to(turn++))
      rates.push(Math.round(moved / seconds))
      bare.push(await bareUpdate(ground.superuserUrl))
    }
    const [rate, bareRate] = [median(rates), median(bare)]
    const work = `rotation of ${ground.filled.credentials} copies of 1 KiB, each read back, leases idle`
    return [
      absolute(
        work,
        `${rate} copies/s`,
        `≥ ${COPIES_PER_SECOND_MIN} copies/s`,
        rate >= COPIES_PER_SECOND_MIN,
        `bare bulk update ${bareRate} rows/s`,
      ),
      ...(await underLoad(service, ground, rounds, () => rotate(admin, to(turn++)))),
    ]
  } finally {
    await service.stop()
  }
}

async function underLoad(
  service: Started,
  ground: RotationGround,
  rounds: number,
  rotateOnce: () => Promise<{ moved: number; seconds: number }>,
): Promise<Row[]> {
  const order = {
    connections: 64,
    seconds: SAMPLE_SECONDS,
    warmUpSeconds: 1,
    tokens: ground.filled.tokens,
    names: ground.filled.credentials,
    path: '/v1/workspaces/acme/credentials/{n}/leases',
    body: '{"ttl_seconds":300}',
    batch: 0,
  }
  const alone = { rate: [] as number[], p99: [] as number[] }
  const beside = { rate: [] as number[], p99: [] as number[], copies: [] as number[] }
  for (let round = 0; round < rounds; round++) {
    const quiet = await load(service, order)
    alone.rate.push(quiet.requestsPerSecond)
    alone.p99.push(quiet.p99Ms)
    const rotating = rotateOnce()
    const busy = await load(service, order)
    if (quiet.failed + busy.failed > 0) throw new Error(`${quiet.failed + busy.failed} leases failed`)
    beside.rate.push(busy.requestsPerSecond)
    beside.p99.push(busy.p99Ms)
    const { moved, seconds } = await rotating
    beside.copies.push(Math.round(moved / seconds))
  }
  const [rate, p99] = [median(beside.rate), median(beside.p99)]
  const [rateAlone, p99Alone] = [median(alone.rate), median(alone.p99)]
  const work = 'leases while a rotation runs'
  const copies = `${median(beside.copies)} copies/s beside them`
  return [
    atLeast(work, `${rate}/s, ${copies}`, `without: ${rateAlone}/s`, rate / rateAlone, 0.7),
    atMost(`${work}, p99`, `${p99} ms`, `without: ${p99Alone} ms`, p99 / p99Alone, 2.5),
  ]
}

/** Asks the admin listener, and answers the JSON. */
export type Ask = (method: string, path: string, body?: object) => Promise<Record<string, unknown>>

async function rotate(admin: Ask, toKey: string): Promise<{ moved: number; seconds: number }> {
  const { id } = await admin('POST', '/v1/admin/rotations', { to_key: toKey })
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 200))
    const run = await admin('GET', `/v1/admin/rotations/${String(id)}`)
    if (run.state === 'running') continue
    if (run.state !== 'done') throw new Error(`the rotation ended as ${String(run.state)}`)
    const seconds = (Date.parse(String(run.finished_at)) - Date.parse(String(run.started_at))) / 1000
    return { moved: Number(run.moved), seconds }
  }
}

/** The same rows, written once by one statement that neither opens nor seals. @returns rows a second */
async function bareUpdate(superuserUrl: string): Promise<number> {
  const client = new pg.Client({ connectionString: superuserUrl })
  await client.connect()
  try {
    await client.query(`delete from copies where token is null`)
    await client.query('vacuum analyze copies')
    const beganAt = performance.now()
    const { rowCount } = await client.query(`update copies set token = token || '' where token is not null`)
    return Math.round(rowCount! / ((performance.now() - beganAt) / 1000))
  } finally {
    await client.query('vacuum copies')
    await client.end()
  }
}

/** @throws Error where the answer is none of success */
export async function ask(port: number, token: Secret, method: string, path: string, body?: object) {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers: { authorization: `Bearer ${token.reveal()}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  })
  if (!answer.ok)
    throw new Error(`${method} ${path} was answered with ${answer.status}: ${await answer.text()}`)
  return (await answer.json()) as Record<string, unknown>
}
