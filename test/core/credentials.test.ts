import type { Test } from 'tap'
import t from 'tap'
import { freshGround } from '../ground.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, eventsIn, lockWaits } from '../vault.ts'
import { openWorkspace, secret } from './credential-acts.ts'

const ground = await freshGround(t)
const open = (t: Test) => openWorkspace(t, ground)

t.test('of two writers at once both make a version, and the later one is current', async (t) => {
  const { vault, worker } = await open(t)
  await vault.create(worker, 'orders')
  const written = await Promise.all(
    ['two', 'three', 'four', 'five'].map((text) => vault.update(worker, 'orders', `{"password":"${text}"}`)),
  )
  t.strictSame(written.map((one) => one.credential.version).sort(), [2, 3, 4, 5])
  const latest = written.findIndex((one) => one.credential.version === 5)
  const value = (await vault.lease(worker, 'orders')).value.reveal()
  t.equal(value, `{"password":"${['two', 'three', 'four', 'five'][latest]}"}`)
})

t.test(
  'of two writers at once who name the version that they saw, one is told that it is another',
  async (t) => {
    const { vault, worker, code } = await open(t)
    await vault.create(worker, 'orders')
    const codes = await Promise.all(
      ['two', 'three'].map((text) => code(vault.update(worker, 'orders', `{"password":"${text}"}`, 1))),
    )
    t.strictSame(codes.sort(), ['done', 'version_mismatch'])
    t.equal(await code(vault.update(worker, 'orders', '{"password":"four"}', 2)), 'done')
  },
)

t.test('of two who make the same credential at once by PUT both succeed, and by POST one', async (t) => {
  const { vault, worker, put, code } = await open(t)
  const lock = await anotherSession(t, ground)
  for (const round of [1, 2, 3]) {
    const name = `put-${round}`
    await lock.query('begin')
    await lock.query('lock table versions in share mode')
    const puts = ['one', 'two'].map((text) => put(worker, name, { content: { value: secret(`"${text}"`) } }))
    t.ok(await eventually(async () => (await lockWaits(ground)) === 2))
    await lock.query('rollback')
    const written = await Promise.all(puts)
    t.strictSame(written.map((one) => [one.credential.version, one.created]).sort(), [
      [1, true],
      [2, false],
    ])
  }
  const codes = await Promise.all([1, 2].map(() => code(vault.create(worker, 'post'))))
  t.strictSame(codes.sort(), ['done', 'name_taken'])
})

t.test(
  'an equal value makes no version, whatever the order of its members, and is audited as unchanged',
  async (t) => {
    const { vault, worker, workspace, call, put } = await open(t)
    await vault.create(worker, 'orders', '{"a":1,"b":{"c":[1,2],"d":null}}')
    const same = '{"b":{"d":null,"c":[1,2]},"a":1}'
    t.match(await vault.update(worker, 'orders', same), { changed: false, credential: { version: 1 } })
    t.match(await put(worker, 'orders', { content: { value: secret(same) } }), {
      changed: false,
      created: false,
    })
    const { values } = vault
    const patched = await values.patch(
      call(),
      worker.caller,
      workspace,
      'orders',
      secret('{"e":null}'),
      undefined,
    )
    t.match(patched, { changed: false })
    t.match(await values.promote(call(), worker.caller, workspace, 'orders', 1, undefined), {
      changed: false,
    })
    const events = await eventsIn(ground, `workspace = '${workspace}' and mark = 'unchanged'`)
    t.strictSame(
      events.map((event) => [event.action, event.outcome, event.version]),
      Array(4).fill(['credential:write', 'allowed', 1]),
    )
    t.match(await vault.update(worker, 'orders', '{"b":{"d":null,"c":[2,1]},"a":1}'), { changed: true })
    t.equal(
      (
        await ground.sql(
          'select from copies where token is not null and version <= 2 and credential_id = (select id from credentials where workspace_id = (select id from workspaces where name = $1))',
          [workspace],
        )
      ).length,
      2,
    )
  },
)

t.test('if-match is judged before the value is looked at', async (t) => {
  const { vault, worker, workspace, call, code } = await open(t)
  const { credential } = await vault.create(worker, 'orders')
  await ground.sql("update copies set token = 'broken' where credential_id = $1", [credential.id])
  const patch = (ifMatch: number) =>
    code(vault.values.patch(call(), worker.caller, workspace, 'orders', secret('{}'), ifMatch))
  t.equal(await patch(2), 'version_mismatch')
  t.equal(await patch(1), 'copy_unreadable')
  const huge = `"${'x'.repeat(40_000)}"`
  t.equal(await code(vault.update(worker, 'orders', huge, 2)), 'version_mismatch')
})

t.test('PUT makes it so: what is left out becomes empty, and what cannot change is refused', async (t) => {
  const { put, worker, code } = await open(t)
  const purgeAt = new Date(Date.now() + 3600_000)
  const labels = { team: 'a' }
  const expiresAt = new Date(Date.now() + 7200_000)
  t.equal(await code(put(worker, 'orders', {}, 1)), 'version_mismatch', 'nothing is there to match')
  t.match(await put(worker, 'orders', { labels, expiresAt, purgeAt }), { created: true, changed: true })
  t.match(await put(worker, 'orders', { labels, expiresAt }), { created: false, changed: false })
  const { credential, changed } = await put(worker, 'orders')
  t.ok(changed)
  t.match(credential, { labels: {}, version: 1, purgeAt })
  t.equal(credential.expiresAt, undefined)
  t.equal(await code(put(worker, 'orders', { connector: 'source-mysql' })), 'not_changeable')
  t.equal(await code(put(worker, 'orders', { store: 'elsewhere' })), 'not_changeable')
  t.equal(await code(put(worker, 'orders', { purgeAt: expiresAt })), 'not_changeable')
  t.equal(await code(put(worker, 'new', { store: 'elsewhere' })), 'unknown_name')
  t.equal(await code(put(worker, 'orders', {}, 2)), 'version_mismatch')
})

t.test('nobody brings a credential under a lease grant of his own by its labels', async (t) => {
  const { vault, worker, workspace, call, put, code } = await open(t)
  const writer = await vault.identityWith([
    { actions: ['credential:write'], workspaces: [workspace] },
    { actions: ['lease:issue'], workspaces: [workspace], labels: { team: 'mine' } },
  ])
  await vault.create(worker, 'orders', '"x"', { team: 'theirs' })
  await vault.create(worker, 'mine', '"x"', { team: 'mine' })
  const patch = (name: string, labels: Record<string, string | null>) =>
    code(vault.credentials.patch(call(), writer.caller, workspace, name, { labels }))
  t.equal(await patch('orders', { team: 'mine' }), 'forbidden')
  t.equal(await code(put(writer, 'orders', { labels: { team: 'mine' } })), 'forbidden')
  t.equal(await patch('orders', { team: 'others', more: 'x' }), 'done')
  t.equal(await patch('mine', { more: 'x' }), 'done', 'what was under it stays under it')
  t.equal(await code(vault.lease(writer, 'orders')), 'forbidden')
})

t.test('a change must be allowed as the credential was and as it becomes', async (t) => {
  const { vault, worker, workspace, call, code } = await open(t)
  const narrow = { actions: ['credential:write'], workspaces: [workspace], labels: { team: 'a*' } }
  const writer = await vault.identityWith([narrow])
  await vault.create(worker, 'orders', '"x"', { team: 'a1' })
  const patch = (team: string | null) =>
    code(vault.credentials.patch(call(), writer.caller, workspace, 'orders', { labels: { team } }))
  t.equal(await patch('a2'), 'done')
  t.equal(await patch('b'), 'forbidden')
  t.equal(await patch(null), 'forbidden')
  await vault.credentials.patch(call(), worker.caller, workspace, 'orders', { labels: { team: 'b' } })
  t.equal(await patch('a2'), 'not_found')
})

t.test('a taken name is told to who could have taken it, and to nobody else', async (t) => {
  const { vault, worker, workspace, put, code } = await open(t)
  await vault.create(worker, 'orders', '"x"', { team: 'theirs' })
  const could = await vault.identityWith([
    { actions: ['credential:write'], workspaces: [workspace], labels: { team: 'mine' } },
  ])
  t.equal(await code(put(could, 'orders', { labels: { team: 'mine' } })), 'name_taken')
  t.equal(await code(put(could, 'orders', { labels: { team: 'other' } })), 'not_found')
  t.equal(
    await code(put(could, 'nothing', { labels: { team: 'other' } })),
    'not_found',
    'as if it were missing',
  )
  t.equal(await code(vault.create(could, 'orders', '"x"', { team: 'mine' })), 'name_taken')
  t.equal(await code(vault.create(could, 'orders', '"x"', { team: 'other' })), 'not_found')
  const elsewhere = await vault.identityWith([{ actions: ['credential:*'], workspaces: ['elsewhere'] }])
  t.equal(await code(put(elsewhere, 'orders')), 'not_found')
  t.equal((await vault.lease(worker, 'orders')).value.reveal(), '"x"')
})

t.test('a purge covers everything that has or had the name, and nothing comes back', async (t) => {
  const { vault, worker, workspace, remove, restore, code } = await open(t)
  const ids: string[] = []
  for (const text of ['first', 'second', 'third']) {
    const { credential } = await vault.create(worker, 'orders', `"${text}"`)
    await vault.update(worker, 'orders', `"${text} again"`)
    ids.push(credential.id)
    if (text !== 'third') await remove(worker, 'orders')
  }
  await vault.create(worker, 'orders-2')
  const { lease } = await vault.lease(worker, 'orders')
  await remove(worker, 'orders', true)
  const copies = await ground.sql('select state, token, key_id from copies where credential_id = any ($1)', [
    ids,
  ])
  t.strictSame(copies, Array(6).fill({ state: 'dropped', token: null, key_id: null }))
  t.strictSame(await ground.sql('select from credentials where id = any ($1)', [ids]), [])
  t.strictSame(await ground.sql('select from versions where credential_id = any ($1)', [ids]), [])
  t.equal(await vault.leaseState(worker, lease.id), 'revoked')
  t.equal(await code(restore(worker, 'orders')), 'not_found')
  t.equal(await code(remove(worker, 'orders', true)), 'not_found')
  t.equal((await vault.lease(worker, 'orders-2')).lease.state, 'active')
  const again = await vault.create(worker, 'orders')
  t.match(again.credential, { version: 1, workspace })
  t.notOk(ids.includes(again.credential.id), 'a later one of that name is another')
})

t.test('a purge of the name also reaches what was deleted alone, and needs both actions', async (t) => {
  const { vault, worker, workspace, remove, restore, code } = await open(t)
  await vault.create(worker, 'orders')
  await remove(worker, 'orders')
  const half = await vault.identityWith([{ actions: ['credential:delete'], workspaces: [workspace] }])
  const other = await vault.identityWith([{ actions: ['credential:purge'], workspaces: [workspace] }])
  t.equal(await code(remove(half, 'orders', true)), 'forbidden')
  t.equal(await code(remove(other, 'orders', true)), 'forbidden')
  t.match(await restore(half, 'orders'), { credential: { state: 'active' } })
  await remove(half, 'orders')
  await remove(worker, 'orders', true)
  t.equal(await code(restore(worker, 'orders')), 'not_found')
})

t.test('the one last deleted comes back, unless its name is in use', async (t) => {
  const { vault, worker, remove, restore, code } = await open(t)
  for (const text of ['first', 'second']) {
    await vault.create(worker, 'orders', `"${text}"`)
    await remove(worker, 'orders')
  }
  await vault.create(worker, 'orders', '"third"')
  t.equal(await code(restore(worker, 'orders')), 'name_taken')
  await remove(worker, 'orders')
  await restore(worker, 'orders')
  t.equal((await vault.lease(worker, 'orders')).value.reveal(), '"third"')
  t.equal(await code(restore(worker, 'orders')), 'name_taken')
})

t.test('an expired credential is leased no more, and a lease never outlives one', async (t) => {
  const { vault, worker, workspace, call, put, code } = await open(t)
  await put(worker, 'orders', { expiresAt: new Date(Date.now() + 30_000) })
  const { lease } = await vault.lease(worker, 'orders', { ttlSeconds: 600 })
  t.ok(lease.ttlSeconds <= 30 && lease.ttlSeconds >= 20)
  await put(worker, 'orders', { expiresAt: new Date(Date.now() - 1000) })
  t.equal(await code(vault.lease(worker, 'orders')), 'credential_expired')
  t.equal(await code(vault.leases.renew(call(), worker.caller, lease.id, 600)), 'credential_expired')
  await vault.credentials.patch(call(), worker.caller, workspace, 'orders', { expiresAt: null })
  t.equal(await code(vault.lease(worker, 'orders')), 'done')
})
