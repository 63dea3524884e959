import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { mintToken } from '../../src/core/token.ts'
import { loopback, runStrongroom, type Seen } from './run-strongroom.ts'

const token = mintToken().text.reveal()
const closedPort = 'http://127.0.0.1:1'

async function leased(value: unknown, args: string[], more: Record<string, string> = {}) {
  const service = await loopback(() => ({ status: 201, body: { lease: { id: 'x' }, value } }))
  const env = { STRONGROOM_URL: service.url, STRONGROOM_TOKEN: token, STRONGROOM_WORKSPACE: 'acme', ...more }
  const ran = await runStrongroom(['lease', 'orders-db', ...args], env)
  service.close()
  return { ...ran, seen: service.seen[0] }
}

async function put(input: string, args: string[], changed = true) {
  const service = await loopback(() => ({ status: 200, body: { name: 'orders-db', version: 3, changed } }))
  const env = { STRONGROOM_URL: service.url, STRONGROOM_TOKEN: token }
  const named = ['put', 'orders-db', '--connector', 'source-postgres', '--workspace', 'acme', ...args]
  const ran = await runStrongroom(named, env, input)
  service.close()
  return { ...ran, seen: service.seen[0] }
}

t.test('lease asks as its options say', async (t) => {
  const options = [
    '--ttl',
    '60',
    '--version',
    '2',
    '--reason',
    'night run',
    '--run-id',
    'r/7',
    '--workspace',
    'other',
  ]
  const { code, seen } = await leased('v', options)
  t.equal(code, 0)
  t.match(seen, { method: 'POST', url: '/v1/workspaces/other/credentials/orders-db/leases' })
  t.equal(seen!.headers.authorization, `Bearer ${token}`)
  t.same(JSON.parse(seen!.body), { ttl_seconds: 60, version: 2, reason: 'night run', run_id: 'r/7' })
})

t.test('lease prints a text as it is and anything else as JSON', async (t) => {
  const value = { password: 'p "1"', port: 5432, 'a/b': [null, ''] }
  t.equal((await leased('p "1"', [])).out, 'p "1"\n')
  t.equal((await leased(value, [])).out, `${JSON.stringify(value)}\n`)
  t.equal((await leased(value, ['--field', '/password'])).out, 'p "1"\n')
  t.equal((await leased(value, ['--field', '/port'])).out, '5432\n')
  t.equal((await leased(value, ['--field', '/a~1b/0'])).out, 'null\n')
  t.equal((await leased(value, ['--field', '/a~1b/1'])).out, '\n')
})

t.test('what answers as no Strongroom does is told so, and nothing is printed of it', async (t) => {
  for (const body of [{}, [], 'text', undefined]) {
    const service = await loopback(() => ({ status: 200, body }))
    const env = { STRONGROOM_URL: service.url, STRONGROOM_ADMIN_URL: service.url, STRONGROOM_TOKEN: token }
    for (const args of [
      ['lease', 'orders-db', '--workspace', 'acme'],
      ['put', 'orders-db', '--connector', 'c', '--workspace', 'acme'],
      ['audit', 'verify'],
    ]) {
      const ran = await runStrongroom(args, env, '1')
      t.match(ran, { code: 69, out: '', err: /^strongroom: \S+ answers 200, and not as Strongroom does\n$/ })
    }
    service.close()
  }
})

t.test('lease fails where the value has no such field, and prints nothing of it', async (t) => {
  for (const field of ['/passwort', '/toString', '/list/length', '/password/0']) {
    const { code, out, err } = await leased({ password: 'hunter2', list: [] }, ['--field', field])
    t.match({ code, out }, { code: 1, out: '' })
    t.notMatch(err, /hunter2/)
  }
})

t.test('put sends standard input as it is, with its labels', async (t) => {
  const args = ['--label', 'team=data', '--label', 'note=a=b', '--store', 'local']
  const { code, out, seen } = await put('{"n":1.50}\n', args)
  t.equal(code, 0)
  t.equal(out, 'orders-db version 3 changed\n')
  t.match(seen, { method: 'PUT', url: '/v1/workspaces/acme/credentials/orders-db' })
  t.match(seen!.body, '{"n":1.50}')
  const labels = { team: 'data', note: 'a=b' }
  t.same(JSON.parse(seen!.body), { value: { n: 1.5 }, connector: 'source-postgres', store: 'local', labels })
})

t.test('put says when nothing changed, and leaves out what was not given', async (t) => {
  const { out, seen } = await put('null', [], false)
  t.equal(out, 'orders-db version 3 unchanged\n')
  t.same(JSON.parse(seen!.body), { value: null, connector: 'source-postgres' })
})

t.test('put --text keeps a plain text without the line break at its end', async (t) => {
  const { seen } = await put('it"s\nhunter2\n', ['--text'])
  t.equal((JSON.parse(seen!.body) as { value: string }).value, 'it"s\nhunter2')
})

t.test('put refuses what is not JSON, calls nobody, and does not repeat it', async (t) => {
  const { code, err, seen } = await put('hunter2', [])
  t.equal(code, 2)
  t.match(err, /not JSON/)
  t.notMatch(err, /hunter2/)
  t.notOk(seen)
})

t.test('a problem is one line and a line for each fault', async (t) => {
  const errors = [{ pointer: '/reason', detail: 'is too long\u001b[2J' }]
  const body = { code: 'invalid_request', detail: 'Not so', errors }
  const service = await loopback(() => ({ status: 400, body }))
  t.teardown(service.close)
  const env = { STRONGROOM_URL: service.url, STRONGROOM_TOKEN: token, STRONGROOM_WORKSPACE: 'acme' }
  const { code, out, err } = await runStrongroom(['lease', 'db'], env)
  t.match({ code, out }, { code: 1, out: '' })
  t.equal(err, 'strongroom: invalid_request: Not so\n  /reason: is too long [2J\n')
})

t.test('a service that is not there is 69', async (t) => {
  const env = { STRONGROOM_URL: closedPort, STRONGROOM_TOKEN: token, STRONGROOM_WORKSPACE: 'acme' }
  const { code, err } = await runStrongroom(['lease', 'db'], env)
  t.match({ code, err }, { code: 69, err: /cannot be reached \(ECONNREFUSED\)/ })
  t.notMatch(err, token)
})

t.test('a redirect is not followed and a proxy is not used', async (t) => {
  const thief = await loopback(() => ({ status: 200, body: {} }))
  const headers = { location: `${thief.url}/v1/x`, 'content-type': 'text/html' }
  const service = await loopback(() => ({ status: 307, headers }))
  t.teardown(() => [thief.close(), service.close()])
  const proxy = { NODE_USE_ENV_PROXY: '1', HTTP_PROXY: thief.url, http_proxy: thief.url }
  const env = { STRONGROOM_URL: service.url, STRONGROOM_TOKEN: token, STRONGROOM_WORKSPACE: 'acme', ...proxy }
  const { code, err } = await runStrongroom(['lease', 'db'], env)
  t.match({ code, err }, { code: 69, err: /answers 307/ })
  t.equal(service.seen.length, 1)
  t.equal(thief.seen.length, 0)
})

t.test('without a token nobody is called, though the data directory has one', async (t) => {
  const directory = t.testdir({ 'admin.token': token })
  const { code, err } = await runStrongroom(['lease', 'db', '--workspace', 'w'], {
    STRONGROOM_DATA_DIR: directory,
  })
  t.match({ code, err }, { code: 78, err: /STRONGROOM_TOKEN: is not set/ })
})

t.test('without a workspace it says how to name one', async (t) => {
  const { code, err } = await runStrongroom(['lease', 'db'], { STRONGROOM_TOKEN: token })
  t.match({ code, err }, { code: 2, err: /--workspace or STRONGROOM_WORKSPACE/ })
})

const hash = (digit: string) => digit.repeat(64)

async function verify(args: string[], answer: object, more: Record<string, string> = {}) {
  const admin = await loopback(() => ({ status: 200, body: answer }))
  const directory = join(t.testdirName, 'data')
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'admin.token'), `${token}\n`)
  const env = { STRONGROOM_ADMIN_URL: admin.url, STRONGROOM_DATA_DIR: directory, ...more }
  const ran = await runStrongroom(['audit', 'verify', ...args], env)
  admin.close()
  return { ...ran, seen: admin.seen[0] as Seen }
}

const sound = { stream: 'a', events: 12, head: { stream: 'a', sequence: 12, hash: hash('1') }, valid: true }
t.testdir({})

t.test('audit verify shows each stream, by the token of the data directory', async (t) => {
  const { code, out, seen } = await verify(['--from', '2026-01-01T00:00:00Z'], {
    valid: true,
    anchored: false,
    streams: [sound],
  })
  t.equal(code, 0)
  t.match(out, /^a +12 +holds$/m)
  t.match(seen, { method: 'GET', url: '/v1/admin/audit/verify?from=2026-01-01T00%3A00%3A00Z' })
  t.equal(seen.headers.authorization, `Bearer ${token}`)
})

t.test('audit verify ends with 1 and names the place where a chain is broken', async (t) => {
  const streams = [sound, { stream: 'b', events: 4, valid: false, first_bad: 3 }]
  const { code, out } = await verify([], { valid: false, anchored: false, streams })
  t.equal(code, 1)
  t.match(out, /^b +4 +broken at 3$/m)
})

t.test('audit verify takes the newest heads from a log, and contradicting ones both', async (t) => {
  const line = (...heads: object[]) => JSON.stringify({ level: 'info', msg: 'audit heads', heads })
  const log = join(t.testdir({}), 'log')
  const older = line(
    { stream: 'a', sequence: 3, hash: hash('3') },
    { stream: 'b', sequence: 1, hash: hash('b') },
  )
  const newer = line({ stream: 'a', sequence: 9, hash: hash('9') })
  const contradicting = line({ stream: 'a', sequence: 9, hash: hash('8') })
  writeFileSync(log, ['starting…', older, newer, older, contradicting, '{"torn'].join('\n'))
  const { code, seen } = await verify(['--heads', log], { valid: true, anchored: true, streams: [sound] })
  t.equal(code, 0)
  t.equal(seen.method, 'POST')
  t.same(JSON.parse(seen.body), {
    heads: [
      { stream: 'a', sequence: 9, hash: hash('9') },
      { stream: 'a', sequence: 9, hash: hash('8') },
      { stream: 'b', sequence: 1, hash: hash('b') },
    ],
  })
})

t.test('audit verify takes heads from one JSON document, and fails when they do not hold', async (t) => {
  const heads = [{ stream: 'a', sequence: 9, hash: hash('9') }]
  const file = join(t.testdir({ heads: JSON.stringify({ heads }, null, 2) }), 'heads')
  const { code, seen } = await verify(['--heads', file], { valid: true, anchored: false, streams: [sound] })
  t.equal(code, 1)
  t.same(JSON.parse(seen.body), { heads })
})

t.test('a file without heads anchors nothing and is refused', async (t) => {
  const file = join(t.testdir({ log: '{"msg":"hello"}\n' }), 'log')
  const { code, err } = await verify(['--heads', file], {})
  t.match({ code, err }, { code: 2, err: /without heads/ })
})
