import { randomFillSync } from 'node:crypto'
import { v7 } from 'uuid'

const BYTES = 16
const pool = Buffer.alloc(BYTES * 256)
let used = pool.length
let msecs = 0
let seq = 0

/**
 * A UUID v7, above every other that this process has made.
 *
 * Its random bits are drawn for many at once: asking for each alone would cost more than all else of it.
 */
export function newId(): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const random = pool.subarray(used, used + BYTES)
  used += BYTES
  const now = Date.now()
  if (now > msecs) {
    msecs = now
    // Half of the counter's room is left for what follows in the same millisecond.
    seq = random.readUInt32BE(0) >>> 1
  } else seq++
  return v7({ random, msecs, seq })
}
