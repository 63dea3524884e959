import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { getHeapSnapshot, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { Locator } from '../src/core/locator.ts'
import { Secret } from '../src/core/secret.ts'
import { SealedCache } from '../src/sealed-cache.ts'
import { barrier, linksAnything, outcome, plant, rest, troubledStore, within } from './troubled-store.ts'

const AT = new Date()
const read = (text: string) => ({ value: new Secret(text), storeVersion: undefined, readAt: AT })
const textIn = (cache: SealedCache, name: string): string | undefined => cache.get(name)?.value.reveal()

async function heapText(): Promise<string> {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  let text = ''
  for await (const chunk of getHeapSnapshot()) text += chunk
  return text
}

t.test('no value lies in memory in the clear', async (t) => {
  const cache = new SealedCache({ entriesMax: 10, bytesMax: 10_000 })
  const marks = [0, 1].map(() => randomBytes(16).toString('hex'))
  // Held as bytes, so that the search itself does not put them there.
  const [sealed, held] = marks.map((mark) => Buffer.from(mark))
  cache.set('ref', read(`"${marks[0]}"`), Infinity)
  const clear = new Secret(`"${marks.pop()}"`)
  marks.pop()
  t.equal(cache.get('ref')?.value.length, 34)
  const heap = Buffer.from(await heapText())
  t.ok(heap.includes(held!), 'what is held in the clear is found')
  t.notOk(heap.includes(sealed!), 'what the cache holds is not')
  t.equal(clear.length, 34)
  t.notMatch(inspect(cache, { depth: 10, showHidden: true }), sealed!.toString())
})

t.test('a cache holds no more entries and no more bytes than it may', async (t) => {
  const few = new SealedCache({ entriesMax: 3, bytesMax: 1_000_000 })
  for (const name of ['a', 'b', 'c', 'd']) few.set(name, read(name), Infinity)
  t.equal(few.size, 3)
  t.equal(textIn(few, 'a'), undefined, 'the one used longest ago has gone')
  t.equal(textIn(few, 'd'), 'd')
  const small = new SealedCache({ entriesMax: 1_000, bytesMax: 10_000 })
  for (let n = 0; n < 100; n++) small.set(`${n}`, read('x'.repeat(1_000)), Infinity)
  t.ok(small.size >= 5 && small.size <= 7, `${small.size} of 1 KiB in 10 KB`)
  small.set('large', read('x'.repeat(10_000)), Infinity)
  t.equal(textIn(small, 'large'), undefined)
})

t.test('a copy is read once, and read again when its time is over', async (t) => {
  const troubled = await troubledStore(t, { cacheSeconds: 0.5 })
  const ref = plant(troubled, '"wide é€𐍈"')
  const cached = []
  for (const pause of [0, 0, 520]) {
    await rest(pause)
    const got = await troubled.store.get(ref, within(500))
    t.equal(got.value.reveal(), '"wide é€𐍈"')
    cached.push(got.cached)
  }
  t.strictSame(cached, [false, true, false])
  t.equal(troubled.calls.length, 2)
})

t.test('with 0 seconds nothing is cached, no copy and no link', async (t) => {
  const troubled = await troubledStore(t, { cacheSeconds: 0, alter: linksAnything })
  const ref = plant(troubled)
  const locator = Locator.parse(ref)!
  for (let n = 0; n < 3; n++) {
    t.notOk((await troubled.store.get(ref, within(500))).cached)
    t.notOk((await troubled.store.read(locator, within(500))).cached)
  }
  t.equal(troubled.calls.length, 6)
})

t.test('a link is cached for ten seconds at most, a copy for as long as is configured', async (t) => {
  const { now } = performance
  let passed = 0
  t.intercept(performance, 'now', { value: () => now.call(performance) + passed })
  const troubled = await troubledStore(t, { cacheSeconds: 300 })
  const ref = plant(troubled)
  const locator = Locator.parse('apps/acme/db')!
  troubled.kept.set('apps/acme/db', 'old')
  await troubled.store.get(ref, within(500))
  const first = await troubled.store.read(locator, within(500))
  troubled.kept.set('apps/acme/db', 'new')
  passed = 9_000
  const again = await troubled.store.read(locator, within(500))
  t.strictSame([again.cached, again.value.reveal(), again.readAt], [true, 'old', first.readAt])
  passed = 10_001
  t.equal((await troubled.store.read(locator, within(500))).value.reveal(), 'new')
  t.ok((await troubled.store.get(ref, within(500))).cached)
  passed = 300_001
  t.notOk((await troubled.store.get(ref, within(500))).cached)
})

t.test('a link and a copy of the same text never meet', async (t) => {
  const troubled = await troubledStore(t, { alter: linksAnything })
  const ref = plant(troubled)
  await troubled.store.get(ref, within(500))
  t.notOk((await troubled.store.read(Locator.parse(ref)!, within(500))).cached)
})

t.test('what is put or read back is not cached, and reading back does not read the cache', async (t) => {
  const troubled = await troubledStore(t)
  const { store, kept, calls } = troubled
  const ref = plant(troubled)
  await store.put(ref, new Secret('"sent"'), { workspace: 'acme', credential: 'a' }, within(500))
  kept.set(ref, '"cut"')
  t.equal((await store.getBack(ref, within(500))).reveal(), '"cut"')
  t.strictSame((await store.get(ref, within(500))).cached, false)
  kept.set(ref, '"changed"')
  t.equal((await store.getBack(ref, within(500))).reveal(), '"changed"')
  t.equal(calls.length, 4)
})

t.test('what is deleted is not in the cache, also when it was read while it was deleted', async (t) => {
  const troubled = await troubledStore(t)
  const { store, trouble } = troubled
  const read = plant(troubled)
  await store.get(read, within(500))
  await store.delete(read, true, within(500))
  t.equal(await outcome(store.get(read, within(500))), 'not_found')

  const slow = plant(troubled)
  await store.get(slow, within(500))
  const deleting = barrier()
  trouble.onCall = (call) => (call === 'delete' ? deleting.wait() : undefined)
  const deleted = store.delete(slow, false, within(500))
  await rest(5)
  t.notOk((await store.get(slow, within(500))).cached, 'a read that comes between asks the store')
  deleting.open()
  await deleted
  t.equal(await outcome(store.get(slow, within(500))), 'not_found')

  const late = plant(troubled)
  const answering = barrier()
  const answer = store.get(late, within(500))
  trouble.onCall = (call) => (call === 'get' ? answering.wait() : undefined)
  await rest(5)
  await store.delete(late, false, within(500))
  troubled.kept.set(late, '"kept"')
  answering.open()
  t.equal((await answer).value.reveal(), '"kept"', 'a read that began before and ended after')
  troubled.kept.delete(late)
  t.equal(await outcome(store.get(late, within(500))), 'not_found')
})
