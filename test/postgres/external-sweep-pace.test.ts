import t from 'tap'
import { age, externalVault, leftPending } from '../swept-vault.ts'
import { eventually } from '../eventually.ts'

t.test('a sweep that has no time, is held or is stopped begins no more deletes', async (t) => {
  const { vault, ground, team, create, remove } = await externalVault(t)
  const names = Array.from({ length: 9 }, (_, n) => `c-${n}`)
  for (const name of names) await create(name)
  for (const name of names) await remove(name, true)
  await age(ground)
  t.match((await vault.sweep.run(0)).external, { deleted: 0, failed: 0 })
  let holding: Promise<void> | undefined
  team.trouble.onCall = () => (holding ??= vault.sweep.hold())
  t.match((await vault.sweep.run()).external, { deleted: 4, failed: 0 }, 'those that were on their way')
  t.strictSame(vault.away, ['held'])
  await vault.sweep.adopt()
  await age(ground)
  team.trouble.onCall = () => vault.sweep.stop()
  t.match((await vault.sweep.run()).external, { deleted: 4, failed: 0 })
})

t.test('a store that is to be written to slowly is asked at its pace', async (t) => {
  const slowly = { limits: { writesPerSecond: 2 } }
  const { vault, ground, worker, team, states } = await externalVault(t, {}, slowly)
  const { id } = (await vault.create(worker, 'local')).credential
  for (const version of [2, 3, 4, 5, 6]) await leftPending(vault, id, version)
  await age(ground)
  const askedAt: number[] = []
  const ask = team.store.delete.bind(team.store)
  team.store.delete = (...of) => {
    askedAt.push(performance.now())
    return ask(...of)
  }
  t.match((await vault.sweep.run()).external, { deleted: 5, failed: 0 })
  const [first, , third, , fifth] = askedAt as [number, number, number, number, number]
  t.ok(third - first >= 900 && fifth - third >= 900, 'no more at once than have their turn')
  t.strictSame(await states(), ['1 current', ...[2, 3, 4, 5, 6].map((version) => `${version} dropped`)])
})

t.test('who stops a sweep waits for no turn', async (t) => {
  const { vault, ground, worker, team } = await externalVault(t, {}, { limits: { writesPerSecond: 0.05 } })
  const { id } = (await vault.create(worker, 'local')).credential
  for (const version of [2, 3]) await leftPending(vault, id, version)
  await age(ground)
  const stopping = vault.sweep.run()
  t.ok(await eventually(async () => team.calls.length === 1))
  vault.sweep.stop()
  const stoppedAt = performance.now()
  await stopping
  t.ok(performance.now() - stoppedAt < 10_000)
  t.equal(team.calls.length, 1)
})
