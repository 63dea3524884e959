import { setTimeout } from 'node:timers/promises'
import { StoreError } from '../../src/core/secret-store.ts'
import type { StoreFault } from '../../src/core/secret-store.ts'
import type { WholeStore } from './troubled-store.ts'
import { altered } from './troubled-store.ts'
import type { Broken } from './wrong-answers.ts'

const denied: Pick<Broken, 'troubles' | 'caughtBy'> = {
  troubles: ['deny'],
  caughtBy: 'deny is denied, in time, and tells nothing',
}
const hung: Pick<Broken, 'troubles' | 'caughtBy'> = {
  troubles: ['hang'],
  caughtBy: 'hang is unavailable, in time, and tells nothing',
}

/** The fault of every failing call, changed. */
function renamed(store: WholeStore, from: StoreFault, change: (error: StoreError) => unknown): WholeStore {
  const through =
    <A extends unknown[], R>(call: (...given: A) => Promise<R>) =>
    (...given: A): Promise<R> =>
      call(...given).catch((error: unknown) => {
        throw error instanceof StoreError && error.fault === from ? change(error) : error
      })
  const { put, get, read, delete: remove, check } = store
  return altered(store, {
    put: through(put),
    get: through(get),
    read: through(read),
    delete: through(remove),
    check: through(check),
  })
}

/** A store whose failing put says more than it should. */
function leaking(how: string, into: (error: StoreError, value: string) => unknown): Broken {
  const change = (store: WholeStore): WholeStore =>
    altered(store, {
      put: (ref, value) =>
        store.put(ref, value).catch((error: unknown) => {
          throw into(error as StoreError, value)
        }),
    })
  return { how: `leaks the value ${how}`, ...denied, change }
}

const nested = (value: unknown, depth: number): unknown =>
  depth === 0 ? value : { inner: nested(value, depth - 1) }

/** Stores that fail in another way than they should, or not at all. */
export const WRONG_FAILURES: Broken[] = [
  {
    how: 'is always well',
    ...denied,
    change: (store) => altered(store, { check: async () => {} }),
  },
  {
    how: 'calls denied not_found',
    ...denied,
    change: (store) => renamed(store, 'denied', () => new StoreError('not_found', 'hidden')),
  },
  {
    how: 'calls a denied link not_found',
    ...denied,
    change: (store) =>
      altered(store, { read: renamed(store, 'denied', () => new StoreError('not_found', 'hidden')).read }),
  },
  {
    how: 'swallows what a put fails with',
    ...denied,
    change: (store) => altered(store, { put: (ref, value) => store.put(ref, value).catch(() => {}) }),
  },
  {
    how: 'swallows what a delete fails with',
    ...denied,
    change: (store) => altered(store, { delete: (ref) => store.delete(ref).catch(() => {}) }),
  },
  {
    how: 'stays denied once it was',
    ...denied,
    change: (store, trouble) => {
      let was = false
      return altered(store, {
        get: async (ref) => {
          was ||= trouble() === 'deny'
          if (was) throw new StoreError('denied', 'was denied')
          return store.get(ref)
        },
      })
    },
  },
  {
    how: 'calls throttled unavailable',
    troubles: ['throttle'],
    caughtBy: 'throttle is throttled, in time, and tells nothing',
    change: (store) => renamed(store, 'throttled', () => new StoreError('unavailable', '429')),
  },
  {
    how: 'calls an outage rejected',
    troubles: ['break'],
    caughtBy: 'break is unavailable, in time, and tells nothing',
    change: (store) => renamed(store, 'unavailable', () => new StoreError('rejected', '500')),
  },
  {
    how: 'forgets to time out',
    ...hung,
    change: (store, trouble) =>
      altered(store, {
        get: (ref) => (trouble() === 'hang' ? new Promise<never>(() => {}) : store.get(ref)),
      }),
  },
  {
    how: 'times out late',
    ...hung,
    change: (store, trouble) =>
      altered(store, {
        put: async (ref, value) => {
          if (trouble() === 'hang') await setTimeout(700)
          await store.put(ref, value)
        },
      }),
  },
  leaking('in the message', (_, value) => new StoreError('denied', `403: ${value}`)),
  leaking('in the cause', (error, value) => Object.assign(error, { cause: new Error(value) })),
  leaking('in a hidden property', (error, value) =>
    Object.defineProperty(error, 'config', { value: { data: value }, enumerable: false }),
  ),
  leaking('behind a symbol', (error, value) => Object.assign(error, { [Symbol('body')]: value })),
  leaking('eight levels deep', (error, value) => Object.assign(error, { response: nested(value, 8) })),
  leaking('in a map', (error, value) => Object.assign(error, { headers: new Map([['body', { value }]]) })),
  leaking('as bytes', (error, value) => Object.assign(error, { request: { body: Buffer.from(value) } })),
  leaking('as Base64', (error, value) =>
    Object.assign(error, { body: JSON.stringify({ data: Buffer.from(value).toString('base64') }) }),
  ),
  leaking('in what its class inherits', (error, value) => {
    class Telling extends StoreError {
      get body(): string {
        return value
      }
    }
    return new Telling(error.fault, error.message)
  }),
  leaking('in the middle of a long text', (error, value) =>
    Object.assign(error, { log: `${'.'.repeat(20_000)}${value}` }),
  ),
  leaking('together with a login', (error) =>
    Object.assign(error, { request: { headers: { Authorization: 'Bearer abc' } } }),
  ),
  {
    how: 'refuses a second close',
    caughtBy: 'close twice is the same as once',
    change: (store) => {
      let closed = false
      return altered(store, {
        close: async () => {
          if (closed) throw new StoreError('unavailable', 'closed')
          closed = true
        },
      })
    },
  },
]
