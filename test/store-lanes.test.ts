import t from 'tap'
import { StoreError } from '../src/core/secret-store.ts'
import { Secret } from '../src/core/secret.ts'
import { barrier, forEver, outcome, plant, rest, troubledStore, within } from './troubled-store.ts'

const OWNER = { workspace: 'acme', credential: 'orders-db' }

t.test('a call to a store that hangs ends at its deadline, or after the time of the store', async (t) => {
  for (const [deadlineMs, timeoutMs] of [
    [40, 30_000],
    [30_000, 150],
  ] as const) {
    const troubled = await troubledStore(t, { limits: { timeoutMs } })
    troubled.trouble.onCall = (call) => (call === 'close' ? undefined : forEver())
    const endMs = Math.min(deadlineMs, timeoutMs)
    const beganAt = performance.now()
    t.equal(await outcome(troubled.store.get(plant(troubled), within(deadlineMs))), 'unavailable')
    const took = performance.now() - beganAt
    t.ok(took >= endMs - 2 && took < endMs + 10_000, `${Math.round(took)} ms`)
  }
})

t.test('a store that hangs never has more calls than it may have at once', async (t) => {
  const troubled = await troubledStore(t, {
    limits: { concurrency: 4, timeoutMs: 60 },
    tuning: { breakerFailuresMax: 1_000, abandonedAfterTimeouts: 100 },
  })
  troubled.trouble.onCall = forEver
  const calls = Array.from({ length: 40 }, (_, n) =>
    troubled.store.get(plant(troubled), within(900, `w${n % 4}`)),
  )
  const outcomes = await Promise.all(calls.map(outcome))
  t.strictSame(new Set(outcomes), new Set(['unavailable']))
  t.equal(troubled.inFlight.max, 4)
  t.equal(troubled.inFlight.now, 4, 'each lane is held by the call that has not ended')
  t.equal(await outcome(troubled.store.check(within(900, 'other'))), 'unavailable')
  t.equal(troubled.calls.length, 4, 'so nobody else gets one')
})

t.test('a call that ends late gives its lane back then', async (t) => {
  const troubled = await troubledStore(t, {
    limits: { concurrency: 1, timeoutMs: 500 },
    tuning: { retriesMax: 0, abandonedAfterTimeouts: 100 },
  })
  const { wait, open } = barrier()
  troubled.trouble.onCall = wait
  t.equal(await outcome(troubled.store.check(within(20))), 'unavailable')
  t.equal(await outcome(troubled.store.check(within(20))), 'unavailable')
  t.equal(troubled.calls.length, 1)
  open()
  t.equal(await outcome(troubled.store.check(within(500))), undefined)
  t.strictSame(troubled.events, [])
})

t.test('a call that never ends gives its lane back after three times its time, and it is told', async (t) => {
  const troubled = await troubledStore(t, { limits: { concurrency: 1, timeoutMs: 200 } })
  troubled.trouble.onCall = forEver
  const beganAt = performance.now()
  const checks = [1, 2].map(() => outcome(troubled.store.check(within(900))))
  t.strictSame(await Promise.all(checks), ['unavailable', 'unavailable'])
  troubled.trouble.onCall = undefined
  while (troubled.events.length === 0) await rest(10)
  t.ok(performance.now() - beganAt >= 3 * 200 - 2)
  t.equal(troubled.calls.length, 1)
  t.equal(await outcome(troubled.store.check(within(900))), undefined)
  t.strictSame(troubled.events, [{ event: 'abandoned', call: 'check' }])
})

t.test('one caller has at most half of the lanes, and one at least', async (t) => {
  for (const [concurrency, half] of [
    [6, 3],
    [5, 2],
    [1, 1],
  ] as const) {
    const troubled = await troubledStore(t, { limits: { concurrency } })
    const { wait, open } = barrier()
    troubled.trouble.onCall = wait
    const greedy = Array.from({ length: 10 }, () =>
      troubled.store.get(plant(troubled), within(900, 'greedy')),
    )
    await rest(5)
    t.equal(troubled.inFlight.now, half, `of ${concurrency}`)
    const modest = troubled.store.get(plant(troubled), within(900, 'modest'))
    await rest(5)
    t.equal(troubled.inFlight.now, Math.min(half + 1, concurrency), 'another has room beside it')
    open()
    t.equal((await Promise.all([...greedy, modest])).length, 11, 'and all come to their turn')
  }
})

t.test('a line that is full is throttled at once, for one caller at its half', async (t) => {
  const troubled = await troubledStore(t, { limits: { concurrency: 1 }, tuning: { linePerLane: 4 } })
  const { wait, open } = barrier()
  troubled.trouble.onCall = wait
  const ask = (caller: string): Promise<unknown> =>
    outcome(troubled.store.getBack(plant(troubled), within(900, caller)))
  const waiting = [ask('a'), ask('a'), ask('a')]
  await rest(5)
  t.equal(await ask('a'), 'throttled')
  waiting.push(ask('b'), ask('b'))
  await rest(5)
  t.equal(await ask('c'), 'throttled')
  open()
  t.ok((await Promise.all(waiting)).every((one) => one instanceof Secret))
  t.equal(troubled.calls.length, 5, 'who was refused never reached the store')
})

t.test('whoever joins a read that waits lets it use his share', async (t) => {
  const troubled = await troubledStore(t, { limits: { concurrency: 2 } })
  const { wait, open } = barrier()
  troubled.trouble.onCall = (_, ref) => (ref === last ? undefined : wait())
  const first = plant(troubled)
  const last = plant(troubled)
  void outcome(troubled.store.get(first, within(900, 'greedy')))
  const own = troubled.store.get(last, within(900, 'greedy'))
  await rest(5)
  t.equal(troubled.calls.length, 1, 'by itself it waits')
  await troubled.store.get(last, within(900, 'modest'))
  t.equal((await own).value.reveal(), '"kept"')
  t.equal(troubled.calls.length, 2)
  open()
})

t.test('writes beyond the rate wait for their second, hold no lane meanwhile, and reads pass', async (t) => {
  const troubled = await troubledStore(t, {
    limits: { concurrency: 2, timeoutMs: 5_000, writesPerSecond: 3 },
  })
  const { store, calls } = troubled
  const beganAt = performance.now()
  const endedAt: number[] = []
  const puts = Array.from({ length: 5 }, async (_, n) => {
    await store.put(`strongroom/acme/${n}`, new Secret('1'), OWNER, within(4_000, `w${n}`))
    endedAt.push(performance.now() - beganAt)
  })
  await rest(50)
  t.equal(calls.length, 3)
  await store.getBack(plant(troubled), within(100))
  await Promise.all(puts)
  t.ok(endedAt[2]! < 900 && endedAt[3]! >= 995, endedAt.map(Math.round).join())
})

t.test('who could not begin before his deadline is throttled at once', async (t) => {
  const { store, calls } = await troubledStore(t, { limits: { readsPerSecond: 1 } })
  await store.check(within(500))
  const beganAt = performance.now()
  t.equal(await outcome(store.check(within(500))), 'throttled')
  t.ok(performance.now() - beganAt < 100)
  t.equal(calls.length, 1)
})

t.test('a store that hangs does not slow another', async (t) => {
  const hanging = await troubledStore(t, {
    limits: { timeoutMs: 200 },
    tuning: { breakerFailuresMax: 10_000 },
  })
  hanging.trouble.onCall = forEver
  const well = await troubledStore(t, { cacheSeconds: 0 })
  let asked = 0
  const asking = setInterval(() => {
    for (const caller of ['a', 'b', 'c', 'd']) {
      asked++
      void outcome(hanging.store.get(plant(hanging), within(2_000, caller)))
    }
  }, 1)
  t.teardown(() => clearInterval(asking))
  const took: number[] = []
  while (took.length < 1_000) {
    const beganAt = performance.now()
    await well.store.get(plant(well), within(1_000))
    took.push(performance.now() - beganAt)
    if (took.length % 4 === 0) await rest(1)
  }
  const p99 = took.toSorted((a, b) => a - b)[989]!
  t.ok(asked > 500 && hanging.inFlight.max >= 8, `${asked} were asked of the one that hangs`)
  t.ok(p99 < 50, `p99 of the other: ${p99.toFixed(2)} ms`)
})

t.test('a store that is throttled does not wait on a lane between its tries', async (t) => {
  const troubled = await troubledStore(t, { limits: { concurrency: 1 }, tuning: { retryDelayMs: 1_000 } })
  troubled.trouble.onCall = (call) => {
    if (call === 'check') throw new StoreError('throttled', 'TooManyRequests')
  }
  const throttled = outcome(troubled.store.check(within(300)))
  await rest(5)
  t.equal((await troubled.store.get(plant(troubled), within(100))).cached, false)
  t.equal(await throttled, 'throttled')
})
