import t from 'tap'
import { StoreError } from '../../src/core/secret-store.ts'
import { age, externalVault, leftPending, PAST_GRACE, statesIn } from '../swept-vault.ts'
import { barrier, troubledStore } from '../troubled-store.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, openVault } from '../vault.ts'

const deletes = (calls: readonly string[]): string[] => calls.filter((call) => call.startsWith('delete'))

t.test(
  'a pending copy that was left over is deleted twice, a grace apart, and only then forgotten',
  async (t) => {
    const { vault, ground, team, create, states, leased } = await externalVault(t)
    const id = await create('orders')
    const ref = await leftPending(vault, id, 2)
    team.kept.set(ref, '"left over"')
    t.match((await vault.sweep.run()).external, { deleted: 0, failed: 0 })
    t.strictSame(await states(), ['1 current', '2 pending'], 'a writer may still be at it')

    await age(ground, PAST_GRACE)
    t.match((await vault.sweep.run()).external, { deleted: 1, failed: 0 })
    t.notOk(team.kept.has(ref))
    t.strictSame(await states(), ['1 current', '2 dropped'])
    t.match((await vault.sweep.run()).external, { deleted: 0 }, 'the second comes a grace later')
    t.strictSame(await states(), ['1 current', '2 dropped'])

    await age(ground, PAST_GRACE)
    t.match((await vault.sweep.run()).external, { deleted: 1, failed: 0 })
    t.strictSame(await states(), ['1 current'])
    const forGood = `delete ${ref} for good`
    t.strictSame(deletes(team.calls), [forGood, forGood], 'nobody ever had it, so nobody wants it back')
    await age(ground, PAST_GRACE)
    t.match((await vault.sweep.run()).external, { deleted: 0, failed: 0 })
    t.equal(await leased('orders'), '"one"')
  },
)

t.test("a put that lands after the sweep's first delete is gone after the second", async (t) => {
  const { vault, ground, team, create, values } = await externalVault(t)
  const ref = await leftPending(vault, await create('orders'), 2)
  await age(ground)
  await vault.sweep.run()
  team.kept.set(ref, '"landed late"')
  await age(ground)
  await vault.sweep.run()
  t.strictSame(values(), ['"one"'])
})

t.test(
  'a writer that was frozen for longer than the grace loses to the sweep and says unavailable',
  async (t) => {
    const { vault, worker, ground, team, create, leased, states, values } = await externalVault(t)
    await create('orders')
    const other = await anotherSession(t, ground)
    const { wait, open } = barrier()
    const freezes = {
      'while it puts': async (reached: () => void) => {
        team.trouble.onCall = (call) => {
          if (call !== 'put') return
          reached()
          return wait()
        }
        return open
      },
      'before the switch': async (reached: () => void) => {
        let gets = 0
        team.trouble.onCall = async (call) => {
          // The first reads the value that is current.
          if (call !== 'get' || ++gets < 2) return
          await other.query('begin')
          await other.query('select from credentials for update')
          setTimeout(reached, 100)
        }
        return () => other.query('rollback')
      },
    }
    for (const [when, freeze] of Object.entries(freezes)) {
      const { promise, resolve } = Promise.withResolvers<undefined>()
      const thaw = await freeze(() => resolve(undefined))
      const writing = vault.update(worker, 'orders', `"${when}"`)
      await promise
      await age(ground)
      t.match((await vault.sweep.run()).external, { deleted: 1 }, when)
      await thaw()
      team.trouble.onCall = undefined
      await t.rejects(writing, { code: 'unavailable' })
      t.equal(await leased('orders'), '"one"')
      await age(ground)
      await vault.sweep.run()
      t.strictSame(values(), ['"one"'])
      t.strictSame(await states(), ['1 current'])
    }
    t.match(await vault.update(worker, 'orders', '"two"'), { credential: { version: 2 } })
  },
)

t.test('a delete that fails is tried again a grace later, and counts as none until then', async (t) => {
  const { vault, ground, team, create, remove, states } = await externalVault(t)
  await create('orders')
  await remove('orders', true)
  await age(ground)
  team.trouble.onCall = (call) => {
    if (call === 'delete') throw new StoreError('denied', 'AccessDenied')
  }
  t.match((await vault.sweep.run()).external, { deleted: 0, failed: 1 })
  t.strictSame(vault.undeleted, [{ store: 'team-vault', reason: 'denied' }])
  t.match((await vault.sweep.run()).external, { failed: 0 }, 'not at once')
  await age(ground)
  t.match((await vault.sweep.run()).external, { failed: 1 })
  team.trouble.onCall = undefined
  for (const left of [['1 dropped'], []]) {
    await age(ground)
    t.match((await vault.sweep.run()).external, { deleted: 1 })
    t.strictSame(await states(), left)
  }
  t.equal(team.kept.size, 0)
})

t.test('a store that hangs, and one that is not configured here, hold up no other store', async (t) => {
  const [other, gone] = [await troubledStore(t, { name: 'other' }), await troubledStore(t, { name: 'gone' })]
  const { ground, worker, team, create, remove } = await externalVault(t)
  const all = await openVault(t, ground, { stores: [team.store, other.store, gone.store] })
  const names = Array.from({ length: 9 }, (_, n) => `team-${n}`)
  for (const name of names) await create(name)
  for (const store of ['other', 'gone']) await all.create(worker, store, '"one"', {}, { store })
  for (const name of [...names, 'other', 'gone']) await remove(name, true)
  await age(ground)
  const { wait, open } = barrier()
  team.trouble.onCall = async () => {
    await wait()
    throw new StoreError('unavailable', 'as a call that has no answer')
  }
  const vault = await openVault(t, ground, { stores: [team.store, other.store] })
  const sweeping = vault.sweep.run()
  t.ok(await eventually(async () => other.kept.size === 0))
  open()
  t.match((await sweeping).external, { deleted: 1, failed: 5 }, 'and who answers nobody is asked no more')
  t.strictSame(
    vault.undeleted.filter(({ store }) => store === 'gone'),
    [{ store: 'gone', reason: 'not configured here' }],
  )
  team.trouble.onCall = undefined
  t.match(
    (await all.sweep.run()).external,
    { deleted: 1, failed: 0 },
    'who knows it need not wait for a grace',
  )
  t.equal(gone.kept.size, 0)
})

t.test('what is dropped already is destroyed for good once its version is', async (t) => {
  const { vault, ground, worker, team, create } = await externalVault(t)
  const id = await create('orders')
  await vault.update(worker, 'orders', '"two"')
  // As a finalized store migration leaves it: the version's value lies elsewhere, and its source waits for the sweep.
  await ground.sql(
    `insert into copies (id, credential_id, version, store, ref, state, dropped_at)
     select gen_random_uuid(), credential_id, version, store, ref || '0', 'dropped', now()
     from copies where credential_id = $1 and version = 1`,
    [id],
  )
  await vault.values.purge(vault.call(), worker.caller, vault.workspace, 'orders', 1)
  await age(ground)
  await vault.sweep.run()
  t.strictSame(
    deletes(team.calls).map((call) => call.endsWith('for good')),
    [true, true],
  )
})

t.test('two sweeps at once delete each copy once', async (t) => {
  const { vault, ground, team, create, remove, states } = await externalVault(t, { sweepBatch: 3 })
  const second = await openVault(t, ground, { stores: [team.store], sweepBatch: 2 })
  for (let n = 0; n < 12; n++) await create(`c-${n}`)
  await create('kept')
  for (let n = 0; n < 12; n++) await remove(`c-${n}`, true)
  for (const expected of [12, 24]) {
    await age(ground)
    const reports = await Promise.all([vault, second].map(({ sweep }) => sweep.run()))
    t.match(
      reports.map(({ external }) => external.failed),
      [0, 0],
    )
    t.equal(deletes(team.calls).length, expected)
  }
  t.strictSame(await states(), ['1 current'])
  t.equal(team.kept.size, 1)
})

t.test(
  'a sweep that dies between taking and deleting leaves the copy to the next, a grace later',
  async (t) => {
    const { vault, ground, team, create, remove } = await externalVault(t)
    await create('orders')
    await remove('orders', true)
    await age(ground)
    const taken = await vault.ledger.transaction(vault.call(), undefined, (tx) =>
      tx.takeDropped('team-vault', 60, 10),
    )
    t.equal(taken.length, 1)
    t.match((await vault.sweep.run()).external, { deleted: 0 })
    t.equal(team.kept.size, 1)
    for (const left of [['1 dropped'], []]) {
      await age(ground)
      t.match((await vault.sweep.run()).external, { deleted: 1 })
      t.strictSame(await statesIn(ground), left)
    }
    t.equal(team.kept.size, 0)
  },
)

t.test('without external copies a sweep asks no store for anything', async (t) => {
  const { vault, worker, ground, team } = await externalVault(t)
  await vault.create(worker, 'orders')
  await vault.update(worker, 'orders', '"two"')
  await age(ground)
  t.match(await vault.sweep.run(), { external: { deleted: 0, failed: 0 } })
  t.strictSame(await ground.sql('select from ledger_home'), [], 'and the ledger has no home yet')
  t.strictSame(team.calls, [])
  t.strictSame(vault.away, [])
})

t.test('what was deleted is noted copy by copy: a purge may hold any of them', async (t) => {
  const { vault, ground, team, create } = await externalVault(t)
  const id = await create('orders')
  for (const version of [2, 3]) team.kept.set(await leftPending(vault, id, version), '"left over"')
  await age(ground, PAST_GRACE)
  const session = await anotherSession(t, ground)
  let seen = 0
  team.trouble.onCall = async (call, what) => {
    if (call !== 'delete' || ++seen !== 2) return
    await session.query('begin')
    await session.query('select from copies where ref = $1 for update', [what.split(' ')[0]])
  }
  const sweeping = vault.sweep.run()
  const noted = async () => (await ground.sql('select from copies where deleted_at is not null')).length
  t.ok(await eventually(async () => (await noted()) === 1), 'the first is noted while the second is held')
  await session.query('commit')
  t.match((await sweeping).external, { deleted: 2, failed: 0 })
  t.equal(await noted(), 2)
})

t.test(
  'a sweep that dies between two notes leaves the second delete to the next, a grace later',
  async (t) => {
    const { vault, ground, team, create } = await externalVault(t)
    const id = await create('orders')
    for (const version of [2, 3]) team.kept.set(await leftPending(vault, id, version), '"left over"')
    await age(ground, PAST_GRACE)
    const session = await anotherSession(t, ground)
    let seen = 0
    team.trouble.onCall = async (call, what) => {
      if (call !== 'delete' || ++seen !== 2) return
      await session.query('begin')
      await session.query('select from copies where ref = $1 for update', [what.split(' ')[0]])
    }
    const sweeping = vault.sweep.run().catch((error: unknown) => error)
    const noted = async () => (await ground.sql('select from copies where deleted_at is not null')).length
    t.ok(await eventually(async () => (await noted()) === 1))
    await ground.sql(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    t.match(await sweeping, { code: 'unavailable' })
    await session.query('commit')
    t.match((await vault.sweep.run()).external, { deleted: 0 }, 'both are left alone for a grace')
    await age(ground, PAST_GRACE)
    t.match((await vault.sweep.run()).external, { deleted: 2, failed: 0 })
    await age(ground, PAST_GRACE)
    t.match((await vault.sweep.run()).external, { deleted: 1, failed: 0 }, 'its second, that is owed alone')
    t.strictSame(await ground.sql("select from copies where state <> 'current'"), [])
  },
)
