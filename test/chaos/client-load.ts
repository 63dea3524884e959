import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import type { TestGround } from '../ground.ts'
import { long } from '../repeat.ts'

// As JSON says it; a test that reads what is not there fails.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Body = Record<string, any>

/** An answer, or that there was none. */
export interface Answer {
  status: number | 'broken' | 'hung'
  body: Body
  tookMs: number
}

const HUNG_MS = 20_000
/** Between two calls of one client: what a load asks and what is checked of it afterwards is most of a short run's work. */
const PAUSE_MS = long ? 0 : 60

/** Calls the service as JSON. Never throws: a connection that broke is an answer too. */
export async function call(
  method: string,
  url: string,
  token: string,
  body?: unknown,
  agent?: Agent,
): Promise<Answer> {
  const beganAt = performance.now()
  const took = () => performance.now() - beganAt
  const text = body === undefined ? '' : JSON.stringify(body)
  const headers = {
    authorization: `Bearer ${token}`,
    ...(text && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
  }
  const signal = AbortSignal.timeout(HUNG_MS)
  try {
    const asked = request(url, { method, headers, signal, ...(agent && { agent }) })
    asked.end(text)
    const [answer] = (await once(asked, 'response')) as [IncomingMessage]
    let told = ''
    for await (const chunk of answer.setEncoding('utf8')) told += chunk
    return { status: answer.statusCode!, body: told === '' ? {} : JSON.parse(told), tookMs: took() }
  } catch {
    return { status: signal.aborted ? 'hung' : 'broken', body: {}, tookMs: took() }
  }
}

/** Calls as {@link call} does. @throws Error unless the answer is 2xx */
export async function must(method: string, url: string, token: string, body?: unknown): Promise<Body> {
  return demandSuccess(method, url, await call(method, url, token, body))
}

function demandSuccess(method: string, url: string, { status, body }: Answer): Body {
  if (typeof status === 'number' && status < 300) return body
  throw new Error(`${method} ${url}: ${status} ${JSON.stringify(body)}`)
}

const RETRY_MS = 200
const RETRIES_MAX = 5

/** Calls as {@link call} does, and again where the answer was 503: a service that has just started may be late on a busy machine. */
async function callPatiently(method: string, url: string, token: string, body?: unknown): Promise<Answer> {
  let answer = await call(method, url, token, body)
  for (let again = 0; answer.status === 503 && again < RETRIES_MAX; again++) {
    await sleep(RETRY_MS)
    answer = await call(method, url, token, body)
  }
  return answer
}

/** Makes the workspace `acme` and somebody who may do all with its credentials. @returns his token */
export async function makeWorker(adminUrl: string, adminToken: string): Promise<string> {
  const ask = async (method: string, path: string, body: object): Promise<Body> =>
    demandSuccess(method, path, await callPatiently(method, `${adminUrl}/v1/admin${path}`, adminToken, body))
  await ask('PUT', '/workspaces/acme', {})
  const grants = [{ actions: ['credential:*', 'lease:*'], workspaces: ['acme'] }]
  await ask('PUT', '/roles/worker', { grants })
  await ask('PUT', '/identities/worker', { roles: ['worker'] })
  return (await ask('POST', '/identities/worker/tokens', {})).token
}

/** What clients were told while they leased and wrote. */
export interface Told {
  leases: { id: string; credential: string; version: number; value: string }[]
  writes: { credential: string; version: number; value: string }[]
  answers: Answer[]
}

/** Clients that lease and write until they are stopped or the test ends, each on a connection of its own. */
export class ClientLoad {
  readonly told: Told = { leases: [], writes: [], answers: [] }
  serviceUrl: string
  readonly #token: string
  readonly #clients: Promise<void>[]
  readonly #agent = new Agent({ keepAlive: true })
  readonly #pauseMs: number
  #stopped = false

  constructor(
    t: Test,
    serviceUrl: string,
    token: string,
    clients: { leasing: number; writing: number; pauseMs?: number },
  ) {
    this.#pauseMs = clients.pauseMs ?? PAUSE_MS
    this.serviceUrl = serviceUrl
    this.#token = token
    this.#clients = [
      ...Array.from({ length: clients.writing }, () => this.#write()),
      ...Array.from({ length: clients.leasing }, () => this.#lease()),
    ]
    t.teardown(() => this.stop())
  }

  async stop(): Promise<Told> {
    this.#stopped = true
    await Promise.all(this.#clients)
    this.#agent.destroy()
    return this.told
  }

  get #credentials(): string {
    return `${this.serviceUrl}/v1/workspaces/acme/credentials`
  }

  async #call(method: string, url: string, body: unknown): Promise<Answer> {
    const answer = await call(method, url, this.#token, body, this.#agent)
    this.told.answers.push(answer)
    // A client whose connection broke or who was sent away does not come back at once.
    if (typeof answer.status === 'string' || answer.status >= 500) await sleep(10)
    else if (this.#pauseMs > 0) await sleep(this.#pauseMs)
    return answer
  }

  /** New credentials of four versions each. */
  async #write(): Promise<void> {
    while (!this.#stopped) {
      const credential = randomUUID()
      for (let version = 1; version <= 4 && !this.#stopped; version++) {
        const value = randomUUID()
        const { status } =
          version === 1
            ? await this.#call('POST', this.#credentials, { name: credential, connector: 'c', value })
            : await this.#call('PUT', `${this.#credentials}/${credential}/value`, { value })
        if (status !== 200 && status !== 201) break
        this.told.writes.push({ credential, version, value })
      }
    }
  }

  async #lease(): Promise<void> {
    const { writes, leases } = this.told
    while (!this.#stopped) {
      const written = writes[Math.floor(Math.random() * writes.length)]
      if (!written) {
        await sleep(5)
        continue
      }
      const url = `${this.#credentials}/${written.credential}/leases`
      const { status, body } = await this.#call('POST', url, { version: written.version, run_id: 'load' })
      if (status !== 201) continue
      leases.push({ id: body.lease.id, ...written, version: body.lease.version, value: body.value })
    }
  }
}

/** Holds what clients were told against the ledger and against what a service leases now. */
export async function checkTold(
  t: Test,
  { sql }: Pick<TestGround, 'sql'>,
  service: { serviceUrl: string; adminUrl: string },
  tokens: { worker: string; admin: string },
  told: Told,
): Promise<void> {
  const ids = told.leases.map((lease) => lease.id)
  const recorded = await sql(
    `select count(distinct l.id)::int as leases, count(distinct a.lease)::int as events
     from leases l left join audit_events a
       on a.lease = l.id and a.action = 'lease:issue' and a.outcome = 'allowed' and a.version = l.version
     where l.id = any ($1::uuid[])`,
    [ids],
  )
  t.strictSame(
    recorded,
    [{ leases: ids.length, events: ids.length }],
    'every lease has its record and its event',
  )
  const stopped = await sql('select deadlocks::int from pg_stat_database where datname = current_database()')
  t.strictSame(stopped, [{ deadlocks: 0 }], 'nobody waited for somebody who waited for him')
  const valueOf = new Map(told.writes.map((write) => [`${write.credential}@${write.version}`, write.value]))
  const wrong = told.leases.filter((one) => valueOf.get(`${one.credential}@${one.version}`) !== one.value)
  t.strictSame(wrong, [], 'every leased value is the one that was written')

  const lost = await lostWrites(service.serviceUrl, tokens.worker, told.writes)
  t.strictSame(lost, [], 'every write that was answered is there')
  const { valid } = await must('GET', `${service.adminUrl}/v1/admin/audit/verify`, tokens.admin)
  t.equal(valid, true, 'the audit trail holds')
}

/** Those of the writes that cannot be leased with their value now, nor a little later. */
export async function lostWrites(serviceUrl: string, token: string, writes: Told['writes']) {
  const left = [...writes]
  const lost: (Told['writes'][number] & { status: unknown; detail?: unknown })[] = []
  const lease = async (): Promise<void> => {
    for (let write = left.pop(); write; write = left.pop()) {
      const url = `${serviceUrl}/v1/workspaces/acme/credentials/${write.credential}/leases`
      // What is late is not lost.
      const { status, body } = await callPatiently('POST', url, token, { version: write.version })
      if (status !== 201 || body.value !== write.value) lost.push({ ...write, status, detail: body?.detail })
    }
  }
  await Promise.all(Array.from({ length: 16 }, lease))
  return lost
}
