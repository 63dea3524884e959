import { setTimeout as sleep } from 'node:timers/promises'

/** Asks until the answer is true. */
export async function eventually(
  claim: () => boolean | Promise<boolean>,
  withinMs = 30_000,
): Promise<boolean> {
  const until = performance.now() + withinMs
  for (;;) {
    if (await claim()) return true
    if (performance.now() > until) return false
    await sleep(20)
  }
}
