import { randomFillSync } from 'node:crypto'

const DRAWS = 256

/**
 * Random bytes, `bytes` at a time: they are made for many draws at once, since asking for a few costs as much.
 *
 * @returns A function that draws. What it answers is a part of a pool, and overwritten some draws later: to be used at once.
 */
export function randomDraws(bytes: number): () => Buffer {
  const pool = Buffer.alloc(bytes * DRAWS)
  let used = pool.length
  return () => {
    if (used === pool.length) {
      randomFillSync(pool)
      used = 0
    }
    used += bytes
    return pool.subarray(used - bytes, used)
  }
}
