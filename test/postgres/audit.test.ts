import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import type { AuditEvent } from '../../src/core/audit.ts'
import { linkHash, ROOT_STREAM } from '../../src/core/audit-verify.ts'
import { freshGround } from '../ground.ts'
import { eventsIn, openVault, someName } from '../vault.ts'

const ground = await freshGround(t)
const open = (t: Test) => openVault(t, ground, { workspace: someName() })

t.test('every act is an event: allowed, refused or unchanged, with who, what and where', async (t) => {
  const vault = await open(t)
  const { call, admin, credentials, values, workspace } = vault
  const worker = await vault.identityWith()
  const reader = await vault.identityWith([{ actions: ['credential:read'], workspaces: ['*'] }])
  const [w, r] = [worker.caller, reader.caller]
  const refused = (doing: Promise<unknown>) => t.rejects(doing)
  await vault.create(worker, 'orders')
  await refused(vault.create(worker, 'orders'))
  await vault.update(worker, 'orders', '{"password":"one"}')
  await vault.update(worker, 'orders', '{"password":"two"}')
  await refused(vault.update(reader, 'orders', '{}'))
  await refused(vault.update(worker, 'orders', '{}', 1))
  await credentials.read(call(), r, workspace, 'orders')
  await refused(credentials.read(call(), r, workspace, 'nothing'))
  await credentials.list(call(), r, workspace, { labels: [], state: 'active' }, { limit: 1 })
  await credentials.patch(call(), w, workspace, 'orders', { labels: { a: 'b' } })
  await values.promote(call(), w, workspace, 'orders', 1, undefined)
  await values.purge(call(), w, workspace, 'orders', 1)
  const { lease } = await vault.lease(worker, 'orders', { runId: 'run', reason: 'why' })
  await vault.leases.renew(call(), w, lease.id, 60)
  await vault.leases.revoke(call(), w, lease.id)
  await vault.leases.revoke(call(), w, lease.id)
  await credentials.delete(call(), w, workspace, 'orders', false)
  await credentials.restore(call(), w, workspace, 'orders')
  await credentials.delete(call(), w, workspace, 'orders', true)

  const events = await eventsIn(ground, `workspace = '${workspace}' and action not like 'admin:%'`)
  const [W, R] = [worker.name, reader.name]
  t.strictSame(
    events.map((event) => [
      event.identity,
      event.action,
      event.outcome,
      event.code ?? event.mark,
      event.version,
    ]),
    [
      [W, 'credential:write', 'allowed', null, 1],
      [W, 'credential:write', 'refused', 'name_taken', null],
      [W, 'credential:write', 'allowed', 'unchanged', 1],
      [W, 'credential:write', 'allowed', null, 2],
      [R, 'credential:write', 'refused', 'forbidden', null],
      [W, 'credential:write', 'refused', 'version_mismatch', null],
      [R, 'credential:read', 'allowed', null, 2],
      [R, 'credential:read', 'refused', 'not_found', null],
      [R, 'credential:read', 'allowed', null, null],
      [W, 'credential:write', 'allowed', null, 2],
      [W, 'credential:write', 'allowed', null, 3],
      [W, 'credential:purge', 'allowed', null, 1],
      [W, 'lease:issue', 'allowed', null, 3],
      [W, 'lease:issue', 'allowed', null, 3],
      [W, 'lease:revoke', 'allowed', null, 3],
      [W, 'lease:revoke', 'allowed', 'unchanged', 3],
      [W, 'credential:delete', 'allowed', null, 3],
      [W, 'credential:delete', 'allowed', null, 3],
      [W, 'credential:purge', 'allowed', null, 3],
    ],
  )
  const leasing = events.filter((event) => event.lease)
  t.equal(leasing.length, 4)
  t.ok(leasing.every((event) => event.lease === lease.id && event.runId === 'run' && event.reason === 'why'))
  t.ok(
    events.every((event) => event.address === '192.0.2.1' && event.operation === 'test' && event.requestId),
  )

  await vault.leases.revokeMany(call(), admin, { workspace })
  await refused(vault.roles.read(call(), w, 'admin'))
  await refused(vault.identities.put(call(), admin, 'admin', []))
  const acts = await vault.auditTrail.list(call(), admin, {}, { limit: 3 })
  t.match(acts.items, [
    { identity: 'admin', action: 'admin:identities', outcome: 'refused', code: 'forbidden' },
    { identity: W, action: 'admin:roles', outcome: 'refused', code: 'forbidden' },
    { identity: 'admin', action: 'admin:leases', outcome: 'allowed' },
  ])
})

t.test('whoever comes within reach of leases or administration leaves a marked event', async (t) => {
  const vault = await open(t)
  const harmless = await vault.identityWith([{ actions: ['credential:write'], workspaces: ['*'] }])
  const leasing = await vault.identityWith([{ actions: ['lease:*'], workspaces: ['*'] }])
  const marks = async (name: string) =>
    (await eventsIn(ground, `detail like '%"${name}"%'`)).map((event) => [event.action, event.mark])
  t.strictSame(await marks(harmless.name), [
    ['admin:roles', null],
    ['admin:identities', null],
    ['admin:tokens', null],
  ])
  t.strictSame(await marks(leasing.name), [
    ['admin:roles', 'privilege'],
    ['admin:identities', 'privilege'],
    ['admin:tokens', 'privilege'],
  ])
})

t.test('the hash in TypeScript is the one in the database, whatever the text', async (t) => {
  const vault = await open(t)
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  const texts = [
    `quotes " and ' and \\ and \\" and \\u0041`,
    Array.from({ length: 31 }, (_, index) => String.fromCharCode(index + 1)).join(''),
    '\u007f\u0080\u009f\u2028\u2029\ufeff\ufffd',
    '😀 👩‍👩‍👧 é \u0301 ß 漢',
    '</script> ${x} %s $1 null',
    '',
  ]
  for (const text of texts) await vault.lease(worker, 'orders', { runId: text, reason: text })
  const heads = (await vault.ledger.auditStreams()).filter((head) => head.stream !== ROOT_STREAM)
  const events: AuditEvent[] = []
  for (const { stream } of heads) {
    let before = '0'.repeat(64)
    for (const event of await vault.ledger.auditPage(stream, undefined, 1000)) {
      if (linkHash(before, event) !== event.hash) t.fail(`${event.sequence} of ${stream}`)
      before = event.hash
      events.push(event)
    }
  }
  t.strictSame(
    events.filter((event) => event.lease && event.workspace === vault.workspace).map((event) => event.runId),
    texts,
  )
})

t.test(
  "the service's role adds audit events and reads them, and can neither change them nor the schema",
  async (t) => {
    const client = new pg.Client({ connectionString: ground.databaseUrl.reveal() })
    await client.connect()
    t.teardown(() => client.end())
    const [partition] = await ground.sql(
      "select relname from pg_class where relname ~ '^audit_events_2[0-9]+$'",
    )
    const denied = { code: '42501' }
    for (const table of ['audit_events', 'audit_events_default', partition!.relname]) {
      await t.rejects(client.query(`update ${table} set reason = 'x'`), denied, `update ${table}`)
      await t.rejects(client.query(`delete from ${table}`), denied, `delete from ${table}`)
      await t.rejects(client.query(`truncate ${table}`), denied, `truncate ${table}`)
    }
    for (const statement of [
      'create table x ()',
      'drop table audit_events',
      'alter table audit_events disable trigger all',
      'create function audit_link() returns int language sql as $$ select 1 $$',
      'delete from audit_streams',
      'truncate audit_streams',
      'delete from policy',
      "insert into strongroom_migrations (name, run_on) values ('x', now())",
      'create schema x',
      'set role strongroom_owner',
    ]) {
      await t.rejects(client.query(statement), denied, statement)
    }
    t.ok((await client.query('select from audit_events limit 1')).rowCount)
  },
)
