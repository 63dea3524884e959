import fc from 'fast-check'
import t from 'tap'
import { StoreRate } from '../src/store-rate.ts'

/** When calls begin that come at these times, each as early as it may. */
function begin(rate: StoreRate, comingAt: readonly number[]): number[] {
  let last = 0
  return comingAt.map((at) => {
    last = rate.freeAt(Math.max(at, last))
    rate.count(last)
    return last
  })
}

t.test('in no second do more calls begin than the rate allows, whenever they come', async (t) => {
  const times = fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 60 })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), times, (perSecond, pauses) => {
      let now = 0
      const comingAt = pauses.map((pause) => (now += pause))
      const begunAt = begin(new StoreRate(perSecond), comingAt)
      for (const [index, at] of begunAt.entries()) {
        const before = begunAt[index - perSecond]
        if (before !== undefined && at - before < 1000) return false
      }
      return true
    }),
  )
  t.pass('held for all of them')
})

t.test('as many as the rate allows begin at once', async (t) => {
  t.strictSame(begin(new StoreRate(3), [0, 0, 0, 0, 0, 0, 0]), [0, 0, 0, 1000, 1000, 1000, 2000])
  t.strictSame(begin(new StoreRate(2), [0, 900, 950, 2500]), [0, 900, 1000, 2500])
})

t.test('a rate below one, or between two, is kept', async (t) => {
  t.strictSame(begin(new StoreRate(0.5), [0, 0, 0]), [0, 2000, 4000])
  t.strictSame(begin(new StoreRate(2.5), [0, 0, 0, 0, 0]), [0, 0, 800, 800, 1600])
})

t.test('with others ahead a call is free when they have gone', async (t) => {
  const rate = new StoreRate(2)
  rate.count(100)
  t.equal(rate.freeAt(200), 200)
  t.equal(rate.freeAt(200, 1), 1100)
  t.equal(rate.freeAt(200, 2), 1200)
  t.equal(rate.freeAt(200, 3), 2100)
})
