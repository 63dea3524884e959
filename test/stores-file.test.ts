import { join } from 'node:path'
import t from 'tap'
import { memory } from '../providers/memory.ts'
import type { StoreKind } from '../src/core/secret-store.ts'
import type { StoreKinds } from '../src/store-kinds.ts'
import { parseStoresFile, type StoresFile } from '../src/stores-file.ts'

const directory = t.testdir({ token: 'hunter2' })
const tokenFile = join(directory, 'token')

/** As demanding as a kind may be: a choice of logins, files, and flat names whose segments `--` would part. */
const vault: StoreKind = {
  ...memory,
  provider: 'test-vault',
  prefixLengthMax: 40,
  segment: /^[a-z0-9]+(-[a-z0-9]+)*$/,
  settings: {
    required: ['address'],
    properties: {
      address: { type: 'string', format: 'https-url' },
      mount: { type: 'string', pattern: '^[a-z]+$' },
      auth: {
        oneOf: [
          login({ method: { const: 'token' }, token_file: { type: 'string', format: 'file' } }),
          login({ method: { const: 'role' }, role: { type: 'string', minLength: 1 } }),
        ],
      },
    },
  },
}

function login(properties: Record<string, object>): object {
  return { type: 'object', properties, required: Object.keys(properties), additionalProperties: false }
}

const kinds: StoreKinds = {
  'test-vault': { load: async () => vault, place: ['address', 'mount'] },
  plain: {
    load: async () => ({ ...memory, provider: 'plain' }),
    place: [],
    readsPerSecond: 900,
    writesPerSecond: 9,
  },
}

const good = { provider: 'test-vault', address: 'https://vault.internal:8200' }

async function read(file: unknown, deadlineSeconds = 2): Promise<{ file?: StoresFile; faults: string[] }> {
  const bytes = Buffer.from(typeof file === 'string' ? file : JSON.stringify(file))
  return { faults: [], ...(await parseStoresFile(bytes, kinds, deadlineSeconds)) }
}

async function faultsOf(...stores: object[]): Promise<string[]> {
  const named = stores.map((store, index) => [['team-vault', 'other'][index], store])
  return (await read({ stores: Object.fromEntries(named) })).faults
}

t.test('a store that says only what it must has everything else by default', async (t) => {
  const { file, faults } = await read({ stores: { 'team-vault': good, slow: { provider: 'plain' } } })
  t.same(faults, [])
  t.equal(file?.byDefault, 'local')
  t.same(file?.stores[0], {
    name: 'team-vault',
    kind: vault,
    settings: { address: good.address },
    prefix: 'strongroom',
    links: {},
    limits: { concurrency: 32, timeoutMs: 1500 },
    versionsKept: 10,
    cacheSeconds: 300,
  })
  t.same(file?.stores[1]?.limits, {
    concurrency: 32,
    timeoutMs: 1500,
    readsPerSecond: 900,
    writesPerSecond: 9,
  })
})

t.test('what a store says is what it has', async (t) => {
  const auth = { method: 'token', token_file: tokenFile }
  const limits = { concurrency: 4, reads_per_second: 50, writes_per_second: 5, timeout_seconds: 0.25 }
  const links = { acme: ['apps/acme/'], constructor: ['apps/built/', 'old/'] }
  const common = { prefix: 'data/strongroom', links, limits, versions_kept: 3, cache_seconds: 0 }
  const { file, faults } = await read({ default: 'v', stores: { v: { ...good, auth, ...common } } })
  t.same(faults, [])
  t.match(file, {
    byDefault: 'v',
    stores: [
      {
        settings: { address: good.address, auth },
        prefix: 'data/strongroom',
        limits: { concurrency: 4, readsPerSecond: 50, writesPerSecond: 5, timeoutMs: 250 },
        versionsKept: 3,
        cacheSeconds: 0,
      },
    ],
  })
  t.same(Object.entries(file?.stores[0]?.links ?? {}), Object.entries(links))
  t.notOk('provider' in file!.stores[0]!.settings)
})

t.test('a workspace that is named like something that every object has opens no link', async (t) => {
  const { file } = await read({ stores: { v: good } })
  t.equal(file?.stores[0]?.links['constructor'], undefined)
})

t.test('without a limit of its own a store ends its calls before a short deadline', async (t) =>
  t.match(await read({ stores: { v: good } }, 0.4), { file: { stores: [{ limits: { timeoutMs: 300 } }] } }),
)

const wholes: [why: string, file: unknown, fault: RegExp][] = [
  ['no JSON', '{"stores": s3cr3t}', /^names a file that is not a JSON object/],
  ['a list', ['s3cr3t'], /^names a file that is not a JSON object/],
  ['one store twice', '{"stores":{"s3cr3t":{},"s3cr3t":{}}}', /^names a file .*equal names/],
  ['a member beside', { s3cr3t: 1 }, /^has members beside default and stores$/],
  ['stores in a list', { stores: ['s3cr3t'] }, /^\/stores must be an object$/],
  ['a name that is no slug', { stores: { 'S3cr3t!s3cr3t': good } }, /^\/stores has a name that is no slug$/],
  ['local', { stores: { local: { provider: 's3cr3t' } } }, /^\/stores\/local always exists/],
  ['a store that is a text', { stores: { v: 's3cr3t' } }, /^\/stores\/v must be an object$/],
  [
    'an unknown default',
    { default: 's3cr3t', stores: { v: good } },
    /^\/default must be the name of a store/,
  ],
  ['a default by inheritance', { default: 'constructor' }, /^\/default must be the name of a store/],
  ['a default that is no name', { default: ['s3cr3t'] }, /^\/default must be the name of a store/],
]

for (const [why, file, fault] of wholes) {
  t.test(`${why} is refused and not repeated`, async (t) => {
    const { faults, file: parsed } = await read(file)
    t.match(faults[0], fault)
    t.notMatch(faults.join(), /s3cr3t/)
    t.notOk(parsed)
  })
}

const members: [why: string, members: object, fault: string][] = [
  ['no provider', { provider: undefined }, ' lacks provider'],
  ['an unknown provider', { provider: 's3cr3t' }, '/provider must be test-vault or plain'],
  ['an inherited provider', { provider: 'constructor' }, '/provider must be test-vault or plain'],
  ['a provider that is a number', { provider: 7 }, '/provider must be a text'],
  ['an inline token', { token: 's3cr3t' }, ' has a member that is not known there'],
  ['a missing setting', { address: undefined }, ' lacks address'],
  ['a plain address', { address: 'http://s3cr3t:8200' }, '/address must be an https URL'],
  ['an address with a login', { address: 'https://u:s3cr3t@vault' }, '/address must be an https URL'],
  ['an address with a query', { address: 'https://vault/?s3cr3t' }, '/address must be an https URL'],
  ['an address with a fragment', { address: 'https://vault/#s3cr3t' }, '/address must be an https URL'],
  ['an address with a backslash', { address: 'http://localhost\\@s3cr3t/' }, '/address must be an https URL'],
  ['an address in two lines', { address: 'https://va\nult' }, '/address must be an https URL'],
  ['no loopback', { address: 'http://localhost.s3cr3t' }, '/address must be an https URL'],
  ['another form', { mount: 'S3cr3t' }, '/mount must match pattern'],
  [
    'a missing file',
    { auth: { method: 'token', token_file: '/s3cr3t' } },
    '/auth/token_file must be the absolute',
  ],
  [
    'a relative file',
    { auth: { method: 'token', token_file: 'package.json' } },
    '/auth/token_file must be the absol',
  ],
  [
    'a directory',
    { auth: { method: 'token', token_file: directory } },
    '/auth/token_file must be the absolute',
  ],
  [
    'a token inside',
    { auth: { method: 'role', role: 'r', s3cr3t: 1 } },
    '/auth has a member that is not known',
  ],
  [
    'a member of another login',
    { auth: { method: 'role', role: 'r', token_file: tokenFile } },
    '/auth has a member',
  ],
  ['half a login', { auth: { method: 'token' } }, '/auth lacks token_file'],
  ['an unknown login', { auth: { method: 's3cr3t' } }, '/auth/method must be token or role'],
  ['a login that is a text', { auth: 's3cr3t' }, '/auth has none of the forms'],
  ['an empty prefix', { prefix: '' }, '/prefix must be slugs'],
  ['a prefix with a slash behind', { prefix: 's3cr3t/' }, '/prefix must be slugs'],
  ['a prefix upwards', { prefix: 's3cr3t/../x' }, '/prefix must be slugs'],
  ['a prefix too long for the kind', { prefix: 's3cr3t'.repeat(8) }, '/prefix must NOT have more than 40'],
  ['a prefix with a separator', { prefix: 's3cr3t--x' }, '/prefix has a segment that this kind'],
  ['links in a list', { links: ['s3cr3t'] }, '/links must be an object'],
  ['links of no workspace', { links: { 'S3cr3t s3cr3t': 'a' } }, '/links has a name that is no slug'],
  ['a link alone', { links: { acme: 's3cr3t/' } }, '/links/acme must be a list'],
  ['a link without end', { links: { acme: ['a/', 's3cr3t'] } }, '/links/acme/1 must be segments'],
  ['a link to everything', { links: { acme: ['/'] } }, '/links/acme/0 must be segments'],
  ['an empty link', { links: { acme: [''] } }, '/links/acme/0 must be segments'],
  ['a link upwards', { links: { acme: ['s3cr3t/../x/'] } }, '/links/acme/0 must be segments'],
  ['a link in escapes', { links: { acme: ['s3cr3t/%2e%2e/'] } }, '/links/acme/0 must be segments'],
  ['a link twice', { links: { acme: ['a/', 'a/'] } }, '/links/acme must NOT have duplicate'],
  [
    'a link with a separator',
    { links: { acme: ['s3cr3t--x/'] } },
    '/links/acme/0 has a segment that this kind',
  ],
  ['a link to all copies', { links: { acme: ['strongroom/'] } }, '/links/acme/0 overlaps the prefix'],
  ['a link to some copies', { links: { acme: ['strongroom/acme/'] } }, '/links/acme/0 overlaps the prefix'],
  ['a link in capitals', { links: { acme: ['StrongRoom/'] } }, '/links/acme/0 overlaps the prefix'],
  [
    'a link over a prefix',
    { prefix: 'apps/strongroom', links: { acme: ['apps/'] } },
    '/links/acme/0 overlaps the prefix',
  ],
  ['an unknown limit', { limits: { s3cr3t: 1 } }, '/limits has a member that is not known'],
  ['no concurrency', { limits: { concurrency: 1 } }, '/limits/concurrency must be >= 2'],
  [
    'a rate by halves',
    { limits: { reads_per_second: 0.5 } },
    '/limits/reads_per_second must be a whole number',
  ],
  ['no writes', { limits: { writes_per_second: 0 } }, '/limits/writes_per_second must be >= 1'],
  ['no time', { limits: { timeout_seconds: 0 } }, '/limits/timeout_seconds must be >= 0.05'],
  ['time as a text', { limits: { timeout_seconds: '1' } }, '/limits/timeout_seconds must be a number'],
  [
    'time up to the deadline',
    { limits: { timeout_seconds: 2 } },
    '/limits/timeout_seconds must be below STRONG',
  ],
  ['no versions', { versions_kept: 0 }, '/versions_kept must be >= 1'],
  ['too many versions', { versions_kept: 11 }, '/versions_kept must be <= 10'],
  ['a cache too old', { cache_seconds: 86_401 }, '/cache_seconds must be <= 86400'],
]

for (const [why, wrong, fault] of members) {
  t.test(`a store with ${why} is refused by its member and not repeated`, async (t) => {
    const faults = await faultsOf({ ...good, ...wrong })
    t.ok(
      faults.some((one) => one.startsWith(`/stores/team-vault${fault}`)),
      JSON.stringify(faults),
    )
    t.notMatch(faults.join(), /s3cr3t|hunter2|package\.json/i)
    t.notOk(faults.join().includes(directory))
  })
}

const accepted: [what: string, members: object][] = [
  ['an address on loopback', { address: 'http://127.0.0.1:8200' }],
  ['an address on IPv6 loopback', { address: 'http://[::1]:8200/base' }],
  ['an address by name on loopback', { address: 'http://localhost:8200' }],
  ['a prefix of two slugs', { prefix: 'data/strong-room' }],
  ['a link whose name only begins like the prefix', { links: { acme: ['strongroom-apps/'] } }],
  ['two workspaces with one link', { links: { acme: ['shared/'], beta: ['shared/'] } }],
  ['a time just below the deadline', { limits: { timeout_seconds: 1.999 } }],
]

for (const [what, set] of accepted) {
  t.test(`${what} is accepted`, async (t) => t.same(await faultsOf({ ...good, ...set }), []))
}

t.test('a login that is wrong in one thing is told that one thing', async (t) => {
  const faults = await faultsOf({ ...good, auth: { method: 'role', role: '' } })
  t.same(faults, ['/stores/team-vault/auth/role must NOT have fewer than 1 characters'])
})

t.test('faults of all stores and of the whole are told at once', async (t) => {
  const { faults } = await read({
    default: 'nowhere',
    more: 1,
    stores: {
      one: { ...good, prefix: 'No', cache_seconds: -1, limits: { timeout_seconds: 60 } },
      two: { provider: 'nothing', prefix: 'No' },
      local: {},
    },
  })
  const places = faults.map((fault) => fault.split(' ')[0]).sort()
  const one = ['prefix', 'prefix', 'cache_seconds', 'limits/timeout_seconds'].map(
    (name) => `/stores/one/${name}`,
  )
  const two = ['prefix', 'provider'].map((name) => `/stores/two/${name}`)
  t.same(places, ['/default', 'has', '/stores/local', ...one, ...two].sort())
})

t.test('two stores in one place are told apart by their prefixes', async (t) => {
  const fault = ['/stores/other/prefix overlaps that of the store team-vault, which is the same place']
  t.same(await faultsOf(good, good), fault, 'equal')
  t.same(await faultsOf({ ...good, prefix: 'a' }, { ...good, prefix: 'a/b' }), fault, 'nested')
  t.same(await faultsOf({ ...good, prefix: 'a/b' }, { ...good, prefix: 'a' }), fault, 'nested the other way')
  const auth = { method: 'token', token_file: tokenFile }
  t.same(await faultsOf(good, { ...good, auth }), fault, 'with another login')
  t.same(await faultsOf({ ...good, prefix: 'a' }, { ...good, prefix: 'a-b' }), [], 'apart')
  t.same(await faultsOf(good, { ...good, mount: 'other' }), [], 'another mount')
  t.same(await faultsOf(good, { provider: 'plain' }), [], 'another kind')
})

t.test('a link reaches the copies of no store in the file', async (t) => {
  const faults = await faultsOf(
    { ...good, links: { acme: ['copies/x/'] } },
    { provider: 'plain', prefix: 'copies' },
  )
  const [fault] = faults
  t.equal(
    fault,
    '/stores/team-vault/links/acme/0 overlaps the prefix of the store other, whose copies are no links',
  )
})
