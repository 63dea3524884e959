import t from 'tap'
import { age, externalVault, leftPending, PAST_GRACE } from '../swept-vault.ts'
import { eventually } from '../vault.ts'

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
  const slowly = { limits: { writesPerSecond: 2, timeoutMs: 1000 } }
  const { vault, ground, create, states } = await externalVault(t, {}, slowly)
  const id = await create('orders')
  for (const version of [2, 3, 4, 5, 6]) await leftPending(vault, id, version)
  await age(ground, PAST_GRACE)
  const beganAt = performance.now()
  t.match((await vault.sweep.run()).external, { deleted: 5, failed: 0 })
  t.ok(performance.now() - beganAt >= 1900)
  t.strictSame(await states(), ['1 current', ...[2, 3, 4, 5, 6].map((version) => `${version} dropped`)])

  await age(ground, PAST_GRACE)
  const stopping = vault.sweep.run()
  await eventually(async () => (await states()).length < 6)
  vault.sweep.stop()
  const stoppedAt = performance.now()
  await stopping
  t.ok(performance.now() - stoppedAt < 900, 'who stops it waits for no turn')
})
