import type { Test } from 'tap'
import t from 'tap'
import { holdUp, openExternalVault, OUTSIDE, refused } from '../external-vault.ts'
import { freshGround } from '../ground.ts'
import type { TroubledOptions } from '../troubled-store.ts'
import type { Someone, Vault, VaultTuning } from '../vault.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, eventsIn, lockWaits, sleep, someName } from '../vault.ts'

// Promise 11 where a store is waited for: whoever asked is judged again before the value leaves.

const ground = await freshGround(t)
const begin = (t: Test, options: TroubledOptions = {}, tuned: Partial<VaultTuning> = {}) =>
  openExternalVault(t, ground, options, tuned)

/** What may happen while a slow store is read, and the code that then refuses the value. */
const CHANGES: Record<
  string,
  { code: string; change: (vault: Vault, by: Someone, name: string) => Promise<unknown> }
> = {
  'his token is revoked': {
    code: 'unauthenticated',
    change: ({ identities, call, admin }, by) => identities.revokeToken(call(), admin, by.name, by.token.id),
  },
  'he is deleted': {
    code: 'unauthenticated',
    change: ({ identities, call, admin }, by) => identities.delete(call(), admin, by.name),
  },
  'his role is emptied': {
    code: 'not_found',
    change: ({ roles, call, admin }, by) => roles.put(call(), admin, by.name, []),
  },
  'the credential is deleted': {
    code: 'not_found',
    change: async ({ credentials, call, workspace, ...vault }, _by, name) => {
      const { caller } = await vault.identityWith()
      await credentials.delete(call(), caller, workspace, name, false)
    },
  },
  'the credential is purged': {
    code: 'not_found',
    change: async ({ credentials, call, workspace, ...vault }, _by, name) => {
      const { caller } = await vault.identityWith()
      await credentials.delete(call(), caller, workspace, name, true)
    },
  },
  'the lease is revoked': {
    code: 'lease_ended',
    change: async ({ leases, call, ...vault }, _by, name) => {
      const { caller } = await vault.identityWith()
      const rows = await ground.sql('select id from leases where credential = $1 order by id desc', [name])
      await leases.revoke(call(), caller, rows[0]!['id'])
    },
  },
}

for (const [what, { code, change }] of Object.entries(CHANGES)) {
  t.test(`no value leaves where ${what} while the store answers`, async (t) => {
    const { vault, by, name, trouble } = await begin(t)
    await vault.create(by, name, '"one"', {}, OUTSIDE)
    const held = holdUp(trouble, 'get')
    const leasing = refused(vault.lease(by, name))
    await held.came()
    await change(vault, by, name)
    held.open()
    t.equal(await leasing, code)
    const failed = () =>
      eventsIn(ground, `credential = '${name}' and action = 'lease:issue' and code = '${code}'`)
    t.ok(await eventually(async () => (await failed()).length === 1))
    const [event] = await failed()
    t.equal(event!.outcome, 'failed')
    const rows = await ground.sql('select failed_at from leases where id = $1', [event!.lease])
    t.ok(rows[0]!['failed_at'])
  })

  // A lease that is revoked says nothing of the next one.
  if (code === 'lease_ended') continue
  t.test(`no value leaves where ${what}, though a copy of it is cached`, async (t) => {
    const { vault, by, name, calls } = await begin(t)
    await vault.create(by, name, '"one"', {}, OUTSIDE)
    await vault.lease(by, name)
    await change(vault, by, name)
    const before = calls.length
    t.equal(await refused(vault.lease(by, name)), code)
    t.equal(calls.length, before, 'nobody asked the store')
  })
}

/** Leases two at once, a local one and one whose store is held up until `change` is done; what each got, or all. */
async function leaseTogether(
  t: Test,
  change: (vault: Vault, by: Someone, local: string) => Promise<unknown>,
): Promise<{ got: string[]; failed: string[] }> {
  const { vault, by, name, trouble } = await begin(t, {}, { judgementMsMax: 100 })
  const local = someName()
  await vault.create(by, local, '"local"')
  await vault.create(by, name, '"outside"', {}, OUTSIDE)
  const held = holdUp(trouble, 'get')
  const { workspace } = vault
  const asked = [local, name].map((credential) => ({ workspace, credential }))
  const leasing = vault.leaseGrants.leaseMany(vault.call(), by.token, asked).then(
    (results) => results.map((one) => ('value' in one ? one.value.reveal() : one.code)),
    (error) => [error.code],
  )
  await held.came()
  await sleep(150)
  await change(vault, by, local)
  held.open()
  const got = await leasing
  const failed = async () =>
    (
      await ground.sql('select credential from leases where identity = $1 and failed_at is not null', [
        by.name,
      ])
    )
      .map((row) => row['credential'] as string)
      .map((credential) => (credential === local ? 'local' : 'outside'))
      .sort()
  const refusals = got.length === 1 ? 2 : got.filter((one) => !one.startsWith('"')).length
  t.ok(await eventually(async () => (await failed()).length === refusals), 'what did not leave has failed')
  return { got, failed: await failed() }
}

t.test('of several that are leased at once none leaves later than it was judged', async (t) => {
  t.test('his token is revoked while another’s store answers', async (t) => {
    const { got, failed } = await leaseTogether(t, CHANGES['his token is revoked']!.change)
    t.strictSame(got, ['unauthenticated'], 'the whole request')
    t.strictSame(failed, ['local', 'outside'])
  })
  t.test('his role is emptied meanwhile', async (t) => {
    const { got } = await leaseTogether(t, CHANGES['his role is emptied']!.change)
    t.strictSame(got, ['not_found', 'not_found'])
  })
  t.test('the lease of the one that was ready is revoked meanwhile', async (t) => {
    const { got, failed } = await leaseTogether(t, CHANGES['the lease is revoked']!.change)
    t.strictSame(got, ['lease_ended', '"outside"'])
    t.strictSame(failed, ['local'])
  })
  t.test('nothing happens meanwhile', async (t) => {
    const { got } = await leaseTogether(t, () => Promise.resolve())
    t.strictSame(got, ['"local"', '"outside"'])
  })
})

t.test('of several that are leased at once none leaves past the deadline', async (t) => {
  const { vault, by, name, trouble } = await begin(t)
  const local = someName()
  await vault.create(by, local, '"local"')
  await vault.create(by, name, '"outside"', {}, OUTSIDE)
  await vault.lease(by, local)
  const held = holdUp(trouble, 'get')
  const asked = [local, name].map((credential) => ({ workspace: vault.workspace, credential }))
  t.equal(await refused(vault.leaseGrants.leaseMany(vault.call(1500), by.token, asked)), 'unavailable')
  held.open()
  t.equal(vault.granted.length, 1)
  const failed = () =>
    ground.sql('select from leases where credential = $1 and failed_at is not null', [local])
  t.ok(await eventually(async () => (await failed()).length === 1))
})

t.test('a judgement that took too long itself is made once more', async (t) => {
  const { vault, by, name } = await begin(t, {}, { judgementMsMax: 100 })
  await vault.create(by, name, '"one"', {}, OUTSIDE)
  const { ledger } = vault
  let judgements = 0
  const judgeAgain = ledger.judgeAgain.bind(ledger)
  ledger.judgeAgain = async (...of) => {
    const codes = await judgeAgain(...of)
    if (++judgements > 1) return codes
    await CHANGES['his token is revoked']!.change(vault, by, name)
    await sleep(150)
    return codes
  }
  t.equal(await refused(vault.lease(by, name)), 'unauthenticated')
  t.equal(judgements, 2)
})

/** A credential that is a link, in a vault that may read it. */
async function beginLink(t: Test) {
  const workspace = someName()
  const seen = { links: { [workspace]: ['apps/'] } }
  const begun = await begin(t, { seen }, { workspace })
  begun.kept.set('apps/db', 'one')
  const content = { link: { store: 'team-vault', locator: 'apps/db' } }
  await begun.vault.create(begun.by, begun.name, '', {}, { content })
  return begun
}

t.test('a link’s value does not leave where its lease is revoked while the store answers', async (t) => {
  const { vault, by, name, trouble } = await beginLink(t)
  const held = holdUp(trouble, 'read')
  const leasing = refused(vault.lease(by, name))
  await held.came()
  await CHANGES['the lease is revoked']!.change(vault, by, name)
  held.open()
  t.equal(await leasing, 'lease_ended')
})

t.test('a link’s value does not leave where he is revoked while it is noted what was read', async (t) => {
  const { vault, by, name, trouble } = await beginLink(t)
  const held = holdUp(trouble, 'read')
  const leasing = refused(vault.lease(by, name))
  await held.came()
  const other = await anotherSession(t, ground)
  await other.query('begin')
  const locked = await other.query('select id from leases where credential = $1 for update', [name])
  t.equal(locked.rowCount, 1)
  held.open()
  t.ok(await eventually(async () => (await lockWaits(ground)) > 0), 'the note waits')
  await CHANGES['his token is revoked']!.change(vault, by, name)
  await other.query('commit')
  t.equal(await leasing, 'unauthenticated')
})

t.test('of two who wait for one read, only the one who was revoked is refused', async (t) => {
  const { vault, by, name, trouble, calls } = await begin(t)
  const other = await vault.identityWith()
  await vault.create(by, name, '"one"', {}, OUTSIDE)
  const held = holdUp(trouble, 'get')
  const both = [refused(vault.lease(by, name)), vault.lease(other, name)] as const
  await held.came()
  await sleep(50)
  await vault.identities.revokeToken(vault.call(), vault.admin, by.name, by.token.id)
  held.open()
  t.equal(await both[0], 'unauthenticated')
  t.equal((await both[1]).value.reveal(), '"one"')
  t.equal(calls.filter((one) => one.startsWith('get')).length, 2, 'read back, then read once for both')
})

t.test('a store that is slower than the deadline gives no value, and none later', async (t) => {
  // Long enough that on a busy machine too it is the store that is waited for when it comes.
  const { vault, by, name, trouble } = await begin(t, {}, { deadlineMs: 1500 })
  await vault.create(by, name, '"one"', {}, OUTSIDE)
  const held = holdUp(trouble, 'get')
  const beganAt = performance.now()
  t.equal(await refused(vault.lease(by, name)), 'store_unavailable')
  t.ok(performance.now() - beganAt < 10_000)
  held.open()
  t.same(vault.granted, [])
  t.ok(
    await eventually(
      async () =>
        (await eventsIn(ground, `credential = '${name}' and code = 'store_unavailable'`)).length === 1,
    ),
  )
})

t.test('what of one call was fresh is judged again too, where judging the others took long', async (t) => {
  const { vault, by, name } = await begin(t, {}, { judgementMsMax: 2000 })
  const local = someName()
  await vault.create(by, local, '"local"')
  await vault.create(by, name, '"outside"', {}, OUTSIDE)
  const { ledger, workspace } = vault
  const judgeAgain = ledger.judgeAgain.bind(ledger)
  const judged: string[][] = []
  ledger.judgeAgain = async (held, deadlineAt) => {
    const codes = await judgeAgain(held, deadlineAt)
    judged.push(held.map(({ lease }) => lease.credential))
    if (judged.length === 1) {
      const { caller } = await vault.identityWith()
      await vault.credentials.delete(vault.call(), caller, workspace, local, false)
      await sleep(2100)
    }
    return codes
  }
  const requests = [local, name].map((credential) => ({ workspace, credential }))
  const results = await vault.leaseGrants.leaseMany(vault.call(), by.token, requests)
  t.match(results, [{ code: 'not_found' }, { lease: { credential: name } }])
  t.strictSame(judged, [[name], [local, name]])
  t.ok(
    await eventually(async () => {
      const leases = await ground.sql('select failed_at from leases where credential = $1', [local])
      return leases.length === 1 && leases[0]!['failed_at'] !== null
    }),
    'its lease has failed',
  )
})

t.test('where a fault of our own ends a whole call, the leases of its other parts have failed', async (t) => {
  const { vault, by } = await begin(t)
  const [good, bad] = [someName(), someName()]
  for (const name of [good, bad]) await vault.create(by, name, '"local"')
  const { ledger, workspace } = vault
  const grantLeases = ledger.grantLeases.bind(ledger)
  ledger.grantLeases = async (asks, deadlineAt) => {
    if (asks.some(({ credential }) => credential === bad)) throw new Error('a damaged page')
    return grantLeases(asks, deadlineAt)
  }
  const requests = [good, bad].map((credential) => ({ workspace, credential }))
  await t.rejects(vault.leaseGrants.leaseMany(vault.call(), by.token, requests), {
    message: 'a damaged page',
  })
  t.ok(
    await eventually(async () => {
      const leases = await ground.sql('select failed_at from leases where credential = $1', [good])
      return leases.length === 1 && leases[0]!['failed_at'] !== null
    }),
  )
})
