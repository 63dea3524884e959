import pg from 'pg'
import t from 'tap'
import type { Test } from 'tap'
import type { AuditEvent } from '../../src/core/audit.ts'
import { linkHash, ROOT_STREAM, verifyStreams } from '../../src/core/audit-verify.ts'
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

/** A chain of five leases, and what the verification finds after a superuser has had his way with it. */
async function fiveLeases(t: Test, kept: 'with heads' | 'without heads' = 'without heads') {
  const own = await freshGround(t)
  const vault = await openVault(t, own)
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  for (let n = 0; n < 5; n++) await vault.lease(worker, 'orders', { runId: `run-${n}` })
  const heads = vault.ledger.heads()
  const leased = vault.leaseHeads()[0]!.stream
  const clean = await verifyStreams(vault.ledger, {}, heads)
  t.match(clean, { valid: true, anchored: true })
  t.equal(clean.streams.find((one) => one.stream === leased)!.events, 5)
  const verify = async (statement: string) => {
    await own.sql(statement.replaceAll('$leased', `'${leased}'`))
    const found = await verifyStreams(vault.ledger, {}, kept === 'with heads' ? heads : [])
    const bad = found.streams.filter((one) => !one.valid)
    t.equal(found.valid, bad.length === 0)
    return bad.map((one) => [one.stream === leased ? 'leases' : 'other', one.firstBad])
  }
  return { own, verify }
}

t.test('a changed, a removed, a doubled and a re-ordered event is found, at its place', async (t) => {
  const { own, verify } = await fiveLeases(t)
  await own.sql('create table kept as select * from audit_events')
  const restore = async () => {
    await own.sql('delete from audit_events')
    await own.sql('insert into audit_events select * from kept')
  }
  const third = 'where stream = $leased and sequence = 3'
  t.strictSame(await verify(`update audit_events set run_id = 'run-9' ${third}`), [['leases', 3]])
  await restore()
  t.strictSame(await verify(`update audit_events set recorded_at = recorded_at + interval '1 us' ${third}`), [
    ['leases', 3],
  ])
  await restore()
  t.strictSame(await verify(`update audit_events set code = '' ${third}`), [['leases', 3]])
  await restore()
  t.strictSame(await verify(`delete from audit_events ${third}`), [['leases', 3]])
  await restore()
  t.strictSame(
    await verify(
      'update audit_events set sequence = 5 - sequence where stream = $leased and sequence in (2, 3)',
    ),
    [['leases', 2]],
  )
  await restore()
  await own.sql('create table again as select * from kept')
  await own.sql('update again set id = gen_random_uuid()')
  t.strictSame(await verify(`insert into audit_events select * from again ${third}`), [['leases', 3]])
  await restore()
  const rehash = `update audit_events e set reason = 'x', hash = audit_link(null, b.hash, audit_canonical(e.id, e.stream,
      e.sequence, e.recorded_at, e.identity, e.action, e.operation, e.outcome, e.code, e.workspace, e.credential,
      e.version, e.lease, e.run_id, 'x', e.address, e.request_id, e.mark, e.detail))
    from audit_events b where e.stream = $leased and b.stream = e.stream and b.sequence = e.sequence - 1 and e.sequence`
  t.strictSame(await verify(`${rehash} = 3`), [['leases', 4]], 'also with a hash of its own that fits')
  await restore()
  t.strictSame(await verify(`${rehash} = 5`), [['leases', 5]], 'the last one by the head')
  await restore()
  t.strictSame(await verify('delete from audit_events where stream = $leased and sequence = 1'), [
    ['leases', 1],
  ])
  await restore()
  t.strictSame(await verify('select'), [], 'and what was put back is whole')
})

const CUT = `with cut as (delete from audit_events where stream = $leased and sequence > 3)
  update audit_streams s set sequence = 3, hash = e.hash from audit_events e
  where s.stream = $leased and e.stream = s.stream and e.sequence = 3`
const LOSE = `with cut as (delete from audit_events where stream = $leased)
  delete from audit_streams where stream = $leased`

t.test('a cut tail and a lost stream are found by heads that were kept elsewhere', async (t) => {
  const { verify } = await fiveLeases(t, 'with heads')
  t.strictSame(await verify(CUT), [['leases', 4]])
  t.strictSame(await verify(LOSE), [['leases', 1]])
})

t.test(
  'a cut tail and a lost stream are found by what the root stream names, without other heads',
  async (t) => {
    const { own, verify } = await fiveLeases(t)
    await openVault(t, own)
    t.strictSame(await verify(CUT), [['leases', 4]])
    t.strictSame(await verify(LOSE), [['leases', 1]])
  },
)

t.test('a wrong head is not believed, and a verification without heads is not anchored', async (t) => {
  const vault = await open(t)
  const [head] = vault.ledger.heads()
  const wrong = [{ ...head!, hash: 'f'.repeat(64) }]
  t.match(await verifyStreams(vault.ledger, {}, wrong), { valid: false, anchored: false })
  t.match(await verifyStreams(vault.ledger, {}, []), { valid: true, anchored: false })
})

t.test('a verification of a time counts what was recorded in it', async (t) => {
  const vault = await open(t)
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  const { lease } = await vault.lease(worker, 'orders')
  const [stream] = vault.leaseHeads()
  const events = async (range: { from?: Date; to?: Date }) =>
    (await verifyStreams(vault.ledger, range, [])).streams.find((one) => one.stream === stream!.stream)!
      .events
  const [early, late] = [new Date(lease.issuedAt.getTime()), new Date(lease.issuedAt.getTime() + 1)]
  t.equal(await events({ from: early }), 1, 'from the millisecond of the event on')
  t.equal(await events({ from: late }), 0)
  t.equal(await events({ to: late }), 1)
  t.equal(await events({ to: early }), 0)
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

t.test('events in a stream that nobody opened are found', async (t) => {
  const ground = await freshGround(t)
  const vault = await openVault(t, ground)
  await ground.sql(
    `insert into audit_events (id, stream, sequence, recorded_at, action, operation, outcome, hash)
     values (gen_random_uuid(), '01a20000-0000-7000-8000-000000000001', 1, now(), 'lease:issue', 'forged', 'allowed', sha256(''))`,
  )
  const { valid, streams } = await verifyStreams(vault.ledger, {}, [])
  t.equal(valid, false)
  t.match(
    streams.find((one) => !one.valid),
    { stream: '01a20000-0000-7000-8000-000000000001', firstBad: 1 },
  )
})

t.test(
  'events below the first, twins, and openings that are none are found, and end no verification',
  async (t) => {
    const { own, verify } = await fiveLeases(t)
    const forge = (stream: string, sequence: string, detail = 'null') =>
      `insert into audit_events (id, stream, sequence, recorded_at, action, operation, outcome, detail, hash)
     values (('ffffffff' || substr(gen_random_uuid()::text, 9))::uuid, ${stream}, ${sequence}, now(), 'audit:open-stream', 'forged',
       'allowed', ${detail}, sha256(''))`
    const nobodys = `'01a20000-0000-7000-8000-000000000001'`
    const root = `'${ROOT_STREAM}'`
    const [{ next }] = (await own.sql(
      'select max(sequence) + 1 as next from audit_events where stream = $1',
      [ROOT_STREAM],
    )) as [{ next: string }]
    for (const [statement, found] of [
      [forge('$leased', '0'), ['leases', 0]],
      [forge('$leased', '-7'), ['leases', 0]],
      [forge('$leased', '(-9223372036854775808)'), ['leases', 1]],
      [forge('$leased', '9223372036854775807'), ['leases', 6]],
      [forge(nobodys, '-1'), ['other', 0]],
      ...[
        'null',
        `'null'`,
        `'{}'`,
        `'{"heads":[["x",1,""]]}'`,
        `'{"heads":[[{},1,""]]}'`,
        `'{"heads":[null]}'`,
      ].map((detail) => [forge(root, next, detail), ['other', Number(next)]] as const),
    ] as const) {
      t.strictSame(await verify(statement), [found], statement)
      await own.sql(`delete from audit_events where operation = 'forged'`)
    }
  },
)

t.test('a page ends between two events of the same sequence and loses neither', async (t) => {
  const vault = await openVault(t, await freshGround(t))
  const stream = '01a20000-0000-7000-8000-000000000002'
  await vault.ground.sql(
    `insert into audit_events (id, stream, sequence, recorded_at, action, operation, outcome, hash)
     select gen_random_uuid(), $1, n / 3, now(), 'x', 'forged', 'allowed', sha256('') from generate_series(-4, 7) n`,
    [stream],
  )
  for (const limit of [1, 2, 5, 100]) {
    const seen: string[] = []
    let page = await vault.ledger.auditPage(stream, undefined, limit)
    for (; page.length > 0; page = await vault.ledger.auditPage(stream, page.at(-1)!, limit))
      seen.push(...page.map(({ id }) => id))
    t.equal(new Set(seen).size, 12)
    t.equal(seen.length, 12)
  }
})
