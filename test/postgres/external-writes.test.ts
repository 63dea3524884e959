import t from 'tap'
import type { Test } from 'tap'
import { StoreError } from '../../src/core/secret-store.ts'
import { Secret } from '../../src/core/secret.ts'
import { age, externalVault, statesIn } from '../swept-vault.ts'
import { freshGround } from '../ground.ts'
import { openProxy } from '../proxy.ts'
import { barrier } from '../troubled-store.ts'
import { openVault } from '../vault.ts'

/** A vault whose every statement goes over a wire that can be cut, and another straight on the same database. */
async function overTheWire(t: Test) {
  const ground = await freshGround(t)
  const proxy = await openProxy(t, ground.databaseUrl)
  const external = await externalVault(t, {}, {}, { ...ground, databaseUrl: proxy.url })
  const straight = await openVault(t, ground, { stores: [external.team.store] })
  const twoSweeps = async () => {
    for (let n = 0; n < 2; n++) {
      await age(ground)
      await straight.sweep.run()
    }
  }
  /** Cuts the wire at the commit that follows the read-back: the switch. */
  const cutSwitch = (at: 'before' | 'after') => {
    external.team.trouble.onCall = (call, ref) => {
      if (call === 'get' && external.team.calls.at(-2) === `put ${ref}`) proxy.cutNextCommit(at)
    }
  }
  return { ...external, ground, proxy, straight, twoSweeps, cutSwitch }
}

t.test(
  'an update whose switch was committed, but not answered, deletes nothing and loses nothing',
  async (t) => {
    const { vault, worker, team, create, cutSwitch, twoSweeps, values, leased, states } = await overTheWire(t)
    await create('orders')
    cutSwitch('after')
    await t.rejects(vault.update(worker, 'orders', '"two"'), { code: 'unavailable' })
    team.trouble.onCall = undefined
    t.strictSame(await states(), ['1 kept', '2 current'], 'it was committed')
    await twoSweeps()
    t.strictSame(values(), ['"one"', '"two"'])
    t.equal(await leased('orders'), '"two"')
    t.match(await vault.update(worker, 'orders', '"two"'), { changed: false }, 'the client repeats it')
    t.notOk(team.calls.some((call) => call.startsWith('delete')))
  },
)

t.test(
  'an update whose switch was never committed leaves the value that was, and nothing unknown',
  async (t) => {
    const { vault, worker, team, create, cutSwitch, twoSweeps, values, leased, states } = await overTheWire(t)
    await create('orders')
    cutSwitch('before')
    await t.rejects(vault.update(worker, 'orders', '"two"'), { code: 'unavailable' })
    team.trouble.onCall = undefined
    t.strictSame(await states(), ['1 current', '2 pending'])
    t.strictSame(values(), ['"one"', '"two"'], 'who does not know deletes nothing')
    await twoSweeps()
    t.strictSame(values(), ['"one"'])
    t.equal(await leased('orders'), '"one"')
    t.match(await vault.update(worker, 'orders', '"two"'), { changed: true, credential: { version: 2 } })
  },
)

t.test('of a create whose commit was not answered either all is there or nothing', async (t) => {
  const { team, create, cutSwitch, twoSweeps, values, leased } = await overTheWire(t)
  for (const at of ['after', 'before'] as const) {
    cutSwitch(at)
    await t.rejects(create(at), { code: 'unavailable' })
    team.trouble.onCall = undefined
  }
  await twoSweeps()
  t.strictSame(values(), ['"one"'])
  t.equal(await leased('after'), '"one"')
  await t.rejects(create('after'), { code: 'name_taken' })
  await create('before')
  t.equal(await leased('before'), '"one"')
})

t.test('a naming whose commit was not answered puts nothing', async (t) => {
  const { ground, proxy, team, create, twoSweeps } = await overTheWire(t)
  proxy.cutNextCommit('after')
  await t.rejects(create('orders'), { code: 'unavailable' })
  t.strictSame(team.calls, [])
  t.strictSame(await statesIn(ground), ['1 pending'])
  await twoSweeps()
  t.strictSame(await statesIn(ground), [])
})

t.test(
  'purge destroys for good whatever was kept, and what had fallen out and waits for a delete',
  async (t) => {
    const { vault, worker, ground, team, create, remove } = await externalVault(t, { versionsKept: 2 })
    await create('orders')
    for (const next of ['"two"', '"three"']) await vault.update(worker, 'orders', next)
    const refOf = async (version: number) =>
      (await ground.sql('select ref from copies where version = $1', [version]))[0]!.ref as string
    const refs = [await refOf(1), await refOf(2), await refOf(3)]
    await age(ground)
    await vault.sweep.run()
    const deletes = () => team.calls.filter((call) => call.startsWith('delete'))
    t.strictSame(deletes(), [`delete ${refs[0]}`], 'what falls out can be recovered')
    await remove('orders', true)
    for (let n = 0; n < 2; n++) {
      await age(ground)
      await vault.sweep.run()
    }
    t.strictSame(
      deletes().slice(1).sort(),
      [refs[0], refs[1], refs[1], refs[2], refs[2]].map((ref) => `delete ${ref} for good`).sort(),
    )
    t.strictSame(await statesIn(ground), [])
  },
)

t.test('what is purged while its second delete is on its way is deleted once more, for good', async (t) => {
  const { vault, worker, ground, team, create, remove, states } = await externalVault(t, { versionsKept: 1 })
  await create('orders')
  await vault.update(worker, 'orders', '"two"')
  await age(ground)
  await vault.sweep.run()
  await age(ground)
  const { wait, open } = barrier()
  const reached = Promise.withResolvers<undefined>()
  team.trouble.onCall = (call) => {
    if (call !== 'delete') return
    reached.resolve(undefined)
    return wait()
  }
  const sweeping = vault.sweep.run()
  await reached.promise
  await remove('orders', true)
  open()
  await sweeping
  t.strictSame(await states(), ['1 dropped', '2 dropped'])
  team.calls.length = 0
  for (let n = 0; n < 2; n++) {
    await age(ground)
    await vault.sweep.run()
  }
  t.ok(team.calls.every((call) => call.endsWith(' for good')))
  t.equal(team.calls.length, 3)
  t.strictSame(await states(), [])
})

t.test(
  'a purged version is destroyed for good, and a deleted credential keeps its copies until purge',
  async (t) => {
    const { vault, worker, ground, team, create, remove, values, leased } = await externalVault(t)
    await create('orders')
    await vault.update(worker, 'orders', '"two"')
    await vault.values.purge(vault.call(), worker.caller, vault.workspace, 'orders', 1)
    await remove('orders', false)
    await age(ground)
    await vault.sweep.run()
    t.ok(team.calls.filter((call) => call.startsWith('delete')).every((call) => call.endsWith(' for good')))
    t.strictSame(values(), ['"two"'])
    await vault.credentials.restore(vault.call(), worker.caller, vault.workspace, 'orders')
    t.equal(await leased('orders'), '"two"')
  },
)

t.test('a purge during a write leaves nothing of it', async (t) => {
  const { vault, worker, ground, team, create, remove } = await externalVault(t)
  await create('orders')
  const { wait, open } = barrier()
  const reached = Promise.withResolvers<undefined>()
  team.trouble.onCall = (call) => {
    if (call !== 'put') return
    reached.resolve(undefined)
    return wait()
  }
  const writing = vault.values.put(
    vault.call(),
    worker.caller,
    vault.workspace,
    'orders',
    new Secret('"two"'),
    1,
  )
  await reached.promise
  await remove('orders', true)
  open()
  await t.rejects(writing, { code: 'not_found' })
  for (let n = 0; n < 2; n++) {
    await age(ground)
    await vault.sweep.run()
  }
  t.equal(team.kept.size, 0)
  t.strictSame(await statesIn(ground), [])
})

t.test('while the breaker spares the store no copy is named that nobody would put', async (t) => {
  const tuning = { retriesMax: 0, breakerFailuresMax: 1, breakerRestMs: 600_000 }
  const { vault, worker, team, create, states } = await externalVault(t, {}, { tuning })
  await create('orders')
  team.trouble.onCall = () => {
    throw new StoreError('unavailable', 'as in an outage')
  }
  const code = 'store_unavailable'
  await t.rejects(create('invoices'), { code })
  for (let n = 0; n < 3; n++) await t.rejects(create('invoices'), { code })
  t.strictSame(await states(), ['1 current', '1 pending'], 'only what was tried')
  t.equal(team.store.state().breaker, 'open')
  await t.rejects(vault.update(worker, 'orders', '"two"'), { code })
})
