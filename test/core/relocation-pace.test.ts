import t from 'tap'
import type { ProblemCode } from '../../src/core/errors.ts'
import type { CarryOutcome, CarryResult } from '../../src/core/relocation-carrier.ts'
import { Pace, throttledIn } from '../../src/core/relocation-pace.ts'

const outcome = (result: CarryResult): CarryOutcome => ({ claim: {} as CarryOutcome['claim'], result })
const later = (code: ProblemCode, ours = false) => outcome({ later: code, ours })
const WENT_WELL = outcome({ carried: { copyId: 'old', pendingId: 'new' } })
const DENIED = outcome({ stays: 'store_denied', failed: true })
const [AWAY, THROTTLED] = [later('store_unavailable'), later('store_throttled')]

/** What the pace is after each of these batches. */
function pacesAfter(lanesMax: number, ...batches: CarryOutcome[][]): [lanes: number, restMs: number][] {
  const pace = new Pace(lanesMax)
  return batches.map((batch) => {
    pace.note(batch)
    return [pace.lanes, pace.restMs]
  })
}

for (const [what, late] of [
  ['asks for patience', THROTTLED],
  ['is out of reach', AWAY],
] as const) {
  t.test(`a store that ${what} gets half as many each time, and ever longer pauses`, async (t) => {
    const paces = pacesAfter(16, ...Array.from({ length: 8 }, () => [WENT_WELL, late]))
    t.strictSame(
      paces.map(([lanes]) => lanes),
      [8, 4, 2, 1, 1, 1, 1, 1],
    )
    t.strictSame(
      paces.map(([, restMs]) => restMs),
      [100, 200, 400, 800, 1600, 3200, 5000, 5000],
    )
  })
}

t.test('when all goes well again there is no pause, and one more at once each time', async (t) => {
  const well = [WENT_WELL, DENIED]
  t.strictSame(pacesAfter(4, [AWAY], [AWAY], well, well, well, well), [
    [2, 100],
    [1, 200],
    [2, 0],
    [3, 0],
    [4, 0],
    [4, 0],
  ])
})

t.test('a store is silent while nothing at all is answered, and whatever it answers ends that', async (t) => {
  const pace = new Pace(4)
  pace.note([AWAY, AWAY], 1_000)
  t.equal(pace.silentMs(1_500), 500)
  pace.note([AWAY], 2_000)
  t.equal(pace.silentMs(3_000), 2_000)
  for (const answer of [WENT_WELL, DENIED, THROTTLED]) {
    pace.note([AWAY, answer], 4_000)
    t.equal(pace.silentMs(5_000), 0)
    pace.note([AWAY], 6_000)
    t.equal(pace.silentMs(6_100), 100)
  }
})

t.test('what we refuse ourselves is not counted as the store asking for patience', async (t) => {
  t.equal(throttledIn([WENT_WELL, THROTTLED, later('store_throttled', true), AWAY, THROTTLED]), 2)
  t.strictSame(
    pacesAfter(4, [later('store_throttled', true)]),
    [[2, 100]],
    'and is worth a pause all the same',
  )
})
