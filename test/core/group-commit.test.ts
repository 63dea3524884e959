import t from 'tap'
import { VaultError } from '../../src/core/errors.ts'
import type { GroupCommitOptions } from '../../src/core/group-commit.ts'
import { GroupCommit } from '../../src/core/group-commit.ts'
import { OutcomeUnknown } from '../../src/core/ledger.ts'

interface Statement {
  asks: readonly number[]
  answer(): void
  fail(error: unknown): void
}

/** Commits that end only when the test says so. */
function byHand(options: Partial<GroupCommitOptions<number, string>> = {}) {
  const statements: Statement[] = []
  const unknown: number[] = []
  const late: number[] = []
  const commits = new GroupCommit<number, string>({
    lanes: 2,
    lineMax: 100,
    batchMax: 50,
    slowMs: () => 3600_000,
    deadlineOf: () => Infinity,
    onUnknown: (asks) => unknown.push(...asks),
    onLate: (ask) => late.push(ask),
    commit: (asks) =>
      new Promise((resolve, reject) => {
        statements.push({ asks, answer: () => resolve(asks.map((ask) => `did ${ask}`)), fail: reject })
      }),
    ...options,
  })
  const submit = (...asks: number[]) => Promise.allSettled(asks.map((ask) => commits.submit(ask)))
  return { commits, statements, unknown, late, submit }
}

const asksOf = (statements: readonly Statement[]) => statements.map(({ asks }) => asks)
const sizesOf = (statements: readonly Statement[]) => statements.map(({ asks }) => asks.length)
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const upTo = (end: number): number[] => Array.from({ length: end }, (_, ask) => ask)
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
const values = (settled: PromiseSettledResult<string>[]) =>
  settled.map((one) => (one.status === 'fulfilled' ? one.value : (one.reason.code ?? one.reason.message)))

t.test('a free lane takes what arrived in this turn, without a timer', async (t) => {
  const { statements, submit } = byHand()
  void submit(1, 2, 3)
  await turn()
  t.strictSame(asksOf(statements), [[1, 2, 3]])
})

t.test('who arrives while a statement is in flight goes with the next one, in order', async (t) => {
  const { statements, submit, commits } = byHand()
  const answers = [submit(1)]
  await turn()
  for (const ask of [2, 3, 4]) {
    answers.push(submit(ask))
    await turn()
  }
  t.equal(statements.length, 1, 'no lane is taken for a few while one is about to be free')
  t.equal(commits.waiting, 3)
  statements[0]!.answer()
  await turn()
  t.strictSame(statements[1]!.asks, [2, 3, 4])
  statements[1]!.answer()
  const settled = (await Promise.all(answers)).flatMap(values)
  t.strictSame(settled, ['did 1', 'did 2', 'did 3', 'did 4'])
})

t.test(
  'beside a statement that has become slow another goes, and no third where there are two lanes',
  async (t) => {
    const { statements, submit } = byHand({ slowMs: (asks) => 10 + asks })
    void submit(1)
    await turn()
    void submit(2)
    while (statements.length < 2) await sleep(5)
    t.strictSame(asksOf(statements), [[1], [2]])
    void submit(3)
    await sleep(30)
    t.equal(statements.length, 2)
    statements[1]!.answer()
    await turn()
    t.strictSame(asksOf(statements), [[1], [2], [3]], 'and nobody waits because of one that hangs')
  },
)

t.test(
  'many who ask at once are divided, so that one half is judged while the other is answered',
  async (t) => {
    const { statements, submit, commits } = byHand({ batchMax: 100 })
    void submit(...upTo(80))
    await turn()
    t.strictSame([sizesOf(statements), commits.waiting], [[40], 40])
    statements[0]!.answer()
    await turn()
    t.strictSame([sizesOf(statements), commits.waiting], [[40, 40], 0], 'those just answered still count')
    void submit(...upTo(40))
    await turn()
    statements[1]!.answer()
    await turn()
    t.strictSame(sizesOf(statements), [40, 40, 40])
  },
)

t.test('who has been answered counts no more when many ask again', async (t) => {
  const { statements, submit } = byHand({ batchMax: 100 })
  const answers = submit(...upTo(80))
  for (const at of [0, 1]) {
    await turn()
    statements[at]!.answer()
  }
  await answers
  void submit(...upTo(70))
  await turn()
  t.strictSame(sizesOf(statements), [40, 40, 35])
})

t.test('a few dozen are not divided, nor is one call', async (t) => {
  const few = byHand()
  void few.submit(...upTo(32))
  await turn()
  t.strictSame(sizesOf(few.statements), [32])
  const { statements, submit } = byHand({
    batchMax: 100,
    isSameCall: (one, other) => one >> 7 === other >> 7,
  })
  void submit(...upTo(100), 200, 201)
  await turn()
  t.strictSame(sizesOf(statements), [100])
  const small = byHand({ isSameCall: () => true })
  void small.submit(...upTo(80))
  await turn()
  t.strictSame(sizesOf(small.statements), [50], 'but by the size of a statement')
})

t.test(
  'a statement takes no more than the largest batch, and the other lane goes where one more is full',
  async (t) => {
    const { statements, submit } = byHand({ batchMax: 2 })
    void submit(1, 2, 3, 4, 5)
    await turn()
    await turn()
    t.strictSame(asksOf(statements), [
      [1, 2],
      [3, 4],
    ])
    statements[0]!.answer()
    statements[1]!.answer()
    await turn()
    t.strictSame(statements[2]!.asks, [5])
  },
)

t.test('beyond the line it is overloaded at once, and those in line are served', async (t) => {
  const { statements, submit } = byHand({ lanes: 1, lineMax: 2 })
  const first = submit(1)
  await turn()
  const rest = submit(2, 3, 4)
  await turn()
  statements[0]!.answer()
  await turn()
  statements[1]!.answer()
  t.strictSame(values(await first), ['did 1'])
  t.strictSame(values(await rest), ['did 2', 'did 3', 'overloaded'])
})

t.test('where nothing was written each is tried alone, and only the one to blame fails', async (t) => {
  const tried: (readonly number[])[] = []
  const { submit } = byHand({
    commit: async (asks) => {
      tried.push(asks)
      if (asks.includes(2)) throw new Error('no 2')
      return asks.map((ask) => `did ${ask}`)
    },
  })
  t.strictSame(values(await submit(1, 2, 3)), ['did 1', 'no 2', 'did 3'])
  t.strictSame(tried, [[1, 2, 3], [1], [2], [3]])
})

t.test('a batch that the ledger refuses as a whole is not tried again', async (t) => {
  const { submit, statements } = byHand()
  const answers = submit(1, 2)
  await turn()
  statements[0]!.fail(new VaultError('unavailable', 'gone'))
  t.strictSame(values(await answers), ['unavailable', 'unavailable'])
  t.equal(statements.length, 1)
})

t.test('a batch of unknown outcome is unavailable to all and is handed on to be settled', async (t) => {
  const { submit, statements, unknown } = byHand()
  const answers = submit(1, 2)
  await turn()
  statements[0]!.fail(new OutcomeUnknown(new Error('cut')))
  t.strictSame(values(await answers), ['unavailable', 'unavailable'])
  t.strictSame(unknown, [1, 2])
  t.equal(statements.length, 1, 'it is never sent twice')
})

t.test('who waited past his deadline is told so and takes no part in the statement', async (t) => {
  const late = performance.now() + 20
  const { submit, statements } = byHand({ lanes: 1, deadlineOf: (ask) => (ask === 2 ? late : Infinity) })
  const first = submit(1)
  await turn()
  const rest = submit(2, 3)
  await new Promise((resolve) => setTimeout(resolve, 30))
  statements[0]!.answer()
  await first
  await turn()
  t.strictSame(statements[1]!.asks, [3])
  statements[1]!.answer()
  t.strictSame(values(await rest), ['unavailable', 'did 3'])
})

t.test(
  'whose deadline comes while his statement is in flight is refused then, and the others are answered',
  async (t) => {
    // It is asked for first when the statement begins.
    let soon: number | undefined
    let overdue = false
    const deadlineOf = (ask: number): number => {
      if (ask !== 2) return Infinity
      if (soon === undefined) setTimeout(() => (overdue = true), 120)
      return (soon ??= performance.now() + 20)
    }
    const { submit, statements, late } = byHand({ deadlineOf })
    const [first, second] = [submit(1), submit(2)]
    t.strictSame(values(await second), ['unavailable'])
    t.ok(performance.now() >= soon! && !overdue)
    t.strictSame(statements[0]!.asks, [1, 2])
    statements[0]!.answer()
    t.strictSame(values(await first), ['did 1'])
    t.strictSame(late, [2], 'what came too late is not forgotten')
  },
)
