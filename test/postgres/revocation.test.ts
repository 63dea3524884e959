import t from 'tap'
import type { Test } from 'tap'
import { freshGround } from '../ground.ts'
import type { Someone, Vault } from '../vault.ts'
import { eventually } from '../eventually.ts'
import { ALL, anotherSession, eventsIn, lockWaits, openVault, sleep, someName } from '../vault.ts'

const ground = await freshGround(t)

/** Two processes on one database, and somebody who has a lease from each. */
async function twoProcesses(t: Test) {
  const workspace = someName()
  const here = await openVault(t, ground, { workspace })
  const there = await openVault(t, ground, { workspace })
  const worker = await here.identityWith()
  const bystander = await here.identityWith()
  await here.create(worker, 'orders')
  await here.create(worker, 'invoices')
  const one = await here.lease(worker, 'orders')
  const two = await there.lease(worker, 'orders')
  const others = [await there.lease(bystander, 'orders'), await there.lease(worker, 'invoices')] as const
  const states = async (by = worker, ...more: string[]) => {
    const ids = more.length > 0 ? more : [one.lease.id, two.lease.id]
    return Promise.all(ids.map((id) => there.leaseState(by, id)))
  }
  return { workspace, here, there, worker, bystander, one: one.lease, two: two.lease, others, states }
}

const code = async (doing: Promise<unknown>): Promise<string> =>
  doing.then(
    () => 'granted',
    (error) => error.code,
  )

/** A lease statement that judged before `revoke` and commits after it. @returns the state of its lease */
async function overtaken(t: Test, vault: Vault, worker: Someone, revoke: () => Promise<unknown>) {
  await vault.lease(worker, 'orders')
  const lock = await anotherSession(t, ground)
  await lock.query('begin')
  await lock.query('select from audit_streams where stream = any ($1) for update', [
    vault.leaseHeads().map((head) => head.stream),
  ])
  const overtaken = vault.lease(worker, 'orders', { runId: 'overtaken' })
  overtaken.catch(() => {})
  t.ok(
    await eventually(async () => (await lockWaits(ground)) > 0),
    'the statement has judged and waits for its head',
  )
  await revoke()
  await lock.query('rollback')
  const { lease } = await overtaken
  const rows = await ground.sql("select id from leases where run_id = 'overtaken'")
  t.equal(rows[0]!.id, lease.id, 'it was granted by what was true when it was judged')
  return lease.id
}

t.test('a revoked token leases nowhere any more, and its leases have ended in every process', async (t) => {
  const { here, there, worker, bystander, states, one, two, others } = await twoProcesses(t)
  const { token } = await here.identities.issueToken(here.call(), here.admin, worker.name)
  await here.identities.revokeToken(here.call(), here.admin, worker.name, worker.token.id)
  t.equal(await code(there.lease(worker, 'orders')), 'unauthenticated')
  t.equal(await code(there.leases.read(there.call(), worker.caller, two.id)), 'unauthenticated')
  t.equal(await code(there.leases.renew(there.call(), worker.caller, two.id, 60)), 'unauthenticated')
  t.strictSame(await states(bystander, one.id, two.id), ['revoked', 'revoked'])
  t.equal(await there.leaseState(bystander, others[0].lease.id), 'active')
  t.ok(token)
})

t.test('a lease ended in one process has ended in the other, and no other with it', async (t) => {
  const { here, there, worker, states, one, two } = await twoProcesses(t)
  await here.leases.revoke(here.call(), worker.caller, two.id)
  t.strictSame(await states(), ['active', 'revoked'])
  t.equal(await code(there.leases.renew(there.call(), worker.caller, two.id, 60)), 'lease_ended')
  await there.leases.renew(there.call(), worker.caller, one.id, 60)
  await there.leases.revoke(there.call(), worker.caller, two.id)
})

t.test('a deleted identity is nobody at once, everywhere, and its leases have ended', async (t) => {
  const { here, there, worker, bystander, states, one, two } = await twoProcesses(t)
  await here.identities.delete(here.call(), here.admin, worker.name)
  t.equal(await code(there.lease(worker, 'orders')), 'unauthenticated')
  t.equal(
    await code(there.credentials.read(there.call(), worker.caller, here.workspace, 'orders')),
    'unauthenticated',
  )
  t.strictSame(await states(bystander, one.id, two.id), ['revoked', 'revoked'])
})

t.test('a narrowed role refuses new leases and renewals and ends none', async (t) => {
  const { here, there, worker, states, two } = await twoProcesses(t)
  const narrow = [{ actions: ['credential:*', 'lease:*'], workspaces: ['*'], credentials: ['invoices'] }]
  await here.roles.put(here.call(), here.admin, worker.name, narrow)
  t.equal(await code(there.lease(worker, 'orders')), 'not_found')
  t.equal(await code(there.leases.renew(there.call(), worker.caller, two.id, 60)), 'not_found')
  t.strictSame(await states(), ['active', 'active'])
  t.equal(await code(there.lease(worker, 'invoices')), 'granted')
  const reading = [{ actions: ['credential:read'], workspaces: ['*'] }]
  await here.roles.put(here.call(), here.admin, worker.name, reading)
  t.equal(await code(there.leases.renew(there.call(), worker.caller, two.id, 60)), 'forbidden')
  t.strictSame(await states(), ['active', 'active'])
})

t.test('a deleted credential has no active lease, and brings none back when it is restored', async (t) => {
  const { here, there, worker, states } = await twoProcesses(t)
  await here.credentials.delete(here.call(), worker.caller, here.workspace, 'orders', false)
  t.equal(await code(there.lease(worker, 'orders')), 'not_found')
  t.strictSame(await states(), ['revoked', 'revoked'])
  await here.credentials.restore(here.call(), worker.caller, here.workspace, 'orders')
  t.strictSame(await states(), ['revoked', 'revoked'])
  const after = await there.lease(worker, 'orders')
  t.strictSame(await states(worker, after.lease.id), ['active'])
})

for (const [scope, ended] of [
  [['workspace'], ['revoked', 'revoked', 'revoked', 'revoked']],
  [
    ['workspace', 'credential'],
    ['revoked', 'revoked', 'revoked', 'active'],
  ],
  [['identity'], ['revoked', 'revoked', 'active', 'revoked']],
  [
    ['workspace', 'identity'],
    ['revoked', 'revoked', 'active', 'revoked'],
  ],
  [
    ['workspace', 'credential', 'identity'],
    ['revoked', 'revoked', 'active', 'active'],
  ],
  [
    ['elsewhere', 'identity'],
    ['active', 'active', 'active', 'active'],
  ],
] as const) {
  t.test(`an operator who names ${scope.join(' and ')} ends exactly those leases`, async (t) => {
    const { here, workspace, worker, states, one, two, others } = await twoProcesses(t)
    const elsewhere = someName()
    await here.workspaces.put(here.call(), here.admin, elsewhere, undefined)
    const named = {
      ...(scope.some((name) => name === 'workspace') && { workspace }),
      ...(scope.some((name) => name === 'elsewhere') && { workspace: elsewhere }),
      ...(scope.some((name) => name === 'credential') && { credential: 'orders' }),
      ...(scope.some((name) => name === 'identity') && { identity: worker.name }),
    }
    const revoked = await here.leases.revokeMany(here.call(), here.admin, named)
    t.equal(revoked, ended.filter((state) => state === 'revoked').length)
    const ids = [one.id, two.id, others[0].lease.id, others[1].lease.id]
    t.strictSame(await states(worker, ...ids), ended)
    t.equal(await here.leases.revokeMany(here.call(), here.admin, named), 0, 'and none a second time')
    const after = await here.lease(worker, 'orders')
    t.equal(await here.leaseState(worker, after.lease.id), 'active', 'who leases again may')
  })
}

t.test('a lease that a revocation overtook on its way is never active', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName(), judgementMsMax: 10_000, lanes: 1 })
  const watcher = await vault.identityWith()
  await vault.create(watcher, 'orders')
  const { call, admin } = vault
  const revocations = {
    token: (who: Someone) => vault.identities.revokeToken(call(), admin, who.name, who.token.id),
    identity: (who: Someone) => vault.identities.delete(call(), admin, who.name),
    workspace: () => vault.leases.revokeMany(call(), admin, { workspace: vault.workspace }),
    credential: () => vault.credentials.delete(call(), watcher.caller, vault.workspace, 'orders', false),
  }
  for (const [what, revoke] of Object.entries(revocations)) {
    const worker = await vault.identityWith()
    const id = await overtaken(t, vault, worker, () => revoke(worker))
    t.equal(await vault.leaseState(watcher, id), 'revoked', what)
    await ground.sql("delete from leases where run_id = 'overtaken'")
  }
  await vault.credentials.restore(call(), watcher.caller, vault.workspace, 'orders')
  const spared = await overtaken(t, vault, await vault.identityWith(), async () => {
    await vault.leases.revokeMany(call(), admin, { identity: watcher.name })
  })
  t.equal(await vault.leaseState(watcher, spared), 'active', "somebody else's revocation ends nothing")
})

t.test(
  'grants that were read before the policy changed are worth nothing: the caller is judged anew',
  async (t) => {
    const { here, there, worker } = await twoProcesses(t)
    const stale = worker.caller
    await here.roles.put(here.call(), here.admin, worker.name, [])
    t.equal(await code(there.credentials.read(there.call(), stale, here.workspace, 'orders')), 'not_found')
    await here.roles.put(here.call(), here.admin, worker.name, [{ ...ALL, credentials: ['orders'] }])
    t.equal(await code(there.credentials.read(there.call(), stale, here.workspace, 'orders')), 'granted')
    t.equal(await code(there.credentials.read(there.call(), stale, here.workspace, 'invoices')), 'not_found')
  },
)

t.test('a change that waited for a lock is judged again before it commits', async (t) => {
  const { here, there, worker } = await twoProcesses(t)
  const { workspaceId } = await here.credentials.read(here.call(), worker.caller, here.workspace, 'orders')
  const lock = await anotherSession(t, ground)
  await lock.query('begin')
  await lock.query('select from credentials where workspace_id = $1 for update', [workspaceId])
  const putting = code(there.update(worker, 'orders', '{"password":"two"}'))
  t.ok(await eventually(async () => (await lockWaits(ground)) > 0))
  await sleep(600)
  await here.identities.revokeToken(here.call(), here.admin, worker.name, worker.token.id)
  await lock.query('rollback')
  t.equal(await putting, 'unauthenticated')
  t.strictSame(
    await ground.sql('select from credentials where workspace_id = $1 and version > 1', [workspaceId]),
    [],
  )
})

t.test('a change of the policy that takes long is no change by somebody else', async (t) => {
  const { here, there } = await twoProcesses(t)
  const slow = someName()
  await ground.sql(`create function ${slow.replace('-', '_')}() returns trigger language plpgsql
    as 'begin perform pg_sleep(0.6); return new; end'`)
  await ground.sql(`create trigger slow before insert on roles for each row when (new.name = '${slow}')
    execute function ${slow.replace('-', '_')}()`)
  t.teardown(() => ground.sql('drop trigger slow on roles'))
  const put = here.roles.put(here.call(), here.admin, slow, [])
  await sleep(200)
  const other = there.roles.put(there.call(), there.admin, someName(), [])
  t.equal((await put).created, true)
  await other
  const events = await eventsIn(ground, `action = 'admin:roles' and detail like '%${slow}%'`)
  t.strictSame(
    events.map((event) => event.outcome),
    ['allowed'],
  )
})

t.test('who changes the policy and is revoked while he waits for it has changed nothing', async (t) => {
  const { here } = await twoProcesses(t)
  const other = await here.identityWith([{ actions: ['admin:*'], workspaces: ['*'] }])
  const role = someName()
  const session = await anotherSession(t, ground)
  await session.query('begin')
  await session.query('update policy set version = version + 1')
  await session.query('delete from tokens where id = $1', [other.token.id])
  const putting = code(here.roles.put(here.call(), other.caller, role, []))
  t.ok(await eventually(async () => (await lockWaits(ground)) > 0))
  await sleep(600)
  await session.query('commit')
  t.equal(await putting, 'unauthenticated')
  t.strictSame(await ground.sql('select from roles where name = $1', [role]), [])
})

t.test('a renewal that a revocation overtakes is told that the lease has ended', async (t) => {
  const { here, there, worker, one, states } = await twoProcesses(t)
  const { ledger } = here
  const transaction = ledger.transaction.bind(ledger)
  ledger.transaction = (call, caller, act) =>
    transaction(call, caller, (tx) => {
      const renewLease: typeof tx.renewLease = async (...of) => {
        await there.leases.revoke(there.call(), worker.caller, one.id)
        return tx.renewLease(...of)
      }
      return act({ ...tx, renewLease })
    })
  t.equal(await code(here.leases.renew(here.call(), worker.caller, one.id, 60)), 'lease_ended')
  t.equal((await states())[0], 'revoked')
})
