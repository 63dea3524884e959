import type { Test } from 'tap'
import type { ExternalVault } from './swept-vault.ts'
import { age, externalVault } from './swept-vault.ts'
import type { TestGround } from './ground.ts'
import type { Vault } from './vault.ts'
import { eventsIn, openVault } from './vault.ts'

/** A ledger with a copy that waits for the sweep, one that is current, and one that is about to be purged. */
export async function originalLedger(t: Test, ground?: TestGround): Promise<ExternalVault> {
  const external = await externalVault(t, { versionsKept: 1 }, {}, ground)
  await external.create('orders')
  await external.vault.update(external.worker, 'orders', '"two"')
  await external.create('doomed', '"doomed"')
  return external
}

/** The same secret manager, seen from a ledger elsewhere. */
export const elsewhere = (t: Test, ground: TestGround, { team }: ExternalVault): Promise<Vault> =>
  openVault(t, ground, { stores: [team.store], versionsKept: 1 })

/** Sweeps, each time a grace later. */
export async function sweepLater(ground: TestGround, { sweep }: Vault, times = 1) {
  const reports = []
  for (let n = 0; n < times; n++) {
    await age(ground)
    reports.push((await sweep.run()).external)
  }
  return reports
}

/** @param ground Has a copy of the first one's ledger. */
export async function deletesNothingUntilAdopted(
  t: Test,
  first: ExternalVault,
  ground: TestGround,
): Promise<void> {
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
