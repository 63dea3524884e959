import t from 'tap'
import type { Test } from 'tap'
import { Secret } from '../../src/core/secret.ts'
import { freshGround } from '../ground.ts'
import type { VaultTuning } from '../vault.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, eventsIn, lockWaits, openVault, someName } from '../vault.ts'

const ground = await freshGround(t)
const connector = 'source-postgres'
const value = new Secret('{"password":"one"}')

async function open(t: Test, tuned: Partial<VaultTuning> = {}) {
  const vault = await openVault(t, ground, { workspace: someName(), ...tuned })
  const worker = await vault.identityWith()
  const create = async (name: string, more: { purgeAt?: Date } = {}) => {
    const input = { connector, content: { value }, ...more }
    return (await vault.credentials.create(vault.call(), worker.caller, vault.workspace, name, input))
      .credential
  }
  const remove = (name: string, purge = false) =>
    vault.credentials.delete(vault.call(), worker.caller, vault.workspace, name, purge)
  const names = async () => {
    const rows = await ground.sql(
      'select c.name from credentials c join workspaces w on w.id = c.workspace_id where w.name = $1 order by c.name',
      [vault.workspace],
    )
    return rows.map((row) => row.name)
  }
  return { vault, worker, create, remove, names }
}

/** Has a lease end so long ago. An id tells when its lease was issued, so an old lease has an old id. @returns the id */
async function aged(leaseId: string, age: string): Promise<string> {
  const [row] = await ground.sql(
    `update leases set expires_at = now() - $2::interval,
       id = (lpad(to_hex((extract(epoch from now() - interval '30 days') * 1000)::bigint), 12, '0')
         || '7' || right(replace(id::text, '-', ''), 19))::uuid
     where id = $1 returning id`,
    [leaseId, age],
  )
  return row!.id
}

const copiesOf = (id: string) =>
  ground.sql(
    'select version, state, token is null as erased, key_id from copies where credential_id = $1 order by version',
    [id],
  )

t.test('a credential is purged at its time, and one whose recovery is over; no other', async (t) => {
  const { vault, worker, create, remove, names } = await open(t)
  const inAnHour = new Date(Date.now() + 3600_000)
  await create('tried-out', { purgeAt: inAnHour })
  await create('tried-later', { purgeAt: inAnHour })
  const old = await create('deleted-long-ago')
  await create('deleted-lately')
  const kept = await create('kept')
  const { lease } = await vault.lease(worker, 'tried-out')
  for (const name of ['deleted-long-ago', 'deleted-lately']) await remove(name)
  await ground.sql("update credentials set purge_at = now() where name = 'tried-out'")
  await ground.sql(
    "update credentials set deleted_at = now() - interval '7 days' where name = 'deleted-long-ago'",
  )
  await ground.sql(
    "update credentials set deleted_at = now() - interval '7 days' + interval '1 minute' where name = 'deleted-lately'",
  )
  await ground.sql("update credentials set created_at = now() - interval '1 year' where name = 'kept'")

  t.match(await vault.sweep.run(), { purged: 2, copies: 0 })
  t.strictSame(await names(), ['deleted-lately', 'kept', 'tried-later'])
  t.strictSame(await copiesOf(old.id), [{ version: 1, state: 'dropped', erased: true, key_id: null }])
  t.match(await copiesOf(kept.id), [{ state: 'current', erased: false }])
  t.equal(await vault.leaseState(worker, lease.id), 'revoked')
  t.match(await eventsIn(ground, `action = 'sweep:purge' and workspace = '${vault.workspace}'`), [
    { credential: 'tried-out', outcome: 'allowed', version: 1, identity: null },
    { credential: 'deleted-long-ago', outcome: 'allowed', version: 1, identity: null },
  ])
  const restore = (name: string) =>
    vault.credentials.restore(vault.call(), worker.caller, vault.workspace, name)
  await t.rejects(restore('deleted-long-ago'), { code: 'not_found' })
  t.match(await restore('deleted-lately'), { credential: { state: 'active', version: 1 } })
  t.match(await vault.sweep.run(), { purged: 0 })
})

t.test(
  "the newest versions are kept, and what falls out loses its token with the new one's statement",
  async (t) => {
    const { vault, worker, create } = await open(t, { versionsKept: 3 })
    const { id } = await create('orders')
    for (const n of [2, 3, 4, 5]) await vault.update(worker, 'orders', `{"password":"${n}"}`)
    const copies = await copiesOf(id)
    t.strictSame(
      copies.map((copy) => [copy.version, copy.state, copy.erased]),
      [
        [1, 'dropped', true],
        [2, 'dropped', true],
        [3, 'kept', false],
        [4, 'kept', false],
        [5, 'current', false],
      ],
    )
    const page = { limit: 10 }
    const versions = await vault.values.versions(vault.call(), worker.caller, vault.workspace, 'orders', page)
    t.strictSame(
      versions.items.map((one) => [one.version, one.state]),
      [
        [5, 'current'],
        [4, 'kept'],
        [3, 'kept'],
      ],
    )
    await t.rejects(vault.lease(worker, 'orders', { version: 2 }), { code: 'version_gone' })
    await t.rejects(vault.lease(worker, 'orders', { version: 6 }), { code: 'not_found' })
    t.equal((await vault.lease(worker, 'orders', { version: 3 })).value.reveal(), '{"password":"3"}')
  },
)

t.test('ten versions are kept unless somebody says otherwise', async (t) => {
  const { vault, worker, create } = await open(t)
  await create('orders')
  for (let n = 2; n <= 11; n++) await vault.update(worker, 'orders', `{"password":"${n}"}`)
  await t.rejects(vault.lease(worker, 'orders', { version: 1 }), { code: 'version_gone' })
  t.ok((await vault.lease(worker, 'orders', { version: 2 })).value)
})

t.test('a dropped copy is forgotten after the copy grace, and no other copy is', async (t) => {
  const { vault, worker, create, remove } = await open(t, { versionsKept: 1, copyGraceSeconds: 60 })
  const orders = await create('orders')
  const purged = await create('purged')
  await vault.update(worker, 'orders', '{"password":"two"}')
  await remove('purged', true)
  t.match(await vault.sweep.run(), { copies: 0 })
  await ground.sql(
    'update copies set dropped_at = dropped_at - make_interval(secs => 61) where credential_id = $1',
    [orders.id],
  )
  await ground.sql(
    'update copies set named_at = named_at - make_interval(days => 61) where credential_id = $1',
    [purged.id],
  )
  t.match(await vault.sweep.run(), { copies: 1 })
  t.match(await copiesOf(orders.id), [{ version: 2, state: 'current' }])
  t.match(await copiesOf(purged.id), [{ state: 'dropped' }])
})

t.test('a lease that ended long ago is forgotten, and none that may still be asked for', async (t) => {
  const { vault, worker, create } = await open(t, { leaseRetentionSeconds: 3600 })
  await create('orders')
  const ids: string[] = []
  for (const age of ['59 minutes', '61 minutes', '2 days']) {
    const { lease } = await vault.lease(worker, 'orders', { runId: age })
    ids.push(await aged(lease.id, age))
  }
  const { lease: active } = await vault.lease(worker, 'orders')
  t.match(await vault.sweep.run(), { leases: 2 })
  const left = await ground.sql('select id from leases where workspace = $1 order by id', [vault.workspace])
  t.strictSame(
    left.map((row) => row.id),
    [ids[0], active.id],
  )
})

t.test('the sweep of many leases rests after each transaction as it is told to', async (t) => {
  const busy: number[] = []
  const sweepRestMs = (busyMs: number): number => (busy.push(busyMs), 40)
  const { vault, worker, create } = await open(t, { sweepBatch: 1, sweepRestMs })
  await create('orders')
  for (let issued = 0; issued < 3; issued++) {
    await aged((await vault.lease(worker, 'orders')).lease.id, '2 hours')
  }
  const beganAt = performance.now()
  t.match(await vault.sweep.run(), { leases: 3 })
  t.ok(performance.now() - beganAt > 3 * 40 + Math.max(...busy))
  t.ok(busy.length === 3 && busy.every((ms) => ms > 0))
})

t.test('a revocation is remembered for as long as a lease may hang on it', async (t) => {
  const { vault, worker, create } = await open(t, { leaseRetentionSeconds: 3600 })
  await create('orders')
  const { lease } = await vault.lease(worker, 'orders', { ttlSeconds: 3600 })
  await vault.leases.revokeMany(vault.call(), vault.admin, { workspace: vault.workspace })
  const scopes = async () => (await ground.sql('select from revocations')).length
  const before = await scopes()
  await ground.sql("update revocations set revoked_at = revoked_at - interval '2 hours'")
  await vault.sweep.run()
  t.equal(await scopes(), before)
  t.equal(await vault.leaseState(worker, lease.id), 'revoked')
  await ground.sql("update revocations set revoked_at = revoked_at - interval '61 minutes'")
  t.match(await vault.sweep.run(), { revocations: before })
  t.equal(await scopes(), 0)
})

t.test('several sweeps at once purge and forget everything once', async (t) => {
  const { vault, create, names } = await open(t, { sweepBatch: 3, copyGraceSeconds: 0 })
  const others = [
    await openVault(t, ground, { workspace: vault.workspace, sweepBatch: 2, copyGraceSeconds: 0 }),
    await openVault(t, ground, { workspace: vault.workspace, sweepBatch: 5, copyGraceSeconds: 0 }),
  ]
  for (let n = 0; n < 20; n++) await create(`c-${n}`, { purgeAt: new Date(Date.now() - 1000) })
  await create('kept')
  await ground.sql("delete from copies where state = 'dropped'")
  const reports = await Promise.all([vault, ...others].map((one) => one.sweep.run()))
  t.equal(
    reports.reduce((sum, report) => sum + report.purged, 0),
    20,
  )
  await vault.sweep.run()
  t.strictSame(await names(), ['kept'])
  t.equal((await eventsIn(ground, `action = 'sweep:purge' and workspace = '${vault.workspace}'`)).length, 20)
  t.strictSame(await ground.sql("select from copies where state = 'dropped'"), [])
})

t.test('while the sweep purges many, tokens are revoked all the same', async (t) => {
  const { vault, create, remove, names } = await open(t)
  const { id } = await create('held')
  for (const name of ['one', 'two']) await create(name)
  for (const name of await names()) await remove(name)
  await ground.sql(
    "update credentials set deleted_at = now() - interval '8 days' where name in ('held', 'one', 'two')",
  )
  const other = await vault.identityWith()
  const session = await anotherSession(t, ground)
  await session.query('begin')
  await session.query('select from copies where credential_id = $1 for update', [id])
  const sweeping = vault.sweep.run()
  t.ok(await eventually(async () => (await lockWaits(ground)) > 0))
  const revoking = vault.identities.revokeToken(vault.call(), vault.admin, other.name, other.token.id)
  await t.resolves(revoking)
  await session.query('commit')
  t.equal((await sweeping).purged, 3)
  t.strictSame(await names(), [])
})
