import { randomBytes } from 'node:crypto'
import { Secret } from '../core/secret.ts'
import { CommandFailed, ExitCode, readArguments, type Command, type Terminal } from './command.ts'
import { DemoTranscript, type DemoAnswer, type DemoCall } from './demo-transcript.ts'

/** A service on an embedded PostgreSQL of its own, with nothing in it yet. */
export interface DemoGround {
  serviceUrl: string
  adminUrl: string
  adminToken: Secret
  /** Asks as superuser of the embedded server, in the ledger's database. */
  sql(text: string, params?: unknown[]): Promise<Record<string, unknown>[]>
  /** Asks with a connector's configuration, as a pipeline's worker would. */
  workerQuery(config: SourcePostgres, text: string): Promise<Record<string, unknown>[]>
  /** Stops all of it and deletes it. Twice is the same as once. */
  clean(): Promise<void>
}

/** What Airbyte's connector `source-postgres` is configured with. */
export interface SourcePostgres {
  /** Here the directory of the server's socket. */
  host: string
  port: number
  database: string
  schemas: string[]
  username: string
  password: string
  jdbc_url_params: string
  ssl_mode: { mode: string }
  replication_method: { method: string }
  tunnel_method: { tunnel_method: string }
}

const CREDENTIALS = '/v1/workspaces/acme/credentials'
// What a shell says of a command that SIGINT ended.
const INTERRUPTED = 130

/** `strongroom demo` */
export const command: Command<DemoGround> = {
  help: `strongroom demo

Shows the main job from end to end, on an embedded PostgreSQL in a temporary directory: a connector's
credential is kept sealed, leased, used against a real database, refused to the wrong worker, revoked, and
recorded. Prints every call as a curl. Needs no setting and leaves nothing behind.
`,
  async run(args, terminal, ground) {
    readArguments(args, {})
    const began = performance.now()
    const interrupted = Promise.withResolvers<never>()
    interrupted.promise.catch(() => undefined)
    let isInterrupted = false
    // Cleaning up takes less than a second, so an impatient second signal is not heard.
    const deaf = terminal.onSignal(() => {
      isInterrupted = true
      interrupted.reject(new CommandFailed('interrupted', INTERRUPTED))
    })
    try {
      const started = await ground()
      try {
        if (!isInterrupted) await Promise.race([tell(started, terminal), interrupted.promise])
      } finally {
        await started.clean()
      }
      if (isInterrupted) throw new CommandFailed('interrupted', INTERRUPTED)
    } finally {
      deaf()
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    terminal.out(`\nDone in ${seconds} s. The service, its database and their files are gone again.\n`)
    return ExitCode.done
  },
}

async function tell(ground: DemoGround, terminal: Terminal): Promise<void> {
  const transcript = new DemoTranscript(terminal)
  const tokens = new Map([['ADMIN_TOKEN', transcript.hide(ground.adminToken)]])
  const caller =
    (url: string) =>
    async (tokenName: string, method: string, path: string, body?: unknown, more: Partial<DemoCall> = {}) =>
      await transcript.call({ tokenName, token: tokens.get(tokenName)!, method, url, path, body, ...more })
  const scene = {
    ground,
    transcript,
    tokens,
    admin: caller(ground.adminUrl),
    service: caller(ground.serviceUrl),
  }
  const config = await fillOrders(scene)
  await admitCallers(scene)
  await keep(scene, config)
  const lease = await leaseAndUse(scene)
  await refuse(scene)
  await renewAndRevoke(scene, lease)
  await showRow(scene, config)
  await showAudit(scene)
}

type Ask = (
  tokenName: string,
  method: string,
  path: string,
  body?: unknown,
  more?: Partial<DemoCall>,
) => Promise<DemoAnswer>

interface Scene {
  ground: DemoGround
  transcript: DemoTranscript
  tokens: Map<string, Secret>
  admin: Ask
  service: Ask
}

async function fillOrders({ ground, transcript }: Scene): Promise<SourcePostgres> {
  transcript.step('A database with orders, whose password nobody should have lying about')
  const password = transcript.hide(new Secret(randomBytes(18).toString('base64url')))
  // Base64url needs no quoting, and a role is not made with parameters.
  await ground.sql(`create role orders_app login password '${password.reveal()}'`)
  await ground.sql('create database shop owner orders_app')
  const asked = `select split_part(current_setting('unix_socket_directories'), ',', 1) as host,
    current_setting('port')::integer as port`
  const [server] = await ground.sql(asked)
  const config: SourcePostgres = {
    host: String(server!['host']).trim().replaceAll('"', ''),
    port: Number(server!['port']),
    database: 'shop',
    schemas: ['public'],
    username: 'orders_app',
    password: password.reveal(),
    jdbc_url_params: '',
    ssl_mode: { mode: 'disable' },
    replication_method: { method: 'Xmin' },
    tunnel_method: { tunnel_method: 'NO_TUNNEL' },
  }
  await ground.workerQuery(config, 'create table orders (id integer primary key, item text, cents integer)')
  await ground.workerQuery(
    config,
    `insert into orders values (1, 'lamp', 4900), (2, 'desk', 19900), (3, 'chair', 8900)`,
  )
  transcript.say(
    'An embedded PostgreSQL runs; its role orders_app got a random password; the table orders has 3 rows.',
  )
  return config
}

async function admitCallers({ transcript, tokens, admin }: Scene): Promise<void> {
  transcript.step('The operator makes a workspace, and says who may do what in it')
  await expect(201, admin('ADMIN_TOKEN', 'PUT', '/v1/admin/workspaces/acme', {}))
  const worker = (credentials: string[]) => ({
    actions: ['lease:issue'],
    workspaces: ['acme'],
    connectors: ['source-postgres'],
    credentials,
    lease_ttl_seconds_max: 600,
  })
  const callers = [
    { name: 'platform', grant: { actions: ['credential:read', 'credential:write'], workspaces: ['acme'] } },
    { name: 'orders-worker', grant: worker(['orders-*']) },
    { name: 'billing-worker', grant: worker(['billing-*']) },
  ]
  for (const { name, grant } of callers) {
    const quiet = { quiet: true }
    await expect(201, admin('ADMIN_TOKEN', 'PUT', `/v1/admin/roles/${name}`, { grants: [grant] }, quiet))
    await expect(201, admin('ADMIN_TOKEN', 'PUT', `/v1/admin/identities/${name}`, { roles: [name] }, quiet))
    const path = `/v1/admin/identities/${name}/tokens`
    const body = { expires_in_seconds: 3600 }
    const answer = await expect(201, admin('ADMIN_TOKEN', 'POST', path, body, quiet))
    const tokenName = `${name.replace('-', '_').toUpperCase()}_TOKEN`
    tokens.set(tokenName, transcript.hide(new Secret((answer.body as { token: string }).token)))
    transcript.say(`  its token, shown this once, is $${tokenName} from here on`)
  }
}

async function keep({ transcript, service }: Scene, config: SourcePostgres): Promise<void> {
  transcript.step('The platform team keeps the connector’s whole configuration, sealed as one value')
  const body = { connector: 'source-postgres', value: config, labels: { team: 'orders' } }
  const more = { bodyFile: 'orders-db.json' }
  await expect(201, service('PLATFORM_TOKEN', 'PUT', `${CREDENTIALS}/orders-db`, body, more))
}

async function leaseAndUse({ ground, transcript, service }: Scene): Promise<string> {
  transcript.step('A worker leases it and reads the orders with it')
  const body = { ttl_seconds: 300, run_id: 'run-2041', reason: 'nightly sync of orders' }
  const answer = await expect(
    201,
    service('ORDERS_WORKER_TOKEN', 'POST', `${CREDENTIALS}/orders-db/leases`, body),
  )
  const { lease, value } = answer.body as { lease: { id: string }; value: SourcePostgres }
  const query = 'select id, item, cents from orders order by id'
  transcript.command(`psql "host=${value.host} port=${value.port} dbname=${value.database} …" -c '${query}'`)
  const rows = await ground.workerQuery(value, query)
  if (rows.length !== 3) throw new CommandFailed(`the worker read ${rows.length} orders instead of 3`)
  transcript.table([['id', 'item', 'cents'], ...rows.map((row) => Object.values(row).map(String))])
  return lease.id
}

async function refuse({ transcript, service }: Scene): Promise<void> {
  transcript.step('Another worker is refused: to it the credential is exactly as if it were missing')
  const path = `${CREDENTIALS}/orders-db/leases`
  await expect(404, service('BILLING_WORKER_TOKEN', 'POST', path, { reason: 'curiosity' }))
}

async function renewAndRevoke({ transcript, service }: Scene, lease: string): Promise<void> {
  const path = `/v1/leases/${lease}`
  transcript.step('The run takes longer: the lease is renewed; then the run is over: the lease is revoked')
  await expect(200, service('ORDERS_WORKER_TOKEN', 'POST', `${path}/renew`, { ttl_seconds: 600 }))
  await expect(204, service('ORDERS_WORKER_TOKEN', 'DELETE', path))
  await expect(200, service('ORDERS_WORKER_TOKEN', 'GET', path))
  transcript.say('What is revoked is not renewed:')
  await expect(410, service('ORDERS_WORKER_TOKEN', 'POST', `${path}/renew`, {}))
}

async function showRow({ ground, transcript }: Scene, config: SourcePostgres): Promise<void> {
  transcript.step('What whoever reads the tables sees: a Fernet token')
  const query = `select c.name, k.version, k.state, k.key_id, k.token from copies k
    join credentials c on c.id = k.credential_id where c.name = 'orders-db'`
  transcript.command(`psql … -c "${query.replaceAll(/\s+/g, ' ')}"`)
  const [row] = await ground.sql(query)
  const token = String(row?.['token'])
  if (!token.startsWith('gAAAAA') || token.includes(config.password)) {
    throw new CommandFailed('the row is not sealed')
  }
  transcript.json({ ...row, token: `${token.slice(0, 48)}… (${token.length} characters)` })
}

async function showAudit({ transcript, admin }: Scene): Promise<void> {
  transcript.step('All of it is on record, and the record verifies')
  const path = '/v1/admin/audit?workspace=acme&limit=50'
  const { body } = await expect(200, admin('ADMIN_TOKEN', 'GET', path, undefined, { quiet: true }))
  const { items } = body as { items: Record<string, unknown>[] }
  const columns = ['recorded_at', 'identity', 'action', 'outcome', 'code', 'credential', 'version', 'run_id']
  const cells = items.toReversed().map((item) => columns.map((column) => String(item[column] ?? '')))
  transcript.table([columns, ...cells])
  const verified = await expect(200, admin('ADMIN_TOKEN', 'GET', '/v1/admin/audit/verify'))
  if (!(verified.body as { valid: boolean }).valid) throw new CommandFailed('the audit trail does not verify')
}

async function expect(status: number, answering: Promise<DemoAnswer>): Promise<DemoAnswer> {
  const answer = await answering
  if (answer.status !== status)
    throw new CommandFailed(`the service answered ${answer.status} instead of ${status}`)
  return answer
}
