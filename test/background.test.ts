import t from 'tap'
import { giveWay } from '../src/background.ts'

t.test(
  'who gives way rests so many times as long as he worked, where leases were granted meanwhile',
  async (t) => {
    let granted = 0
    const restMs = giveWay(() => granted, 3)
    t.equal(restMs(10), 0, 'nobody leases')
    granted = 5
    t.equal(restMs(10), 30)
    t.equal(restMs(10), 0, 'no more leases since')
  },
)
