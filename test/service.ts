import type { FastifyInstance, InjectOptions } from 'fastify'
import type { Test } from 'tap'
import { FernetKey } from '../src/core/fernet.ts'
import type { Grant } from '../src/core/grants.ts'
import { LOCAL } from '../src/core/store-set.ts'
import type { Store } from '../src/core/stores.ts'
import { createLogger } from '../src/log.ts'
import { ONLY_LOCAL } from '../src/opened-stores.ts'
import type { Tuning } from '../src/tuning.ts'
import type { Strongroom } from '../src/wire.ts'
import { wire } from '../src/wire.ts'
import { Contract } from './contract.ts'
import type { TestGround } from './ground.ts'
import { freshGround } from './ground.ts'

/** What was parsed from an answer: a test says what it expects of it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Json = any

/** What a listener answered; `json` is undefined where the body is none. */
export interface Answer {
  status: number
  headers: Record<string, string>
  text: string
  json: Json
  /** The operation that answered, where the path and the method have one. */
  operationId: string | undefined
}

/** Sends `body` as JSON, a Buffer as it is, and nothing where it is left out. */
export type Ask = (
  method: string,
  url: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<Answer>

/** The two real apps on a real PostgreSQL; what they answer is held against the contract. */
export interface Service {
  ground: TestGround
  strongroom: Strongroom
  adminToken: string
  contract: Contract
  /** Everything that was logged so far. */
  log(): string
  /** Everything that was answered so far. */
  answers: Answer[]
  /** Asks the admin listener, as the first administrator. */
  admin: Ask
  /** Asks the service listener with this token; with none where it is undefined. */
  as(token: string | undefined): Ask
  /** The same of the admin listener. */
  adminAs(token: string | undefined): Ask
  /** Makes an identity with one role of its own, and a token for it. */
  identity(name: string, grants: Grant[], expiresInSeconds?: number): Promise<string>
}

/** Everything in every workspace but administration. */
export const ALL: Grant = { actions: ['credential:*', 'lease:*'], workspaces: ['*'] }

/** What a test may set beside the tuning. */
export interface ServiceOptions {
  rateLimit?: number
  moreKeys?: number
  /** External stores; the test closes them. */
  stores?: readonly Store[]
  /** Where a new credential goes whose request and workspace name no store. */
  byDefault?: string
  /** Of the slowest of them: the copy grace is ten times as long. */
  longestCallSeconds?: number
}

/** Builds a service, with the workspaces `acme` and `globex`, and closes it after the test. */
export async function startService(
  t: Test,
  tuning: Partial<Tuning> = {},
  {
    rateLimit = 0,
    moreKeys = 0,
    stores = [],
    byDefault = LOCAL,
    longestCallSeconds = stores.length > 0 ? 0.1 : 0,
  }: ServiceOptions = {},
): Promise<Service> {
  const ground = await freshGround(t)
  while (ground.keys.length <= moreKeys) ground.keys.push(FernetKey.generate().text)
  let logged = ''
  const log = createLogger('trace', { write: (line: string) => (logged += line) })
  const config = { mode: 'development' as const, deadlineSeconds: 10, rateLimit, trustedProxies: [] }
  const opened = { ...ONLY_LOCAL, external: stores, byDefault, longestCallSeconds }
  const wired = await wire(config, ground, log, tuning, opened)
  let closing: Promise<void> | undefined
  const strongroom = { ...wired, close: () => (closing ??= wired.close()) }
  t.teardown(() => strongroom.close())
  const contract = await Contract.read([strongroom.serviceApp, strongroom.adminApp])
  const answers: Answer[] = []

  const asking =
    (app: FastifyInstance, token: string | undefined): Ask =>
    async (method, url, body, headers = {}) => {
      const payload = body === undefined || Buffer.isBuffer(body) ? body : JSON.stringify(body)
      const injected = await app.inject({
        method: method as NonNullable<InjectOptions['method']>,
        url,
        headers: {
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
          ...(payload !== undefined && { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(payload !== undefined && { payload }),
      })
      const answer = {
        status: injected.statusCode,
        headers: injected.headers as Record<string, string>,
        text: injected.body,
        json: /json/.test(String(injected.headers['content-type'])) ? JSON.parse(injected.body) : undefined,
        operationId: contract.operationOf(app, method, url),
      }
      answers.push(answer)
      const faults = contract.faultsOf(answer)
      if (faults.length > 0) throw new Error(`${method} ${url}: ${faults.join('; ')}: ${answer.text}`)
      return answer
    }

  const administrator = await strongroom.makeAdministrator('admin')
  const adminToken = administrator.token.reveal()
  const admin = asking(strongroom.adminApp, adminToken)
  for (const workspace of ['acme', 'globex']) await admin('PUT', `/v1/admin/workspaces/${workspace}`, {})
  return {
    ground,
    strongroom,
    adminToken,
    contract,
    log: () => logged,
    answers,
    admin,
    as: (token) => asking(strongroom.serviceApp, token),
    adminAs: (token) => asking(strongroom.adminApp, token),
    async identity(name, grants, expiresInSeconds) {
      await expect201(admin('PUT', `/v1/admin/roles/${name}`, { grants }))
      await expect201(admin('PUT', `/v1/admin/identities/${name}`, { roles: [name] }))
      const asked = expiresInSeconds === undefined ? {} : { expires_in_seconds: expiresInSeconds }
      return (await expect201(admin('POST', `/v1/admin/identities/${name}/tokens`, asked))).json.token
    },
  }
}

async function expect201(asked: Promise<Answer>): Promise<Answer> {
  const answer = await asked
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`)
  return answer
}
