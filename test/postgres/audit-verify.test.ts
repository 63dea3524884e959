import type { Test } from 'tap'
import t from 'tap'
import { ROOT_STREAM, verifyStreams } from '../../src/core/audit-verify.ts'
import { STREAM_PAGE } from '../../src/postgres/audit-events-sql.ts'
import { freshGround } from '../ground.ts'
import { openVault, someName } from '../vault.ts'

const ground = await freshGround(t)
const open = (t: Test) => openVault(t, ground, { workspace: someName() })

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

t.test(
  'an event between two pages that has the sequence of the one before it is found, wherever it sorts',
  async (t) => {
    const vault = await openVault(t, await freshGround(t))
    const stream = '01a20000-0000-7000-8000-000000000002'
    const twin = (first: string) =>
      vault.ground.sql(
        `insert into audit_events (id, stream, sequence, recorded_at, action, operation, outcome, hash)
       values (($2 || substr(gen_random_uuid()::text, 9))::uuid, $1, 1000, now(), 'x', 'twin', 'allowed', sha256(''))`,
        [stream, first],
      )
    await vault.ground.sql(
      `with recursive chain as (
       select 0 as n, decode(repeat('00', 32), 'hex') as hash, null::uuid as id, now() as at
       union all
       select n + 1, audit_link(null, hash, audit_canonical(i.id, $1::uuid, n + 1, at, null, 'x', 'long', 'allowed', null, null, null,
         null, null, null, null, null, null, null, null)), i.id, at
       from chain cross join lateral (select gen_random_uuid() as id where chain.n >= 0) i where chain.n < 2500
     )
     insert into audit_events (id, stream, sequence, recorded_at, action, operation, outcome, hash)
     select id, $1::uuid, n, at, 'x', 'long', 'allowed', hash from chain where n > 0`,
      [stream],
    )
    await vault.ground.sql(
      'insert into audit_streams (stream, sequence, hash) select stream, sequence, hash from audit_events where stream = $1 and sequence = 2500',
      [stream],
    )
    const verified = async () => {
      const { streams } = await verifyStreams(vault.ledger, {}, [])
      const { events, valid, firstBad } = streams.find((one) => one.stream === stream)!
      return { events, valid, firstBad }
    }
    t.strictSame(
      await verified(),
      { events: 2500, valid: true, firstBad: undefined },
      'three pages, each event once',
    )
    for (const first of ['00000000', 'ffffffff']) {
      await twin(first)
      t.match(await verified(), { events: 2501, valid: false, firstBad: 1000 })
      await vault.ground.sql("delete from audit_events where operation = 'twin'")
    }
  },
)

t.test('a page of a long stream is read by the index, and nothing is sorted', async (t) => {
  const own = await freshGround(t)
  await own.sql(
    `insert into audit_events (id, stream, sequence, recorded_at, action, operation, outcome, hash)
     select gen_random_uuid(), ('01a20000-0000-7000-8000-00000000000' || n % 4)::uuid, n / 4, now(), 'x', 'long', 'allowed',
       sha256('') from generate_series(1, 20000) n`,
  )
  await own.sql('analyze audit_events')
  for (const from of ['null', '2500']) {
    const page = STREAM_PAGE.replace('$1', "'01a20000-0000-7000-8000-000000000001'")
      .replace('$2', from)
      .replace('$3', '1000')
    const plan = (await own.sql(`explain ${page}`)).map((row) => String(row['QUERY PLAN'])).join('\n')
    t.match(plan, /Index Cond: .*stream = .* AND \(?sequence >= /)
    t.notMatch(plan, /Sort {2}\(cost|Seq Scan/)
  }
})
