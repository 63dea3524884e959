import t from 'tap'
import type { Test } from 'tap'
import type { ExternalVault } from '../swept-vault.ts'
import { age, externalVault } from '../swept-vault.ts'
import type { TestGround } from '../ground.ts'
import { copiedGround } from '../ground.ts'
import { copyTables, secondCluster } from '../second-cluster.ts'
import type { Vault } from '../vault.ts'
import { eventsIn, openVault } from '../vault.ts'

/** A ledger with a copy that waits for the sweep, one that is current, and one that is about to be purged. */
async function original(t: Test): Promise<ExternalVault> {
  const external = await externalVault(t, { versionsKept: 1 })
  await external.create('orders')
  await external.vault.update(external.worker, 'orders', '"two"')
  await external.create('doomed', '"doomed"')
  return external
}

/** The same secret manager, seen from a ledger elsewhere. */
const elsewhere = (t: Test, ground: TestGround, { team }: ExternalVault): Promise<Vault> =>
  openVault(t, ground, { stores: [team.store], versionsKept: 1 })

async function sweepLater(ground: TestGround, { sweep }: Vault, times = 1) {
  const reports = []
  for (let n = 0; n < times; n++) {
    await age(ground)
    reports.push((await sweep.run()).external)
  }
  return reports
}

async function deletesNothingUntilAdopted(t: Test, first: ExternalVault, ground: TestGround): Promise<void> {
  const second = await elsewhere(t, ground, first)
  const somebody = await second.identityWith()
  const lease = async (name: string) => (await second.lease(somebody, name)).value.reveal()
  t.equal(await lease('orders'), '"two"', 'the copied ledger leases')
  await second.create(somebody, 'new', '"new"', {}, { store: 'team-vault' })
  for (const name of ['orders', 'doomed'])
    await second.credentials.delete(second.call(), somebody.caller, 'acme', name, true)

  t.strictSame(await sweepLater(ground, second, 2), Array(2).fill({ deleted: 0, failed: 0 }))
  t.strictSame(second.away, ['elsewhere', 'elsewhere'], 'and it is told, once for each sweep')
  t.match(await second.sweep.preview(), { home: 'elsewhere', external: { total: 3 } })
  t.strictSame(first.values(), ['"doomed"', '"new"', '"one"', '"two"'])
  t.equal(await first.leased('orders'), '"two"')
  t.equal(await first.leased('doomed'), '"doomed"')
  t.match(await sweepLater(first.ground, first.vault), [{ deleted: 1 }], 'the original sweeps as ever')
  t.strictSame(first.vault.away, [])
  t.strictSame(first.values(), ['"doomed"', '"new"', '"two"'])

  await second.sweep.adopt()
  t.match(await eventsIn(ground, "action = 'sweep:adopt'"), [{ outcome: 'allowed', identity: null }])
  t.match(await sweepLater(ground, second), [{ deleted: 3, failed: 0 }])
  t.strictSame(first.values(), ['"new"'])
  t.equal(await lease('new'), '"new"')
}

t.test(
  'a ledger whose tables were copied into another cluster deletes nothing external until it is adopted',
  async (t) => {
    const first = await original(t)
    const ground = await secondCluster(t, first.ground.keys)
    await copyTables(t, first.ground, ground)
    await deletesNothingUntilAdopted(t, first, ground)
  },
)

t.test(
  'a database made from another as its template deletes nothing external until it is adopted',
  async (t) => {
    const first = await original(t)
    await deletesNothingUntilAdopted(t, first, await copiedGround(t, first.ground))
  },
)

t.test(
  'a ledger that is held deletes nothing external, and goes on with all else, until it is adopted',
  async (t) => {
    const { vault, worker, ground, remove, values, leased } = await original(t)
    await vault.sweep.hold()
    await remove('doomed', true)
    await vault.create(worker, 'local')
    await remove('local', true)
    await age(ground)
    t.match(await vault.sweep.run(), { copies: 1, external: { deleted: 0, failed: 0 } })
    t.strictSame(vault.away, ['held'])
    t.match(await vault.sweep.preview(), { home: 'held', external: { total: 2 } })
    t.strictSame(values(), ['"doomed"', '"one"', '"two"'])
    t.equal(await leased('orders'), '"two"')
    await vault.sweep.adopt()
    t.match(await sweepLater(ground, vault), [{ deleted: 2 }])
    t.strictSame(values(), ['"two"'])
    t.match(await eventsIn(ground, "action like 'sweep:%'"), [
      { action: 'sweep:hold' },
      { action: 'sweep:adopt' },
    ])
  },
)

t.test('a ledger that was held before it had an external copy is held when it has one', async (t) => {
  const { vault, ground, create, remove, values } = await externalVault(t)
  await vault.sweep.hold()
  await create('orders')
  await remove('orders', true)
  t.match(await sweepLater(ground, vault), [{ deleted: 0 }])
  t.strictSame(values(), ['"one"'])
})

t.test('a ledger that has no external copy is at home wherever it is copied to', async (t) => {
  const first = await externalVault(t)
  const ground = await copiedGround(t, first.ground)
  const second = await elsewhere(t, ground, first)
  const somebody = await second.identityWith()
  await second.create(somebody, 'orders', '"one"', {}, { store: 'team-vault' })
  await second.credentials.delete(second.call(), somebody.caller, 'acme', 'orders', true)
  t.match(await sweepLater(ground, second, 2), [{ deleted: 1 }, { deleted: 1 }])
  t.strictSame(second.away, [])
})
