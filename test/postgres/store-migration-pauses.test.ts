import t, { type Test } from 'tap'
import { StoreError } from '../../src/core/secret-store.ts'
import { eventually } from '../eventually.ts'
import { sleep } from '../vault.ts'
import { movingHouse } from './moving-house.ts'

const NAMES = Array.from({ length: 12 }, (_, index) => `db-${String(index).padStart(2, '0')}`)

/** Works on a move to a dead target, and is in its first pause: of forty seconds, which nobody here waits for. */
async function pausing(t: Test) {
  const house = await movingHouse(t)
  await house.fill('local', ...NAMES)
  house.team.trouble.onCall = () => {
    throw new StoreError('unavailable', 'in the test')
  }
  t.intercept(Math, 'random', { value: () => 800 })
  const run = await house.start('local', 'team-vault')
  const working = house.work()
  t.ok(await eventually(async () => house.team.calls.length > 0))
  await sleep(300)
  return { house, run, working }
}

t.test('a rollback is heard at once, however long a dead target is given', async (t) => {
  const { house, run, working } = await pausing(t)
  const beganAt = performance.now()
  await house.beginRollback(run)
  await working
  t.ok(performance.now() - beganAt < 15_000, `it took ${Math.round(performance.now() - beganAt)} ms`)
  t.match(await house.read(run), { state: 'rolled_back' })
})

t.test('the end of a process does not wait until a dead target was given its time', async (t) => {
  const { house, working } = await pausing(t)
  const beganAt = performance.now()
  house.vault.relocationWorker.stop()
  await working
  t.ok(performance.now() - beganAt < 15_000, `it took ${Math.round(performance.now() - beganAt)} ms`)
})
