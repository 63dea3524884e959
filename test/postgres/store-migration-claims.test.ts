import t from 'tap'
import { v7 } from 'uuid'
import { StoreError } from '../../src/core/secret-store.ts'
import { movingHouse } from './moving-house.ts'

const NAMES = Array.from({ length: 12 }, (_, index) => `db-${String(index).padStart(2, '0')}`)

t.test(
  'who has been through the first copies takes those after them, and is not shown the first again',
  async (t) => {
    const house = await movingHouse(t)
    await house.fill('local', ...NAMES)
    const run = await house.start('local', 'team-vault')
    const claim = (after?: string) =>
      house.vault.ledger.transaction(house.vault.call(), undefined, async (tx) => {
        const name = () => ({ id: v7(), ref: `strongroom/acme/${v7()}` })
        const claims = await tx.claimCopies(run, { claimSeconds: 60, limit: 5, name, after })
        await tx.releaseClaims(claims.map(({ pending }) => pending.id))
        return claims.map(({ copy }) => copy.id)
      })
    const first = await claim()
    const second = await claim(first.at(-1))
    t.equal(first.length, 5)
    t.equal(second.length, 5)
    t.ok(second.every((id) => id > first.at(-1)!))
    t.strictSame(await claim(), first, 'they were there to be taken')
    t.equal((await claim(second.at(-1))).length, 2)
  },
)

t.test('copies that had to be left behind are moved in the same run, when all the others have', async (t) => {
  const house = await movingHouse(t, {
    tuning: { relocationBatch: 2, relocationLanes: 1, copyGraceSeconds: 1 },
  })
  await house.fill('local', ...NAMES)
  // The first put is refused for longer than its copy is kept hold of: the copy is given back, and others are taken.
  let first: unknown
  house.team.trouble.onCall = (call, ref) => {
    if (call === 'put' && ref === (first ??= ref)) throw new StoreError('throttled', 'wait')
  }
  t.match(await house.migrate('local', 'team-vault'), { state: 'done', moved: NAMES.length, failed: 0 })
  t.strictSame(
    await house.whereabouts(),
    NAMES.map((name) => `${name}@1 team-vault current`),
  )
})
