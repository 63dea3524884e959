import type { Test } from 'tap'
import t from 'tap'
import { VaultError } from '../../src/core/errors.ts'
import { freshGround } from '../ground.ts'
import { ALL, anotherSession, eventsIn } from '../vault.ts'
import { openWorkspace, secret } from './credential-acts.ts'

const ground = await freshGround(t)
const open = (t: Test) => openWorkspace(t, ground)

t.test('who restores again while another restores is told that the name is taken', async (t) => {
  const { vault, worker, remove, restore, code } = await open(t)
  for (const name of ['one', 'two', 'three']) {
    await vault.create(worker, name)
    await remove(worker, name)
    const codes = await Promise.all([1, 2, 3, 4].map(() => code(restore(worker, name))))
    t.strictSame(codes.sort(), ['done', 'name_taken', 'name_taken', 'name_taken'])
  }
})

t.test('a purge beside a restore reaches the credential before or after it', async (t) => {
  const { vault, worker, remove, restore, code, workspace } = await open(t)
  for (let round = 0; round < 8; round++) {
    await vault.create(worker, 'orders')
    await remove(worker, 'orders')
    const [restored, purged] = await Promise.all([
      code(restore(worker, 'orders')),
      code(remove(worker, 'orders', true)),
    ])
    t.equal(purged, 'done', `restore: ${restored}`)
    t.match(restored, /^(done|not_found)$/)
    const left = await ground.sql(
      'select from credentials c join workspaces w on w.id = workspace_id where w.name = $1',
      [workspace],
    )
    t.equal(left.length, 0)
  }
})

t.test('a stranger never waits for a credential that he may not know, nor makes anybody wait', async (t) => {
  const { vault, worker, remove, restore, put, code, call, workspace } = await open(t)
  const stranger = await vault.identityWith([{ ...ALL, credentials: ['other-*'] }])
  await vault.create(worker, 'hidden')
  await vault.create(worker, 'gone')
  await remove(worker, 'gone')
  const holder = await anotherSession(t, ground)
  await holder.query('begin')
  await holder.query('select from credentials for update')
  const { credentials, values } = vault
  const by = stranger.caller
  const tried = {
    PATCH: () => credentials.patch(call(), by, workspace, 'hidden', { labels: { a: 'b' } }),
    DELETE: () => remove(stranger, 'hidden'),
    purge: () => remove(stranger, 'hidden', true),
    'purge of what is deleted': () => remove(stranger, 'gone', true),
    restore: () => restore(stranger, 'gone'),
    value: () => values.put(call(), by, workspace, 'hidden', secret('1'), undefined),
    promote: () => values.promote(call(), by, workspace, 'hidden', 1, undefined),
    version: () => values.purge(call(), by, workspace, 'hidden', 1),
    PUT: () => put(stranger, 'hidden'),
  }
  for (const [what, doing] of Object.entries(tried)) t.equal(await code(doing()), 'not_found', what)
  await holder.query('rollback')
  t.equal(await code(remove(worker, 'hidden')), 'done')
})

t.test('a call that fails at its deadline is an event, as soon as the ledger answers', async (t) => {
  const { vault, worker, code, workspace } = await open(t)
  await vault.create(worker, 'orders')
  const holder = await anotherSession(t, ground)
  await holder.query('begin')
  await holder.query('select from credentials for update')
  const call = vault.call(300)
  const patch = vault.credentials.patch(call, worker.caller, workspace, 'orders', { labels: { a: 'b' } })
  t.equal(await code(patch), 'unavailable')
  const events = () => eventsIn(ground, `request_id = '${call.requestId}'`)
  t.strictSame(await events(), [])
  await vault.lateEvents.flush()
  await vault.lateEvents.flush()
  t.equal((await events()).length, 1)
  const failed = { action: 'credential:write', outcome: 'failed', code: 'unavailable' }
  t.match(await events(), [{ ...failed, credential: 'orders', identity: worker.name, operation: 'test' }])
  await holder.query('rollback')
})

t.test('so is one whose caller could not be asked for anew after the policy had changed', async (t) => {
  const { vault, worker, code, workspace } = await open(t)
  await vault.create(worker, 'orders')
  await vault.identityWith()
  const { ledger } = vault
  const authenticate = ledger.authenticate.bind(ledger)
  ledger.authenticate = async () => {
    throw new VaultError('unavailable', 'in the test')
  }
  const call = vault.call()
  t.equal(await code(vault.credentials.read(call, worker.caller, workspace, 'orders')), 'unavailable')
  ledger.authenticate = authenticate
  await vault.lateEvents.flush()
  const events = await eventsIn(ground, `request_id = '${call.requestId}'`)
  t.equal(events.length, 1)
  t.match(events, [{ action: 'credential:read', outcome: 'failed', code: 'unavailable' }])
})
