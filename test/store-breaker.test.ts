import t, { type Test } from 'tap'
import { StoreError, type StoreFault } from '../src/core/secret-store.ts'
import {
  barrier,
  forEver,
  outcome,
  rest,
  troubledStore,
  within,
  type Troubled,
  type TroubledOptions,
} from './troubled-store.ts'

const tuning = { retriesMax: 0, breakerFailuresMax: 3, breakerRestMs: 200 }
const OPEN = { reachable: false, breaker: 'open' }

const fails = (fault: StoreFault) => () => Promise.reject(new StoreError(fault, 'Trouble'))
const check = (troubled: Troubled, ms = 10_000): Promise<unknown> => outcome(troubled.store.check(within(ms)))
const states = ({ events }: Troubled): unknown[] =>
  events.map((event) => (event.event === 'breaker' ? event.breaker : event))

async function opened(t: Test, options: TroubledOptions = {}): Promise<Troubled> {
  const troubled = await troubledStore(t, { ...options, tuning: { ...tuning, ...options.tuning } })
  troubled.trouble.onCall = fails('unavailable')
  for (let n = 0; n < 3; n++) await check(troubled)
  t.strictSame(troubled.store.state(), OPEN)
  return troubled
}

t.test('after some failures in a row the store is not asked, and the answer comes at once', async (t) => {
  const troubled = await opened(t, { tuning: { breakerRestMs: 60_000 } })
  t.equal(await check(troubled), 'unavailable')
  t.equal(troubled.calls.length, 3)
  t.strictSame(states(troubled), ['open'])
})

t.test('any answer ends the row: only unavailable counts against a store', async (t) => {
  for (const fault of ['not_found', 'denied', 'rejected', 'throttled', undefined] as const) {
    const troubled = await troubledStore(t, { tuning })
    for (let n = 0; n < 3; n++) {
      troubled.trouble.onCall = fails('unavailable')
      await check(troubled)
      await check(troubled)
      t.notOk(troubled.store.state().reachable)
      troubled.trouble.onCall = fault && fails(fault)
      t.equal(await check(troubled), fault)
      t.strictSame(troubled.store.state(), { reachable: true, breaker: 'closed' }, `${fault}`)
    }
  }
})

t.test(
  'after its rest one call tries the store while others are refused, and its success closes',
  async (t) => {
    const troubled = await opened(t)
    const { wait, open } = barrier()
    troubled.trouble.onCall = wait
    await rest(210)
    const [trying, beside] = [check(troubled), check(troubled)]
    t.equal(await beside, 'unavailable', 'also who came at the same moment')
    t.equal(troubled.store.state().breaker, 'half_open')
    t.equal(await check(troubled), 'unavailable')
    t.equal(troubled.calls.length, 4, 'one only')
    open()
    t.equal(await trying, undefined)
    t.strictSame(troubled.store.state(), { reachable: true, breaker: 'closed' })
    t.equal(await check(troubled), undefined)
    t.strictSame(states(troubled), ['open', 'half_open', 'closed'])
  },
)

t.test('who is refused beside the one that tries the store holds no lane afterwards', async (t) => {
  const troubled = await opened(t)
  const { wait, open } = barrier()
  troubled.trouble.onCall = undefined
  await rest(210)
  await Promise.all([check(troubled), check(troubled), check(troubled), check(troubled)])
  troubled.trouble.onCall = wait
  const after = [check(troubled), check(troubled), check(troubled), check(troubled)]
  await rest(5)
  t.equal(troubled.inFlight.now, 4, 'the half of eight')
  open()
  await Promise.all(after)
})

t.test('a call that tries the store and fails opens it again, for another rest', async (t) => {
  const troubled = await opened(t)
  await rest(210)
  t.equal(await check(troubled), 'unavailable')
  t.strictSame(troubled.store.state(), OPEN)
  t.equal(await check(troubled), 'unavailable')
  t.equal(troubled.calls.length, 4)
  await rest(210)
  troubled.trouble.onCall = fails('denied')
  t.equal(await check(troubled), 'denied')
  t.strictSame(troubled.store.state(), { reachable: true, breaker: 'closed' }, 'a refusal is an answer')
})

t.test('the rest of a store is the same when the clock is set back', async (t) => {
  const troubled = await opened(t)
  troubled.trouble.onCall = undefined
  await rest(210)
  const { now } = Date
  t.teardown(() => (Date.now = now))
  Date.now = () => now() - 3_600_000
  t.equal(await check(troubled), undefined)
})

t.test('a caller with little time does not open the breaker for others', async (t) => {
  const troubled = await troubledStore(t, { tuning })
  troubled.trouble.onCall = () => rest(40)
  for (let n = 0; n < 6; n++) t.equal(await check(troubled, 5), 'unavailable')
  t.equal(troubled.store.state().breaker, 'closed')
  t.equal(await check(troubled), undefined)
})

t.test('who waits in line when the breaker opens is refused then, not at his deadline', async (t) => {
  const troubled = await troubledStore(t, { limits: { concurrency: 3, timeoutMs: 200 }, tuning })
  troubled.trouble.onCall = forEver
  const ask = (caller: string): Promise<unknown> => troubled.store.check({ caller, deadlineAt: Infinity })
  const hanging = ['a', 'b', 'c'].map((caller) => outcome(ask(caller)))
  await rest(100)
  await t.rejects(ask('d'), { fault: 'unavailable', message: 'the breaker is open' })
  t.strictSame(await Promise.all(hanging), Array(3).fill('unavailable'))
  t.strictSame(troubled.store.state(), OPEN)
})

t.test('a store that hung on every lane is used again once it is well', async (t) => {
  const troubled = await troubledStore(t, { limits: { concurrency: 3, timeoutMs: 50 }, tuning })
  troubled.trouble.onCall = forEver
  await Promise.all(['a', 'b', 'c'].map((caller) => outcome(troubled.store.check(within(900, caller)))))
  // On a loaded machine the timers of the calls come late, too.
  for (let n = 0; n < 15 && troubled.store.state().breaker !== 'open'; n++) await rest(10)
  t.strictSame(troubled.store.state(), OPEN)
  troubled.trouble.onCall = undefined
  await rest(400)
  for (let n = 0; n < 5; n++) t.equal(await check(troubled), undefined)
  t.strictSame(troubled.store.state(), { reachable: true, breaker: 'closed' })
})
