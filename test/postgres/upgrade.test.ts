import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { Secret } from '../../src/core/secret.ts'
import { StartRefused } from '../../src/core/start-refused.ts'
import { knownMigrations } from '../../src/postgres/start-checks.ts'
import { upgradeDatabase } from '../../src/postgres/upgrade.ts'
import { freshGround } from '../ground.ts'
import { openProxy } from '../proxy.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, eventsIn, lockWaits, openVault, someName } from '../vault.ts'
import { verifyStreams } from '../../src/core/audit-verify.ts'

const DAY_MS = 24 * 3600_000
const ground = await freshGround(t)
const schema = `select string_agg(concat_ws(' ', n.nspname, c.relname, c.relkind, c.relacl::text,
    pg_get_expr(c.relpartbound, c.oid)), e'\\n' order by n.nspname, c.relname) as text
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public'`

/** Where a table's rows of a moment go. */
async function partitionOf(table: string, ms: number): Promise<string> {
  const id = (at: number) =>
    at
      .toString(16)
      .padStart(12, '0')
      .replace(/^(.{8})/, '$1-') + '-7000-8000-000000000000'
  const rows = await ground.sql(
    `select c.relname, pg_get_expr(c.relpartbound, c.oid) as bound from pg_inherits i
     join pg_class c on c.oid = i.inhrelid where i.inhparent = $1::regclass`,
    [table],
  )
  const found = rows.find(({ bound }) => {
    const [, from, to] = /FROM \('(.+)'\) TO \('(.+)'\)/.exec(bound) ?? []
    return from !== undefined && from <= id(ms) && id(ms) < to!
  })
  return found?.relname ?? `${table}_default`
}

t.test(
  'who may not upgrade is told so by the name of his URL, and who is not answered hears that',
  async (t) => {
    const { ownerUrl: owner, databaseUrl: service } = ground
    const changed = (text: (url: string) => string) => new Secret(text(owner.reveal()))
    for (const [url, why] of [
      [service, 'the role may not do this'],
      [changed((url) => url.replace(/:[^:@]*@/, ':wrong@')), 'the database refuses the role or its password'],
      [changed((url) => url.replace(`/${ground.name}`, '/nowhere')), 'there is no database of this name'],
    ] as const) {
      const refused = await upgradeDatabase(url, owner).catch((error) => error)
      t.type(refused, StartRefused)
      t.match(refused.faults, [`STRONGROOM_DATABASE_OWNER_URL: ${why}`])
      t.equal(refused.faults.length, 1)
      t.notMatch(refused.faults[0], /\n|node_modules/)
    }
  },
)

t.test('who finds no database to speak with hears that it is out of reach', async (t) => {
  const { ownerUrl, databaseUrl } = ground
  for (const [word, says] of [
    ['', 'timeout expired'],
    ['N', 'The server does not support SSL connections'],
    ['HTTP/1.1', 'There was an error establishing an SSL connection'],
  ] as const) {
    const sockets: Socket[] = []
    const server = createServer((socket) => {
      sockets.push(socket.on('error', () => {}))
      socket.write(word)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => {
      server.close()
      for (const socket of sockets) socket.destroy()
    })
    const { port } = server.address() as AddressInfo
    const url = `postgres://u:p@127.0.0.1:${port}/x${word && '?sslmode=verify-full'}`
    const patienceMs = word ? 10_000 : 300
    const unreached = { code: 'unavailable', cause: { message: says } }
    await t.rejects(upgradeDatabase(new Secret(url), databaseUrl, patienceMs), unreached)
  }

  const proxy = await openProxy(t, ownerUrl)
  const session = await anotherSession(t, ground)
  await session.query('select pg_advisory_lock(7400740174)')
  const late = upgradeDatabase(proxy.url, databaseUrl)
  t.ok(await eventually(async () => (await lockWaits(ground)) > 0), 'it waits for the other one')
  proxy.cutAll()
  await t.rejects(late, { code: 'unavailable' }, 'cut off')

  const full = await freshGround(t)
  await full.sql(`alter database ${full.name} connection limit 0`)
  await t.rejects(upgradeDatabase(full.ownerUrl, full.databaseUrl), { code: 'unavailable' }, 'full')
  const misconfigured = new Secret(`${ownerUrl.reveal()}&options=-c%20foo_bar=1`)
  const says = { code: '42704', message: 'unrecognized configuration parameter "foo_bar"' }
  await t.rejects(upgradeDatabase(misconfigured, databaseUrl), says, 'what is no want of a database')
})

t.test(
  'a database that no service of this version would take is refused before anything is changed',
  async (t) => {
    const name = someName().replace('-', '_')
    const sql = "create database %s owner strongroom_owner template template0 encoding 'SQL_ASCII' locale 'C'"
    await ground.sql(sql.replace('%s', name))
    const elsewhere = new Secret(ground.ownerUrl.reveal().replace(`/${ground.name}`, `/${name}`))
    const unsuited = await upgradeDatabase(elsewhere, ground.databaseUrl).catch((error) => error)
    t.match(unsuited.faults, [
      "STRONGROOM_DATABASE_OWNER_URL: the database's encoding is SQL_ASCII, not UTF8",
    ])
    const client = new pg.Client({ connectionString: elsewhere.reveal() })
    await client.connect()
    t.teardown(() => client.end())
    const { rows } = await client.query("select from pg_tables where schemaname = 'public'")
    t.strictSame(rows, [])

    await ground.sql("insert into strongroom_migrations (name, run_on) values ('0999_future', now())")
    const newer = await upgradeDatabase(ground.ownerUrl, ground.databaseUrl).catch((error) => error)
    await ground.sql("delete from strongroom_migrations where name = '0999_future'")
    t.match(newer.faults, [/^STRONGROOM_DATABASE_OWNER_URL: the schema is newer .* 0999_future/])
  },
)

t.test('several upgrades of an empty database at once make it one time', async (t) => {
  const name = someName().replace('-', '_')
  await ground.sql(`create database ${name} owner strongroom_owner`)
  const urlOf = (url: Secret) => new Secret(url.reveal().replace(`/${ground.name}`, `/${name}`))
  const [owner, service] = [urlOf(ground.ownerUrl), urlOf(ground.databaseUrl)]
  const applied = await Promise.all([1, 2, 3].map(() => upgradeDatabase(owner, service)))
  t.strictSame(
    applied.filter((names) => names.length > 0),
    [knownMigrations()],
  )
  const vault = await openVault(t, { ...ground, databaseUrl: service })
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  t.ok((await vault.lease(worker, 'orders')).value)
})

t.test('a second upgrade changes nothing', async (t) => {
  // The tests' template lacks most of the year's partitions.
  await upgradeDatabase(ground.ownerUrl, ground.databaseUrl)
  const before = await ground.sql(schema)
  t.strictSame(await upgradeDatabase(ground.ownerUrl, ground.databaseUrl), [])
  t.strictSame(await ground.sql(schema), before)
})

t.test('leases and audit events have partitions from now to a year ahead, and a default one', async (t) => {
  for (const table of ['leases', 'audit_events']) {
    const names = new Set<string>()
    for (let day = 0; day <= 357; day++) names.add(await partitionOf(table, Date.now() + day * DAY_MS))
    t.notOk(names.has(`${table}_default`))
    t.ok(names.size >= 51)
    t.equal(await partitionOf(table, Date.now() + 500 * DAY_MS), `${table}_default`)
  }
  t.equal(
    (await ground.sql("select from pg_class where relname in ('leases_default', 'audit_events_default')"))
      .length,
    2,
  )
})

t.test(
  'a lease is granted where no partition fits, and its rows move to their own when there is one',
  async (t) => {
    const vault = await openVault(t, ground)
    const worker = await vault.identityWith()
    await vault.create(worker, 'orders')
    const early = await vault.lease(worker, 'orders', { runId: 'early' })
    const partitions = [
      await partitionOf('leases', Date.now()),
      await partitionOf('audit_events', Date.now()),
    ]
    for (const partition of partitions) await ground.sql(`drop table ${partition}`)
    await t.rejects(vault.leases.read(vault.call(), worker.caller, early.lease.id), { code: 'not_found' })

    const { lease, value } = await vault.lease(worker, 'orders', { runId: 'homeless' })
    t.equal(value.reveal(), '{"password":"one"}')
    const homes = async () => [
      (await ground.sql('select tableoid::regclass::text as home from leases where id = $1', [lease.id]))[0]!
        .home,
      (
        await ground.sql('select tableoid::regclass::text as home from audit_events where lease = $1', [
          lease.id,
        ])
      )[0]!.home,
    ]
    t.strictSame(await homes(), ['leases_default', 'audit_events_default'])

    const [event] = await eventsIn(ground, "run_id = 'homeless'")
    t.strictSame(await upgradeDatabase(ground.ownerUrl, ground.databaseUrl), [])
    t.strictSame(await homes(), partitions)
    t.strictSame(await eventsIn(ground, "run_id = 'homeless'"), [event])
    t.equal(await vault.leaseState(worker, lease.id), 'active')
    t.strictSame(await ground.sql(`select from ${partitions[1]} where run_id = 'early'`), [])
    await t.rejects(vault.lease({ ...worker, token: { id: 'x', digest: Buffer.alloc(32) } }, 'orders'))
    const denied = await ground.sql(
      `select has_table_privilege('strongroom', '${partitions[1]}', 'update, delete') as may`,
    )
    t.strictSame(
      denied,
      [{ may: false }],
      'a new partition of audit events cannot be changed by the service either',
    )
    t.match(await verifyStreams(vault.ledger, {}, []), { valid: false }, 'and the dropped events are missed')
  },
)

t.test('while leases are granted an upgrade loses and refuses none', async (t) => {
  const vault = await openVault(t, ground)
  const worker = await vault.identityWith()
  await vault.create(worker, 'busy')
  const partitions = [await partitionOf('leases', Date.now()), await partitionOf('audit_events', Date.now())]
  for (const partition of partitions) await ground.sql(`drop table ${partition}`)
  let upgrading = true
  const upgrade = upgradeDatabase(ground.ownerUrl, ground.databaseUrl).finally(() => (upgrading = false))
  const granted: string[] = []
  const client = async (): Promise<void> => {
    while (upgrading) granted.push((await vault.lease(worker, 'busy', { runId: 'busy' })).lease.id)
  }
  await Promise.all([upgrade, client(), client(), client()])
  const rows = await ground.sql("select id from leases where run_id = 'busy'")
  t.strictSame(rows.map((row) => row.id).sort(), granted.sort())
  t.ok(granted.length >= 3, 'each client asked before the upgrade ended')
})
