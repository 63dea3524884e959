import t from 'tap'
import { deletesNothingUntilAdopted, elsewhere, originalLedger, sweepLater } from '../copied-ledger.ts'
import { age, externalVault } from '../swept-vault.ts'
import { copiedGround } from '../ground.ts'
import { copyTables, secondCluster } from '../second-cluster.ts'
import { eventsIn } from '../vault.ts'

t.test(
  'a ledger whose tables were copied into another cluster deletes nothing external until it is adopted',
  async (t) => {
    const first = await originalLedger(t)
    const ground = await secondCluster(t, first.ground)
    await copyTables(t, first.ground, ground)
    await deletesNothingUntilAdopted(t, first, ground)
  },
)

t.test(
  'a database made from another as its template deletes nothing external until it is adopted',
  async (t) => {
    const first = await originalLedger(t)
    await deletesNothingUntilAdopted(t, first, await copiedGround(t, first.ground))
  },
)

t.test(
  'a ledger that is held deletes nothing external, and goes on with all else, until it is adopted',
  async (t) => {
    const { vault, worker, ground, remove, values, leased } = await originalLedger(t)
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
