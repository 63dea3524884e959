import t from 'tap'
import { freshGround } from '../ground.ts'
import { eventually } from '../eventually.ts'
import { anotherSession, openVault } from '../vault.ts'

t.test('a bulk revocation whose count takes too long has ended the leases all the same', async (t) => {
  const ground = await freshGround(t)
  const vault = await openVault(t, ground, { deadlineMs: 500 })
  const worker = await vault.identityWith()
  await vault.create(worker, 'orders-db')
  const asked = { workspace: vault.workspace, credential: 'orders-db' }
  const { lease } = await vault.leaseGrants.lease(vault.call(), worker.token, asked)
  const owner = await anotherSession(t, ground)
  await owner.query('begin')
  await owner.query('lock table leases in access exclusive mode')
  await t.rejects(vault.leases.revokeMany(vault.call(), vault.admin, { workspace: vault.workspace }), {
    code: 'unavailable',
  })
  await owner.query('rollback')
  t.ok(await eventually(async () => (await vault.leaseState(worker, lease.id)) === 'revoked'))
})
