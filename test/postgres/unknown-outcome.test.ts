import t from 'tap'
import type { Test } from 'tap'
import { v7 } from 'uuid'
import { ROOT_STREAM, verifyStreams } from '../../src/core/audit-verify.ts'
import { freshGround } from '../ground.ts'
import { openProxy } from '../proxy.ts'
import type { VaultTuning } from '../vault.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, eventsIn, lockWaits, openVault, sleep, someName } from '../vault.ts'

const ground = await freshGround(t)

/** A vault whose lease statements go over a wire that can be cut, and one lease that went well. */
async function overTheWire(t: Test, tuned: Partial<VaultTuning> = {}) {
  const proxy = await openProxy(t, ground.databaseUrl)
  const vault = await openVault(t, ground, { leaseUrl: proxy.url, workspace: someName(), ...tuned })
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  const request = { workspace: vault.workspace, credential: 'orders' }
  const first = await vault.leaseGrants.lease(vault.call(), worker.token, request)
  const [stream] = vault.leaseHeads()
  return { proxy, vault, worker, first: first.lease.id, stream: stream!.stream }
}

/**
 * How long it took until the lease was refused, and the code. `late` where that came half a second after its time: both
 * timers are this process's, so the earlier one comes first however busy the machine is.
 */
async function refusal(lease: Promise<unknown>, dueMs = Infinity) {
  const beganAt = performance.now()
  let late = false
  const timer = dueMs < Infinity ? setTimeout(() => (late = true), dueMs + 500) : undefined
  try {
    await lease
  } catch (error) {
    return { code: (error as { code: string }).code, ms: performance.now() - beganAt, late }
  } finally {
    clearTimeout(timer)
  }
  return { code: 'granted', ms: 0, late }
}

t.test(
  'of a lease whose connection was cut between commit and answer nothing leaves, and it fails',
  async (t) => {
    const { proxy, vault, worker, first, stream } = await overTheWire(t)
    proxy.cutNextAnswer()
    t.match(await refusal(vault.lease(worker, 'orders', { runId: 'cut' })), { code: 'unavailable' })
    t.equal(vault.granted.length, 1)

    const committed = await ground.sql("select id from leases where run_id = 'cut'")
    t.equal(committed.length, 1, 'it was committed')
    const id = committed[0]!.id
    t.ok(await eventually(async () => (await vault.leaseState(worker, id)) === 'failed'))
    t.equal(await vault.leaseState(worker, first), 'active')
    t.match(await eventsIn(ground, "run_id = 'cut'"), [
      { outcome: 'allowed', lease: id, code: null },
      {
        outcome: 'failed',
        lease: id,
        code: 'unavailable',
        identity: worker.name,
        credential: 'orders',
        version: 1,
      },
    ])

    const after = await vault.lease(worker, 'orders')
    t.equal(await vault.leaseState(worker, after.lease.id), 'active')
    const streams = () => vault.leaseHeads().map((head) => head.stream)
    t.ok(streams().includes(stream), 'the head of the stream that was cut is told a last time')
    t.equal(streams().length, 1, 'the writer opened another stream')
    t.not(streams()[0], stream)
    const openings = await eventsIn(ground, `stream = '${ROOT_STREAM}'`)
    const heads = openings.flatMap(({ detail }) => JSON.parse(detail!).heads).reverse()
    const [head] = await ground.sql(
      "select stream, sequence::integer, encode(hash, 'hex') as hash from audit_streams where stream = $1",
      [stream],
    )
    t.strictSame(
      heads.find(([name]: [string]) => name === stream),
      [head!.stream, head!.sequence, head!.hash],
      'an opening since names the head that nobody was told of',
    )
    t.equal(head!.sequence, 2)
    t.match(await verifyStreams(vault.ledger, {}, vault.ledger.heads()), { valid: true, anchored: true })
  },
)

t.test(
  'a database that falls silent is unavailable at the deadline, and later answers are worth nothing',
  async (t) => {
    const { proxy, vault, worker } = await overTheWire(t, { deadlineMs: 1000 })
    proxy.freeze()
    const { code, ms, late } = await refusal(vault.lease(worker, 'orders', { runId: 'frozen' }), 1000)
    t.equal(code, 'unavailable')
    t.ok(ms >= 990 && !late, `after ${Math.round(ms)} ms`)
    t.ok(
      await eventually(
        async () => (await eventsIn(ground, "run_id = 'frozen' and outcome = 'failed'")).length === 1,
      ),
    )
    t.equal(vault.granted.length, 1)
  },
)

t.test(
  'a statement that commits after the deadline is unavailable at the deadline, and its lease fails',
  async (t) => {
    const { vault, worker, stream } = await overTheWire(t, { deadlineMs: 1000, statementSlackMs: 30_000 })
    const other = await anotherSession(t, ground)
    await other.query('begin')
    await other.query('select from audit_streams where stream = $1 for update', [stream])
    const { code, ms, late } = await refusal(vault.lease(worker, 'orders', { runId: 'late' }), 1000)
    t.equal(code, 'unavailable')
    t.ok(ms >= 990 && !late, `after ${Math.round(ms)} ms`)
    t.strictSame(await ground.sql("select from leases where run_id = 'late'"), [], 'nothing is committed yet')
    t.equal(await lockWaits(ground), 1)
    await other.query('rollback')
    t.ok(
      await eventually(
        async () => (await ground.sql("select from leases where run_id = 'late'")).length === 1,
      ),
    )
    const [{ id }] = (await ground.sql("select id from leases where run_id = 'late'")) as [{ id: string }]
    t.ok(await eventually(async () => (await vault.leaseState(worker, id)) === 'failed'))
    t.equal(vault.granted.length, 1, 'no value left')
    t.match(await verifyStreams(vault.ledger, {}, vault.ledger.heads()), { valid: true })
  },
)

t.test(
  'a statement that waits for longer than it may is ended by the database, and nothing is written',
  async (t) => {
    const { vault, worker, stream } = await overTheWire(t, { deadlineMs: 1000 })
    const other = await anotherSession(t, ground)
    await other.query('begin')
    await other.query('select from audit_streams where stream = $1 for update', [stream])
    const refused = refusal(vault.lease(worker, 'orders', { runId: 'never' }))
    t.ok(await eventually(async () => (await lockWaits(ground)) === 1))
    t.match(await refused, { code: 'unavailable' })
    t.ok(await eventually(async () => (await lockWaits(ground)) === 0))
    await other.query('rollback')
    await sleep(200)
    t.strictSame(await ground.sql("select from leases where run_id = 'never'"), [])
  },
)

t.test('a request that arrives with its deadline nearly over takes nobody else with it', async (t) => {
  const { vault, worker, stream } = await overTheWire(t, { lanes: 1, deadlineMs: 20_000 })
  const other = await anotherSession(t, ground)
  await other.query('begin')
  await other.query('select from audit_streams where stream = $1 for update', [stream])
  const request = { workspace: vault.workspace, credential: 'orders' }
  const hurried = { ...vault.call(), deadlineAt: performance.now() + 500 }
  const both = [
    refusal(vault.leaseGrants.lease(hurried, worker.token, { ...request, runId: 'hurried' }), 500),
    vault.lease(worker, 'orders', { runId: 'patient' }),
  ] as const
  const { code, ms, late } = await both[0]
  t.equal(code, 'unavailable')
  t.notOk(late, `at its own deadline, after ${Math.round(ms)} ms`)
  await other.query('rollback')
  const patient = await both[1]
  t.equal(await vault.leaseState(worker, patient.lease.id), 'active')
  t.ok(
    await eventually(
      async () => (await eventsIn(ground, "run_id = 'hurried' and outcome = 'failed'")).length === 1,
    ),
  )
  t.equal(vault.granted.length, 2)
})

t.test('a commit that took long is judged again: a token revoked meanwhile gets no value', async (t) => {
  const { vault, worker, stream } = await overTheWire(t, { judgementMsMax: 100 })
  const patient = await vault.identityWith()
  const other = await anotherSession(t, ground)
  await other.query('begin')
  await other.query('select from audit_streams where stream = $1 for update', [stream])
  const revoked = refusal(vault.lease(worker, 'orders', { runId: 'revoked' }))
  t.ok(await eventually(async () => (await lockWaits(ground)) === 1))
  await sleep(150)
  await vault.identities.revokeToken(vault.call(), vault.admin, worker.name, worker.token.id)
  await other.query('rollback')
  t.match(await revoked, { code: 'unauthenticated' })
  t.ok(
    await eventually(
      async () => (await eventsIn(ground, "run_id = 'revoked' and outcome = 'failed'")).length === 1,
    ),
  )

  await other.query('begin')
  await other.query('select from audit_streams where stream = $1 for update', [stream])
  const slow = vault.lease(patient, 'orders')
  t.ok(await eventually(async () => (await lockWaits(ground)) === 1))
  await sleep(150)
  await other.query('rollback')
  t.equal((await slow).value.reveal(), '{"password":"one"}', 'who is still welcome gets it')
})

t.test(
  'a change whose commit was not answered is unavailable, and asking again finds what was done',
  async (t) => {
    const proxy = await openProxy(t, ground.databaseUrl)
    const vault = await openVault(t, { ...ground, databaseUrl: proxy.url }, { workspace: someName() })
    const worker = await vault.identityWith()
    const { credential } = await vault.create(worker, 'orders')
    const put = async () => vault.update(worker, 'orders', '{"password":"two"}')
    // What the server says to the statements before the commit is let through: it is the commit's answer that is lost.
    const other = await anotherSession(t, ground)
    await other.query(
      'create function slow_commit() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(1); return null; end $$',
    )
    await other.query(`create constraint trigger slow_commit after insert on versions deferrable initially deferred
    for each row execute function slow_commit()`)
    t.teardown(() => other.query('drop trigger slow_commit on versions'))
    await other.query('select pg_advisory_lock(1)')
    const putting = refusal(put())
    t.ok(await eventually(async () => (await lockWaits(ground)) === 1))
    proxy.cutNextAnswer()
    await other.query('select pg_advisory_unlock(1)')
    t.match(await putting, { code: 'unavailable' })
    t.ok(
      await eventually(
        async () =>
          (await ground.sql('select from versions where credential_id = $1', [credential.id])).length === 2,
      ),
    )
    const again = await put()
    t.match(again, { changed: false, credential: { version: 2 } })
    t.match(await verifyStreams(vault.ledger, {}, []), { valid: true })
  },
)

t.test(
  'without a database everything is unavailable, and with it again everything is as before',
  async (t) => {
    const { proxy, vault, worker } = await overTheWire(t)
    proxy.cutAll()
    t.match(await refusal(vault.lease(worker, 'orders')), { code: 'unavailable' })
    t.match(await refusal(vault.lease(worker, 'orders')), { code: 'unavailable' })
    proxy.restore()
    t.ok((await vault.lease(worker, 'orders', { runId: v7() })).value)
  },
)

t.test('a lease whose value could not be opened fails also where the ledger is away just then', async (t) => {
  const proxy = await openProxy(t, ground.databaseUrl)
  const there = { ...ground, databaseUrl: proxy.url }
  const vault = await openVault(t, there, { leaseUrl: ground.databaseUrl, workspace: someName() })
  const worker = await vault.identityWith()
  const { credential } = await vault.create(worker, 'broken')
  await ground.sql("update copies set token = 'broken' where credential_id = $1", [credential.id])
  proxy.cutAll()
  t.match(await refusal(vault.lease(worker, 'broken')), { code: 'copy_unreadable' })
  const states = () => ground.sql('select failed_at from leases where credential_id = $1', [credential.id])
  await sleep(150)
  t.strictSame(await states(), [{ failed_at: null }])
  proxy.restore()
  t.ok(await eventually(async () => (await states())[0]!.failed_at !== null))
})
