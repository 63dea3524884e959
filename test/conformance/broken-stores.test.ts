import t, { Test } from 'tap'
import { conforms } from './secret-store.ts'
import { openTroubled } from './troubled-store.ts'
import type { Broken } from './wrong-answers.ts'
import { WRONG_ANSWERS } from './wrong-answers.ts'
import { WRONG_FAILURES } from './wrong-failures.ts'

// Who tests the suite: each of these stores is wrong in one way that somebody's adapter was, and must not pass.

/** Runs the suite apart from this file's own tests, so that it may fail, and says which of its tests did. */
async function failedTests({ troubles = [], change }: Broken): Promise<string[]> {
  const apart = new Test({ name: 'apart' })
  conforms(apart as unknown as typeof t, { name: 'it', troubles, make: () => openTroubled(change) })
  apart.end()
  apart.resume()
  await new Promise<void>((resolve) => apart.main(resolve))
  const names = apart.lists.fail.map(({ fullname }) => fullname.split(' > ')[1]!)
  return [...new Set(names)].map((name) => name.replace(/^it: /, ''))
}

for (const broken of [...WRONG_ANSWERS, ...WRONG_FAILURES]) {
  t.test(`a store that ${broken.how} is caught`, async (t) => {
    const failed = await failedTests(broken)
    t.ok(failed.includes(broken.caughtBy), `by ${broken.caughtBy}`, { failed })
  })
}

t.test('a store that is not broken is not caught', async (t) => {
  const troubles = WRONG_FAILURES.flatMap(({ troubles = [] }) => troubles)
  t.same(await failedTests({ how: 'works', troubles, caughtBy: '', change: (store) => store }), [])
})
