import t from 'tap'
import { memory } from '../providers/memory.ts'
import type { LinkReader, SecretStore, StoreKind, StoreOptions } from '../src/core/secret-store.ts'
import { StoreError } from '../src/core/secret-store.ts'
import { StartRefused } from '../src/core/start-refused.ts'
import type { Store } from '../src/core/stores.ts'
import { openStores, type Guard, type GuardOptions } from '../src/open-stores.ts'
import type { StoreSettings } from '../src/stores-file.ts'

/** What was opened and closed of a kind. */
class Watched {
  readonly told: [settings: object, options: StoreOptions][] = []
  readonly closed: string[] = []

  kind(opening?: () => Promise<void>): StoreKind {
    return {
      ...memory,
      provider: 'watched',
      valueBytesMax: 1000,
      open: async (settings, options) => {
        this.told.push([settings, options])
        await opening?.()
        const store = await memory.open({}, options)
        return Object.assign(store, { close: async () => void this.closed.push(options.prefix) })
      },
    }
  }
}

function storeSettings(name: string, kind: StoreKind): StoreSettings {
  return {
    name,
    kind,
    settings: { address: 'https://vault.internal' },
    prefix: `strongroom/${name}`,
    links: { acme: ['apps/acme/'] },
    limits: { concurrency: 4, readsPerSecond: 50, timeoutMs: 750 },
    versionsKept: 3,
    cacheSeconds: 60,
  }
}

/** The least that closes what it guards; the real one has tests of its own. */
const guard: Guard = (provider, options) =>
  ({ ...options, close: () => provider.close(), get: (ref: string) => provider.get(ref) }) as unknown as Store

t.test('a store is opened with its settings and guarded with its limits', async (t) => {
  const watched = new Watched()
  const guarded: GuardOptions[] = []
  const settings = storeSettings('team-vault', watched.kind())
  const stores = await openStores([settings, storeSettings('other', memory)], (provider, options) => {
    guarded.push(options)
    return guard(provider, options)
  })
  t.same(
    stores.map(({ name }) => name),
    ['team-vault', 'other'],
  )
  t.same(watched.told, [
    [{ address: 'https://vault.internal' }, { prefix: 'strongroom/team-vault', timeoutMs: 750 }],
  ])
  t.same(
    guarded.find(({ name }) => name === 'team-vault'),
    {
      name: 'team-vault',
      provider: 'watched',
      prefix: 'strongroom/team-vault',
      links: { acme: ['apps/acme/'] },
      versionsKept: 3,
      valueBytesMax: 1000,
      limits: { concurrency: 4, readsPerSecond: 50, timeoutMs: 750 },
      cacheSeconds: 60,
    },
  )
})

t.test('no store is opened where none is configured', async (t) => t.same(await openStores([], guard), []))

const failures: [why: string, error: unknown, fault: RegExp][] = [
  ['a StoreError', new StoreError('denied', 'the login was refused'), /\(denied: the login was refused\)$/],
  [
    'an SDK that is not there',
    Object.assign(new Error('hunter2'), { code: 'ERR_MODULE_NOT_FOUND' }),
    /\(Error, ERR_MODULE_NOT_FOUND\)$/,
  ],
  ['an error with a telling name', Object.assign(new Error('hunter2'), { name: 'of hunter2' }), /\(unknown/],
  ['no error at all', 'hunter2', /\(unknown fault\)$/],
]

for (const [why, error, fault] of failures) {
  t.test(`a store that fails to open with ${why} is named, and the others are closed again`, async (t) => {
    const watched = new Watched()
    const slow = watched.kind(() => new Promise((resolve) => setTimeout(resolve, 20)))
    const broken = watched.kind(() => Promise.reject(error as Error))
    const opening = openStores(
      [
        storeSettings('one', watched.kind()),
        storeSettings('broken', broken),
        storeSettings('slow', slow),
        storeSettings('also-broken', broken),
      ],
      guard,
    )
    const refused = (await opening.catch((error: unknown) => error)) as StartRefused
    t.ok(refused instanceof StartRefused)
    t.equal(refused.faults.length, 2)
    t.match(refused.faults[0], fault)
    t.match(refused.faults[0], /^STRONGROOM_STORES_FILE: \/stores\/broken cannot be opened/)
    t.match(refused.faults[1], /^STRONGROOM_STORES_FILE: \/stores\/also-broken cannot be opened/)
    t.notMatch(refused.message, /hunter2/)
    t.same(watched.closed.toSorted(), ['strongroom/one', 'strongroom/slow'])
  })
}

t.test('a store that cannot be guarded is closed again with the others', async (t) => {
  const watched = new Watched()
  const choosy: Guard = (provider, options) => {
    if (options.name === 'odd') throw new TypeError('hunter2')
    return guard(provider, options)
  }
  const stores = [storeSettings('odd', watched.kind()), storeSettings('even', watched.kind())]
  await t.rejects(openStores(stores, choosy), {
    message: 'STRONGROOM_STORES_FILE: /stores/odd cannot be opened (TypeError)',
  })
  t.same(watched.closed.toSorted(), ['strongroom/even', 'strongroom/odd'])
})

t.test('a store that cannot be closed again hides neither the fault nor the others', async (t) => {
  const watched = new Watched()
  const stuck: StoreKind = {
    ...memory,
    open: async (settings, options) =>
      Object.assign(await memory.open(settings, options), {
        close: () => Promise.reject(new Error('stuck')),
      }) as SecretStore & LinkReader,
  }
  const broken = watched.kind(() => Promise.reject(new StoreError('unavailable', 'gone')))
  const stores = [
    storeSettings('stuck', stuck),
    storeSettings('b', broken),
    storeSettings('c', watched.kind()),
  ]
  await t.rejects(openStores(stores, guard), {
    message: 'STRONGROOM_STORES_FILE: /stores/b cannot be opened (unavailable: gone)',
  })
  t.same(watched.closed, ['strongroom/c'])
})
