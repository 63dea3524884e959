import type { FastifyInstance, InjectOptions } from 'fastify'
import type { Caller, PresentedToken } from '../../src/core/calls.ts'
import type { Credential, Lease } from '../../src/core/records.ts'
import { Secret } from '../../src/core/secret.ts'
import { mintToken } from '../../src/core/token.ts'
import type { HttpDeps } from '../../src/http/http-deps.ts'

/** A token that the stub knows, and a well-formed one that it does not. */
export const good = mintToken()
export const bad = mintToken()

export const credential: Credential = {
  id: '0190a1b2-0000-7000-8000-000000000001',
  workspaceId: '0190a1b2-0000-7000-8000-000000000002',
  workspace: 'acme',
  name: 'orders-db',
  connector: 'source-postgres',
  kind: 'stored',
  store: 'local',
  version: 3,
  state: 'active',
  labels: { team: 'orders' },
  createdAt: new Date('2030-01-01T00:00:00Z'),
  createdBy: 'ada',
  updatedAt: new Date('2030-01-02T00:00:00Z'),
}

export const lease: Lease = {
  id: '0190a1b2-0000-7000-8000-000000000003',
  workspace: 'acme',
  credential: 'orders-db',
  credentialId: credential.id,
  connector: 'source-postgres',
  version: 3,
  identity: 'worker',
  runId: 'run "1"',
  state: 'active',
  superseded: false,
  issuedAt: new Date('2030-01-01T00:00:00Z'),
  expiresAt: new Date('2030-01-01T00:15:00Z'),
  ttlSeconds: 900,
}

export const caller: Caller = {
  token: { id: good.id, digest: good.digest },
  identityId: '0190a1b2-0000-7000-8000-000000000004',
  identity: 'worker',
  roles: ['orders-worker'],
  grants: [{ actions: ['lease:issue'], workspaces: ['acme'] }],
  expiresAt: new Date('2031-01-01T00:00:00Z'),
  policyVersion: 7,
}

/** The value that the stub leases: its JSON text is to arrive as it is. */
export const VALUE_TEXT = '{"host":"db","b":1,"a":[null,""]}'

/** What is written down of the calls that reach the stub. */
export interface Seen {
  calls: { method: string; args: unknown[] }[]
  failedAuthentications: string[]
  logged: unknown[]
}

/** Dependencies that answer what they are told, by `service.method`; what they are not told is refused loudly. */
export function stubDeps(
  answers: Record<string, (...args: never[]) => unknown> = {},
  options: Partial<HttpDeps> = {},
): { deps: HttpDeps; seen: Seen } {
  const seen: Seen = { calls: [], failedAuthentications: [], logged: [] }
  const services = [
    'credentials',
    'values',
    'leases',
    'leaseGrants',
    'workspaces',
    'roles',
    'identities',
    'keys',
    'auditTrail',
    'metrics',
  ]
  const stubs = services.map((service) => [service, stub(service, answers, seen)])
  const deps = {
    authenticate: async (token: PresentedToken) => (token.digest.equals(good.digest) ? caller : undefined),
    onAuthenticationFailed: (call: { operation: string }) => seen.failedAuthentications.push(call.operation),
    onAnswered: () => {},
    onFormRefused: () => {},
    health: async () => ({ ready: true, checks: { database: 'ok' } }),
    log: {
      error: (...args: unknown[]) => seen.logged.push(args),
      warn: (...args: unknown[]) => seen.logged.push(args),
    },
    deadlineSeconds: 2,
    unreadMsMax: 30_000,
    rateLimit: 0,
    ...Object.fromEntries(stubs),
    ...options,
  } as unknown as HttpDeps
  return { deps, seen }
}

function stub(service: string, answers: Record<string, (...args: never[]) => unknown>, seen: Seen): unknown {
  return new Proxy(
    {},
    {
      get:
        (_target, method: string) =>
        (...args: never[]) => {
          const name = `${service}.${method}`
          seen.calls.push({ method: name, args })
          const answer = answers[name] ?? DEFAULTS[name]
          if (!answer) throw new Error(`The stub knows no answer of ${name}`)
          return answer(...args)
        },
    },
  )
}

const written = async () => ({ credential, changed: true, created: false })
/** What the stub leases. */
export const granted = { lease, value: new Secret(VALUE_TEXT) }
const DEFAULTS: Record<string, (...args: never[]) => unknown> = {
  'credentials.create': async () => ({ credential, changed: true, created: true }),
  'credentials.put': written,
  'credentials.read': async () => credential,
  'credentials.list': async () => ({ items: [credential], next: ['orders-db', credential.id] }),
  'credentials.patch': written,
  'credentials.delete': async () => undefined,
  'credentials.restore': written,
  'values.put': written,
  'values.patch': written,
  'values.promote': written,
  'values.versions': async () => ({ items: [] }),
  'values.purge': async () => undefined,
  'leases.list': async () => ({ items: [lease] }),
  'leases.read': async () => lease,
  'leases.renew': async () => lease,
  'leases.revoke': async () => undefined,
  'leases.revokeMany': async () => 2,
  'leaseGrants.lease': async () => granted,
  'leaseGrants.leaseMany': async (_call: never, _token: never, requests: unknown[]) =>
    requests.map(() => granted),
}

/** Sends a request with the good token, unless it brings headers of its own. */
export async function ask(app: FastifyInstance, request: InjectOptions & { url: string }) {
  const headers = { authorization: `Bearer ${good.text.reveal()}`, ...request.headers }
  const answer = await app.inject({ ...request, headers })
  return { status: answer.statusCode, headers: answer.headers, text: answer.body, json: jsonOf(answer.body) }
}

// A test looks into whatever came.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
function jsonOf(text: string): any {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
