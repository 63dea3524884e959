import { setTimeout as sleep } from 'node:timers/promises'

/** Asks until the answer is true. */
export async function eventually(claim: () => boolean, withinMs = 10_000): Promise<boolean> {
  const until = performance.now() + withinMs
  while (!claim()) {
    if (performance.now() > until) return false
    await sleep(20)
  }
  return true
}
