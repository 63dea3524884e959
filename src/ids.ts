import { v7 } from 'uuid'
import { randomDraws } from './core/random.ts'

const draw = randomDraws(16)
let msecs = 0
let seq = 0

/** A UUID v7, above every other that this process has made. */
export function newId(): string {
  const random = draw()
  const now = Date.now()
  if (now > msecs) {
    msecs = now
    // Half of the counter's room is left for what follows in the same millisecond.
    seq = random.readUInt32BE(0) >>> 1
  } else seq++
  return v7({ random, msecs, seq })
}
