import t from 'tap'
import { v7 } from 'uuid'
import type { LeaseAsk } from '../../src/core/ledger.ts'
import { freshGround } from '../ground.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, eventsIn, lockWaits, openVault, sleep, someName } from '../vault.ts'

const ground = await freshGround(t)

const code = (error: { code?: string; message: string }) => error.code ?? error.message
const issued = (workspace: string) => `action = 'lease:issue' and workspace = '${workspace}'`

t.test('leases that are asked for at once share a statement and a chain', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName() })
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  const granted = await Promise.all(Array.from({ length: 40 }, () => vault.lease(worker, 'orders')))
  t.equal(new Set(granted.map((one) => one.lease.id)).size, 40)
  const events = await eventsIn(ground, issued(vault.workspace))
  t.strictSame(events.map((event) => event.lease).sort(), granted.map((one) => one.lease.id).sort())
  t.ok(new Set(events.map((event) => event.recordedAt)).size <= 2)
})

t.test('a request for a hundred is one statement', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName() })
  const worker = await vault.identityWith()
  const wanted = Array.from({ length: 100 }, (_, at) => ({
    workspace: vault.workspace,
    credential: `c-${at}`,
  }))
  await vault.create(worker, 'c-0')
  await vault.leaseGrants.leaseMany(vault.call(), worker.token, wanted)
  const events = await eventsIn(ground, issued(vault.workspace))
  t.equal(events.length, 100)
  t.equal(new Set(events.map((event) => event.recordedAt)).size, 1)
})

t.test('a statement that hangs does not hold back the next for its whole deadline', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName(), deadlineMs: 20_000 })
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  await vault.lease(worker, 'orders')
  const [event] = await eventsIn(ground, issued(vault.workspace))
  const lock = await anotherSession(t, ground)
  await lock.query('begin')
  await lock.query('select from audit_streams where stream = $1 for update', [event!.stream])
  const hanging = vault.lease(worker, 'orders')
  t.ok(await eventually(async () => (await lockWaits(ground)) === 1))
  const beganAt = performance.now()
  t.ok(await vault.lease(worker, 'orders'))
  t.ok(performance.now() - beganAt < 10_000)
  await lock.query('rollback')
  await hanging
})

t.test('in a batch each is judged alone, and every refusal that has a caller is an event', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName(), lanes: 1 })
  const worker = await vault.identityWith()
  const reader = await vault.identityWith([{ actions: ['credential:read'], workspaces: ['*'] }])
  const stranger = await vault.identityWith([])
  const unknown = { ...worker, token: { id: worker.token.id, digest: Buffer.alloc(32) } }
  await vault.create(worker, 'orders')
  const settled = await Promise.allSettled([
    vault.lease(worker, 'orders'),
    vault.lease(worker, 'orders', { version: 2 }),
    vault.lease(reader, 'orders'),
    vault.lease(stranger, 'orders'),
    vault.lease(unknown, 'orders'),
    vault.lease(worker, 'nowhere'),
  ])
  const codes = settled.map((one) => (one.status === 'fulfilled' ? 'granted' : code(one.reason)))
  t.strictSame(codes, ['granted', 'not_found', 'forbidden', 'not_found', 'unauthenticated', 'not_found'])
  const events = await eventsIn(ground, issued(vault.workspace))
  t.strictSame(
    events.map((event) => [event.identity, event.outcome, event.code, event.lease !== null]),
    [
      [worker.name, 'allowed', null, true],
      [worker.name, 'refused', 'not_found', false],
      [reader.name, 'refused', 'forbidden', false],
      [stranger.name, 'refused', 'not_found', false],
      [worker.name, 'refused', 'not_found', false],
    ],
  )
})

t.test('a lease id that is there already fails alone in its batch', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName() })
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  const { lease } = await vault.lease(worker, 'orders')
  const ask = (leaseId: string): LeaseAsk => {
    return {
      leaseId,
      token: worker.token,
      workspace: vault.workspace,
      credential: 'orders',
      call: vault.call(),
    }
  }
  await t.rejects(vault.ledger.grantLeases([ask(v7()), ask(lease.id)], vault.call().deadlineAt), {
    code: '23505',
  })
  t.equal((await eventsIn(ground, issued(vault.workspace))).length, 1, 'nothing of that batch was written')

  const ids = [v7(), lease.id, v7()].values()
  const again = await openVault(t, ground, { workspace: vault.workspace, newId: () => ids.next().value! })
  const settled = await Promise.allSettled([1, 2, 3].map(() => again.lease(worker, 'orders')))
  t.strictSame(
    settled.map((one) => (one.status === 'fulfilled' ? 'granted' : code(one.reason))),
    ['granted', '23505', 'granted'],
  )
})

t.test('text that PostgreSQL refuses fails alone in its batch', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName(), lanes: 1 })
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  const runs = ['run-1', 'run-\0', 'run-3']
  const settled = await Promise.allSettled(runs.map((runId) => vault.lease(worker, 'orders', { runId })))
  t.strictSame(
    settled.map((one) => (one.status === 'fulfilled' ? one.value.lease.runId : code(one.reason))),
    ['run-1', '22021', 'run-3'],
  )
  const events = await eventsIn(ground, issued(vault.workspace))
  t.strictSame(events.map((event) => event.runId).sort(), ['run-1', 'run-3'])
})

t.test(
  'a tampered copy is unreadable to whoever leases it and to nobody else, and its lease fails',
  async (t) => {
    const vault = await openVault(t, ground, { workspace: someName(), lanes: 1 })
    const worker = await vault.identityWith()
    const bad = await vault.create(worker, 'bad')
    await vault.create(worker, 'good')
    await ground.sql(
      `update copies set token = left(token, 31) || case substr(token, 32, 1) when 'x' then 'y' else 'x' end ||
         substr(token, 33) where credential_id = $1`,
      [bad.credential.id],
    )
    const names = ['good', 'bad', 'good']
    const settled = await Promise.allSettled(names.map((name) => vault.lease(worker, name, { runId: 'r' })))
    t.strictSame(
      settled.map((one) => (one.status === 'fulfilled' ? one.value.value.reveal() : code(one.reason))),
      ['{"password":"one"}', 'copy_unreadable', '{"password":"one"}'],
    )
    t.strictSame(
      vault.granted.map((one) => one.credentialId === bad.credential.id),
      [false, false],
    )
    const page = await vault.leases.list(
      vault.call(),
      worker.caller,
      { credential: 'bad', workspace: vault.workspace },
      { limit: 10 },
    )
    const failed = async () => (await vault.leaseState(worker, page.items[0]!.id)) === 'failed'
    t.ok(await eventually(failed))
    const events = await eventsIn(ground, `outcome = 'failed' and workspace = '${vault.workspace}'`)
    t.match(events, [
      {
        action: 'lease:issue',
        code: 'copy_unreadable',
        lease: page.items[0]!.id,
        runId: 'r',
        identity: worker.name,
      },
    ])
    t.equal(events.length, 1)
    t.strictSame(
      (
        await vault.leases.list(
          vault.call(),
          worker.caller,
          { credential: 'good', workspace: vault.workspace },
          { limit: 10 },
        )
      ).items.map((lease) => lease.state),
      ['active', 'active'],
    )
  },
)

t.test('a full line is overloaded and leaves nothing in the ledger', async (t) => {
  const vault = await openVault(t, ground, { workspace: someName(), lanes: 1, lineMax: 3 })
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders')
  const settled = await Promise.allSettled(Array.from({ length: 5 }, () => vault.lease(worker, 'orders')))
  t.strictSame(
    settled.map((one) => (one.status === 'fulfilled' ? 'granted' : code(one.reason))),
    ['granted', 'granted', 'granted', 'overloaded', 'overloaded'],
  )
  await sleep(100)
  t.equal((await ground.sql('select from leases where workspace = $1', [vault.workspace])).length, 3)
})
