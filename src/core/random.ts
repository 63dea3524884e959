import { randomFillSync } from 'node:crypto'

const DRAWS = 256

/**
 * Random bytes, always so many: they are made for many draws at once, since asking for a few costs as much.
 *
 * @returns draws bytes that are there until the next draws: who keeps them makes a copy
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
