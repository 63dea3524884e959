import { setTimeout } from 'node:timers/promises'
import { StoreError } from '../../src/core/secret-store.ts'
import type { Trouble } from './secret-store.ts'
import type { WholeStore } from './troubled-store.ts'
import { altered } from './troubled-store.ts'

/** How a store is broken, the troubles that it is put into, and the test that must fail. */
export interface Broken {
  how: string
  troubles?: Trouble[]
  caughtBy: string
  change(store: WholeStore, trouble: () => Trouble | undefined): WholeStore
}

const EXACTLY = 'what is put comes back exactly'
const MISSING = 'what was never kept is not_found'

/** Stores that are wrong while nothing is wrong with what is behind them. */
export const WRONG_ANSWERS: Broken[] = [
  {
    how: 'truncates long values',
    caughtBy: EXACTLY,
    change: (store) => altered(store, { put: (ref, value) => store.put(ref, value.slice(0, 16_384)) }),
  },
  {
    how: 'loses trailing line breaks',
    caughtBy: EXACTLY,
    change: (store) => altered(store, { get: async (ref) => (await store.get(ref)).replace(/\n+$/, '') }),
  },
  {
    how: 'reads values as Latin-1',
    caughtBy: EXACTLY,
    change: (store) =>
      altered(store, { get: async (ref) => Buffer.from(await store.get(ref)).toString('latin1') }),
  },
  {
    how: 'normalizes Unicode',
    caughtBy: EXACTLY,
    change: (store) => altered(store, { put: (ref, value) => store.put(ref, value.normalize('NFC')) }),
  },
  {
    how: 'parses and writes values anew',
    caughtBy: EXACTLY,
    change: (store) =>
      altered(store, { put: (ref, value) => store.put(ref, JSON.stringify(JSON.parse(value))) }),
  },
  {
    how: 'answers a put before it keeps',
    caughtBy: EXACTLY,
    change: (store) =>
      altered(store, { put: async (ref, value) => void setTimeout(5).then(() => store.put(ref, value)) }),
  },
  {
    how: 'knows refs by their uuid alone',
    caughtBy: 'two refs never meet',
    change: (store) => {
      const short = (ref: string): string => ref.slice(-36)
      return altered(store, {
        put: (ref, value) => store.put(short(ref), value),
        get: (ref) => store.get(short(ref)),
        delete: (ref) => store.delete(short(ref)),
      })
    },
  },
  {
    how: 'cuts long names',
    caughtBy: 'two refs never meet',
    change: (store) => {
      const short = (ref: string): string => ref.slice(0, 50)
      return altered(store, {
        put: (ref, value) => store.put(short(ref), value),
        get: (ref) => store.get(short(ref)),
        delete: (ref) => store.delete(short(ref)),
      })
    },
  },
  {
    how: 'deletes by prefix',
    caughtBy: 'two refs never meet',
    change: (store) => {
      const put = new Set<string>()
      return altered(store, {
        put: (ref, value) => store.put(put.add(ref) && ref, value),
        delete: async (ref) => {
          const under = ref.slice(0, -36)
          for (const other of put) if (other.startsWith(under)) await store.delete(other)
          await store.delete(ref)
        },
      })
    },
  },
  {
    how: 'refuses a second put',
    caughtBy: 'put twice is the same as once',
    change: (store) => {
      const put = new Set<string>()
      return altered(store, {
        put: async (ref, value) => {
          if (put.has(ref)) throw new StoreError('rejected', 'exists')
          await store.put(put.add(ref) && ref, value)
        },
      })
    },
  },
  {
    how: 'refuses puts at the same moment',
    caughtBy: 'put twice is the same as once',
    change: (store) => {
      const busy = new Set<string>()
      return altered(store, {
        put: async (ref, value) => {
          if (busy.has(ref)) throw new StoreError('unavailable', 'conflict')
          busy.add(ref)
          await store.put(ref, value)
          busy.delete(ref)
        },
      })
    },
  },
  {
    how: 'answers an empty string for what is missing',
    caughtBy: MISSING,
    change: (store) => altered(store, { get: (ref) => store.get(ref).catch(() => '') }),
  },
  {
    how: 'answers undefined for what is missing',
    caughtBy: MISSING,
    change: (store) => altered(store, { get: (ref) => store.get(ref).catch(() => undefined as never) }),
  },
  {
    how: 'fails with an error of its own',
    caughtBy: MISSING,
    change: (store) =>
      altered(store, {
        get: (ref) =>
          store.get(ref).catch(() => {
            throw Object.assign(new Error('404'), { fault: 'not_found' })
          }),
      }),
  },
  {
    how: 'deletes nothing',
    caughtBy: 'delete may be repeated',
    change: (store) => altered(store, { delete: async () => {} }),
  },
  {
    how: 'refuses a second delete',
    caughtBy: 'delete may be repeated',
    change: (store) => altered(store, { delete: (ref) => store.get(ref).then(() => store.delete(ref)) }),
  },
  {
    how: 'knows only how to delete for good',
    caughtBy: 'delete may be repeated',
    change: (store) =>
      altered(store, { delete: async (ref, forGood) => void (forGood && (await store.delete(ref))) }),
  },
  {
    how: 'remembers what it has read',
    caughtBy: 'delete for good may be repeated',
    change: (store) => {
      const read = new Map<string, string>()
      return altered(store, {
        get: async (ref) => {
          const value = read.get(ref) ?? (await store.get(ref))
          read.set(ref, value)
          return value
        },
      })
    },
  },
  {
    how: 'reads a copy as a link',
    caughtBy: 'what lies under the prefix is no link',
    change: (store) =>
      altered(store, { read: async (locator) => ({ text: await store.get(locator.toString()) }) }),
  },
  {
    how: 'is never well',
    caughtBy: 'check says whether a get would be accepted',
    change: (store) => altered(store, { check: () => store.get('strongroom/check').then(() => {}) }),
  },
]
