import t from 'tap'
import { Locator } from '../../src/core/locator.ts'
import type { StoreFault } from '../../src/core/secret-store.ts'
import { conforms, endsByTime, failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import type { Trouble } from '../conformance/secret-store.ts'
import type { ForgedReply, VaultServerOptions } from './hashicorp-vault-server.ts'
import { beginTrial, HASTY_MS, makeTrial } from './hashicorp-vault-trial.ts'

const TROUBLES: Trouble[] = ['deny', 'throttle', 'break', 'hang', 'drip', 'refuse-connections']
const OWNER = { workspace: 'acme', credential: 'orders-db' }

const make = (trouble?: Trouble, options?: VaultServerOptions) =>
  makeTrial(options, endsByTime(trouble) ? HASTY_MS : undefined)

conforms(t, { name: 'hashicorp-vault', troubles: TROUBLES, make: (_, trouble) => make(trouble) })

conforms(t, {
  name: 'hashicorp-vault by approle, in a namespace',
  troubles: TROUBLES,
  make: (_, trouble) =>
    make(trouble, { method: 'approle', mount: 'kv/team', namespace: 'data', times: { ttl: 3600 } }),
})

t.test('the value lies as plain text in one field, and its owner beside it', async (t) => {
  const { store, server } = await beginTrial(t)
  const ref = mint({ prefix: 'strongroom' })
  await store.put(ref, MARKED, OWNER)
  const entry = server.kv.entries.get(ref)!
  t.same(entry.versions.at(-1)!.data, { value: MARKED })
  t.same(entry.custom, OWNER)
})

t.test('a label that is refused or never answered fails no put', async (t) => {
  const { store, server } = await beginTrial(t, {}, 1_000)
  const ref = mint({ prefix: 'strongroom' })
  server.forge = (request) => (/^POST .*metadata/.test(request) ? { status: 403 } : undefined)
  await store.put(ref, MARKED, OWNER)
  t.equal(await store.get(ref), MARKED)
  await store.put(ref, MARKED, { workspace: 'acme', credential: 'x'.repeat(600) })
  server.forge = (request) =>
    /^POST .*metadata/.test(request) ? { status: 200, body: '{', hold: true } : undefined
  const beganAt = performance.now()
  await store.put(mint({ prefix: 'strongroom' }), MARKED, OWNER)
  t.ok(performance.now() - beganAt < 10_000)
})

t.test(
  'put twice makes one version, also when the first answer was lost; another value is rejected',
  async (t) => {
    const { store, server } = await beginTrial(t)
    const ref = mint({ prefix: 'strongroom' })
    await store.check()
    server.onCall = (_call, moment) => {
      if (moment === 'before') return
      server.onCall = undefined
      throw new Error('the answer is lost')
    }
    await failsAs(t, 'unavailable', () => store.put(ref, MARKED))
    await store.put(ref, MARKED)
    await Promise.all([store.put(ref, MARKED), store.put(ref, MARKED)])
    t.equal(server.kv.entries.get(ref)!.versions.length, 1)
    await failsAs(t, 'rejected', () => store.put(ref, '"other"'))
    t.equal(await store.get(ref), MARKED)
  },
)

t.test('what an operator marked as deleted is not found, takes no put, and goes with a delete', async (t) => {
  const { store, server } = await beginTrial(t)
  const ref = mint({ prefix: 'strongroom' })
  await store.put(ref, MARKED)
  server.kv.mark(ref)
  t.same(server.recoverable(), [ref])
  await failsAs(t, 'not_found', () => store.get(ref))
  await failsAs(t, 'rejected', () => store.put(ref, MARKED))
  await store.delete(ref)
  t.same([server.kept(), server.recoverable(), [...server.kv.entries]], [[], [], []])
  await store.put(ref, MARKED)
  t.equal(await store.get(ref), MARKED)
})

t.test('delete leaves no version that could be brought back, whether for good or not', async (t) => {
  const { store, server } = await beginTrial(t)
  for (const forGood of [false, true]) {
    const ref = mint({ prefix: 'strongroom' })
    await store.put(ref, MARKED, OWNER)
    t.same(server.kept(), [ref])
    await store.delete(ref, forGood)
    t.equal(server.kv.entries.size, 0)
  }
})

t.test(
  'a mount that is missing, another namespace, or version 1 of the engine is no empty store',
  async (t) => {
    const { store, server, prefix } = await beginTrial(t)
    const ref = mint({ prefix })
    for (const reason of [
      'no handler for route "secret/data/x". route entry not found.',
      'namespace not found',
    ]) {
      server.forge = () => ({ status: 404, body: JSON.stringify({ errors: [reason] }) })
      for (const act of [() => store.get(ref), () => store.delete(ref), () => store.check()])
        await failsAs(t, 'rejected', act, reason)
    }
    const kept: string[] = []
    server.forge = (request) => {
      if (!request.includes('sys/internal')) kept.push(request)
      return { status: 200, body: JSON.stringify({ data: { type: 'kv', options: null } }) }
    }
    await failsAs(t, 'rejected', () => store.put(ref, MARKED))
    await failsAs(t, 'rejected', () => store.check())
    t.same(
      kept.filter((request) => !request.includes('lookup-self')),
      [],
      'nothing was sent to version 1',
    )
    server.forge = () => ({
      status: 200,
      body: JSON.stringify({ data: { data: { value: MARKED }, options: {} } }),
    })
    await failsAs(t, 'rejected', () => store.get(ref))
  },
)

t.test('text that could leave the prefix is refused before anything is sent', async (t) => {
  const { store, server } = await beginTrial(t)
  const uuid = '0198c2a4-1111-7000-8000-000000000000'
  const refs = [
    '',
    'strongroom',
    'strongroom/',
    'other/acme/x',
    'strongroom-evil/acme/x',
    `/strongroom/${uuid}`,
  ]
  for (const odd of ['..', '.', '%2e%2e', '', 'a?b', 'a#b', 'a b', 'A', 'a\\b', 'a;b', '&#x2F;', 'é', 'a\n'])
    refs.push(`strongroom/${odd}/${uuid}`, `strongroom/acme/${odd}`)
  for (const ref of refs) {
    await failsAs(t, 'rejected', () => store.get(ref), `get ${JSON.stringify(ref)}`)
    await failsAs(t, 'rejected', () => store.put(ref, MARKED, OWNER), `put ${JSON.stringify(ref)}`)
    await failsAs(t, 'rejected', () => store.delete(ref, true), `delete ${JSON.stringify(ref)}`)
  }
  for (const path of [
    'apps/../strongroom',
    'apps/%2e%2e/x',
    'apps//x',
    '/apps',
    '',
    `strongroom/acme/${uuid}`,
    'a/..',
  ]) {
    const forged = { toString: () => path, segments: path.split('/') } as unknown as Locator
    await failsAs(t, 'rejected', () => store.read(forged), `read ${path}`)
  }
  t.same(server.requests, [])
})

t.test(
  'a link holds all members as they are, says its version, and is not found where only its path is like it',
  async (t) => {
    const { store, server } = await beginTrial(t)
    await server.plant('apps/a.b/c_d', '{"b":1.5,"a":{"n":null},"value":"x"}')
    await server.plant('apps/a.b/c_d', '{"b":2,"a":""}')
    t.same(await store.read(Locator.parse('apps/a.b/c_d')!), { text: '{"b":2,"a":""}', version: '2' })
    await failsAs(t, 'not_found', () => store.read(Locator.parse('apps/sys/health')!))
    server.kv.mark('apps/a.b/c_d')
    await failsAs(t, 'not_found', () => store.read(Locator.parse('apps/a.b/c_d')!))
    await failsAs(t, 'denied', () => store.read(Locator.parse('elsewhere/c')!))
  },
)

const HTML = '<html>MARKED-d41d8cd98f00b204-MARKED</html>'
const said = (error: string): string =>
  JSON.stringify({ errors: [`${error} MARKED-d41d8cd98f00b204-MARKED`] })
const FAULTS: [string, StoreFault, ForgedReply][] = [
  ['nothing kept', 'not_found', { status: 404, body: '{"errors":[]}' }],
  ['a page that is not found', 'rejected', { status: 404, body: HTML }],
  ['an empty 404', 'rejected', { status: 404 }],
  ['400', 'rejected', { status: 400, body: said('bad') }],
  [
    'a mount in its first seconds',
    'unavailable',
    {
      status: 400,
      body: said('Upgrading from non-versioned to versioned data. This backend will be unavailable'),
    },
  ],
  ['401', 'denied', { status: 401, body: HTML }],
  ['403', 'denied', { status: 403, body: said('permission denied') }],
  ['405', 'rejected', { status: 405, body: said('unsupported operation') }],
  ['412, a standby behind', 'unavailable', { status: 412, body: said('required index state not present') }],
  ['413', 'rejected', { status: 413 }],
  ['an unknown 4xx', 'rejected', { status: 418, body: HTML }],
  ['429', 'throttled', { status: 429, body: said('rate limit quota exceeded') }],
  ['500', 'unavailable', { status: 500, body: said('internal error') }],
  ['502', 'unavailable', { status: 502, body: HTML }],
  ['503, sealed', 'unavailable', { status: 503, body: said('Vault is sealed') }],
  ['an unknown 5xx', 'unavailable', { status: 599 }],
  ['another success', 'unavailable', { status: 202, body: '{"data":{}}' }],
  ['a page', 'unavailable', { status: 200, headers: { 'content-type': 'text/html' }, body: HTML }],
  [
    'half an answer',
    'unavailable',
    { status: 200, body: `{"data":{"data":{"value":${JSON.stringify(MARKED)}`, cut: true },
  ],
  [
    'half a JSON text',
    'unavailable',
    { status: 200, body: `{"data":{"data":{"value":${JSON.stringify(MARKED)}` },
  ],
  ['an array', 'unavailable', { status: 200, body: '["d41d8cd98f00b204"]' }],
  [
    'no UTF-8',
    'unavailable',
    { status: 200, body: Buffer.from('{"data":{"data":{"value":"\xff"}}}', 'latin1') },
  ],
  [
    'too much',
    'rejected',
    { status: 200, body: `{"data":{"data":{"value":"${'x'.repeat(1_100_000)}"},"metadata":{"version":1}}}` },
  ],
  ['nothing', 'rejected', { status: 200, body: '{}' }],
  ['no value', 'rejected', { status: 200, body: '{"data":{"data":{},"metadata":{"version":1}}}' }],
  [
    'a value that is no text',
    'rejected',
    { status: 200, body: '{"data":{"data":{"value":{"a":1}},"metadata":{"version":1}}}' },
  ],
  ['no content', 'rejected', { status: 204 }],
]

for (const [what, fault, reply] of FAULTS) {
  t.test(`a get that is answered by ${what} is ${fault}`, async (t) => {
    const { store, server, prefix } = await beginTrial(t)
    server.forge = (request) => (request.includes('/data/') ? reply : undefined)
    await failsAs(t, fault, () => store.get(mint({ prefix })))
  })
}
