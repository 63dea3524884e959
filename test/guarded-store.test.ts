import t, { type Test } from 'tap'
import { memory } from '../providers/memory.ts'
import { Locator } from '../src/core/locator.ts'
import { StoreError } from '../src/core/secret-store.ts'
import { Secret } from '../src/core/secret.ts'
import {
  conforms,
  endsByTime,
  failsAs,
  MARKED,
  type StoreUnderTest,
  type Trouble,
} from './conformance/secret-store.ts'
import { forEver, outcome, plant, rest, troubledStore, within } from './troubled-store.ts'

const OWNER = { workspace: 'acme', credential: 'orders-db' }

const TROUBLES: Partial<Record<Trouble, () => unknown>> = {
  deny: () => Promise.reject(new StoreError('denied', 'AccessDenied')),
  throttle: () => Promise.reject(new StoreError('throttled', 'TooManyRequests')),
  break: () => Promise.reject(new Error(`cannot keep ${MARKED}`)),
  hang: forEver,
}

// The suite of the providers, with the guard for a provider.
async function guardUnderTest(t: Test, given?: Trouble): Promise<StoreUnderTest> {
  const timeoutMs = endsByTime(given) ? 200 : 8_000
  const tuning = { breakerFailuresMax: 1_000, abandonedAfterTimeouts: 1 }
  const { store, kept, trouble } = await troubledStore(t, {
    limits: { timeoutMs },
    cacheSeconds: 0,
    tuning,
  })
  const call = { caller: 'suite', deadlineAt: Infinity }
  return {
    prefix: 'strongroom',
    timeoutMs,
    valueBytesMax: memory.valueBytesMax,
    store: {
      put: (ref, value, owner = OWNER) => store.put(ref, new Secret(value), owner, call),
      get: async (ref) => (await store.get(ref, call)).value.reveal(),
      delete: (ref, forGood = false) => store.delete(ref, forGood, call),
      read: async (locator) => ({ text: (await store.read(locator, call)).value.reveal() }),
      check: () => store.check(call),
      close: () => store.close(),
    },
    suffer: async (what) => void (trouble.onCall = TROUBLES[what]),
    recover: async () => void (trouble.onCall = undefined),
    plant: async (locator, text) => void kept.set(locator, text),
    close: async () => undefined,
  }
}
conforms(t, { name: 'a guarded store', troubles: Object.keys(TROUBLES) as Trouble[], make: guardUnderTest })

t.test('what a provider throws beside a StoreError is unavailable, and nothing of it is told', async (t) => {
  const { store, trouble, events } = await troubledStore(t, { tuning: { retriesMax: 0 } })
  for (const thrown of [new TypeError(MARKED, { cause: MARKED }), MARKED, undefined]) {
    trouble.onCall = () => Promise.reject(thrown)
    await failsAs(t, 'unavailable', () => store.getBack('strongroom/acme/a', within(500)))
  }
  t.strictSame(events, Array(3).fill({ event: 'foreign_error', call: 'get' }))
})

t.test('what hangs on the error of a provider does not come through', async (t) => {
  const { store, trouble } = await troubledStore(t)
  trouble.onCall = () => {
    const error = new StoreError('rejected', 'ValidationException')
    throw Object.assign(error, { cause: new Error(MARKED), response: { body: MARKED } })
  }
  await failsAs(t, 'rejected', () => store.put('strongroom/acme/a', new Secret(MARKED), OWNER, within(500)))
  await t.rejects(store.check(within(500)), { message: 'ValidationException' }, 'the vendor code does')
})

t.test('a provider that answers no text is rejected, and not for an outage', async (t) => {
  const { store, kept } = await troubledStore(t)
  const ref = plant({ kept }, { length: 3 } as never)
  t.equal(await outcome(store.get(ref, within(500))), 'rejected')
  t.equal(await outcome(store.getBack(ref, within(500))), 'rejected')
  t.ok(store.state().reachable)
  kept.set(ref, '')
  t.equal((await store.getBack(ref, within(500))).reveal(), '', 'an empty text is one')
  t.equal(await outcome(store.get(ref, within(500))), 'rejected', 'but no JSON, as every copy is')
})

t.test('what may be repeated is tried three times, and nothing else', async (t) => {
  for (const [fault, tries] of [
    ['throttled', 3],
    ['unavailable', 3],
    ['not_found', 1],
    ['denied', 1],
    ['rejected', 1],
  ] as const) {
    const { store, trouble, calls } = await troubledStore(t)
    trouble.onCall = () => Promise.reject(new StoreError(fault, 'Trouble'))
    t.equal(await outcome(store.check(within(900))), fault)
    t.equal(calls.length, tries, fault)
  }
})

t.test('a call that succeeds the third time succeeds', async (t) => {
  const troubled = await troubledStore(t)
  const { store, trouble, calls } = troubled
  const ref = plant(troubled)
  trouble.onCall = () => {
    if (calls.length < 3) throw new StoreError('throttled', 'TooManyRequests')
  }
  t.equal((await store.get(ref, within(900))).value.reveal(), '"kept"')
  t.strictSame(store.state(), { reachable: true, breaker: 'closed' })
})

t.test('at the deadline a throttled call says so, and is not tried again afterwards', async (t) => {
  const { store, trouble, calls } = await troubledStore(t, { tuning: { retryDelayMs: 1_000 } })
  trouble.onCall = () => Promise.reject(new StoreError('throttled', 'TooManyRequests'))
  const check = outcome(store.check(within(20)))
  t.equal(await Promise.race([check, rest(300)]), 'throttled', 'and at once')
  await rest(1_100)
  t.equal(calls.length, 1)
})

t.test('a link says which version was read and when', async (t) => {
  const troubled = await troubledStore(t)
  troubled.kept.set('apps/acme/db', 'text')
  const before = Date.now()
  const read = await troubled.store.read(Locator.parse('apps/acme/db')!, within(500))
  t.equal(read.value.reveal(), 'text')
  t.equal(read.cached, false)
  t.ok(read.readAt.getTime() >= before && read.readAt.getTime() <= Date.now())
})

t.test('closing fails whoever waits, twice is the same as once, and no timer is left', async (t) => {
  const troubled = await troubledStore(t, { limits: { concurrency: 2 } })
  const { store, trouble, calls } = troubled
  const timers = (): number => process.getActiveResourcesInfo().filter((what) => what === 'Timeout').length
  const before = timers()
  trouble.onCall = (call) => (call === 'close' ? undefined : forEver())
  const waiting = Array.from({ length: 5 }, (_, n) =>
    outcome(store.get(plant(troubled), within(900, `w${n}`))),
  )
  await rest(5)
  t.ok(timers() > before)
  await Promise.all([store.close(), store.close()])
  t.equal(timers(), before)
  t.strictSame(await Promise.all(waiting), Array(5).fill('unavailable'))
  await store.close()
  t.equal(calls.filter((call) => call === 'close').length, 1)
  t.equal(await outcome(store.check(within(900))), 'unavailable')
  t.notOk(calls.includes('check'), 'a closed store asks its provider nothing')
})

t.test('a provider that cannot be closed holds up the end no longer than its time', async (t) => {
  for (const trouble of [forEver, () => Promise.reject(new Error(MARKED))]) {
    const troubled = await troubledStore(t, { limits: { timeoutMs: 50 } })
    troubled.trouble.onCall = trouble
    const closed = troubled.store.close().then(() => 'closed')
    t.equal(await Promise.race([closed, rest(500)]), 'closed')
    t.equal(troubled.events.length, 1)
  }
})
