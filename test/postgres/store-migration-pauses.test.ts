import t, { type Test } from 'tap'
import { StoreError } from '../../src/core/secret-store.ts'
import { eventually } from '../vault.ts'
import { movingHouse } from './moving-house.ts'

const NAMES = Array.from({ length: 12 }, (_, index) => `db-${String(index).padStart(2, '0')}`)

/** Works on a move to a dead target until one of its pauses was longer than this; the next is no shorter. */
async function pausing(t: Test, longerThanMs: number) {
  const house = await movingHouse(t)
  await house.fill('local', ...NAMES)
  let [last, pauseMs] = [0, 0]
  house.team.trouble.onCall = () => {
    pauseMs = last && performance.now() - last
    last = performance.now()
    throw new StoreError('unavailable', 'in the test')
  }
  const run = await house.start('local', 'team-vault')
  const working = house.work()
  t.ok(
    await eventually(async () => pauseMs > longerThanMs, 20_000),
    `a pause was longer than ${longerThanMs} ms`,
  )
  return { house, run, working }
}

t.test('a rollback is heard at once, however long a dead target is given', async (t) => {
  // The next pause is of two and a half seconds at least, and the answer waits for one second.
  const { house, run, working } = await pausing(t, 1800)
  t.match(await house.rollback(run), { state: 'rolled_back' })
  await working
})

t.test('the end of a process does not wait until a dead target was given its time', async (t) => {
  // The next pause is of 1.6 seconds at least.
  const { house, working } = await pausing(t, 900)
  const beganAt = performance.now()
  house.vault.relocationWorker.stop()
  await working
  t.ok(performance.now() - beganAt < 1200, `it took ${Math.round(performance.now() - beganAt)} ms`)
})
