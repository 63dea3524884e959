import { spawn } from 'node:child_process'
import { chmodSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { RotationClient, type Run } from '../../src/cli/rotation-client.ts'
import { rotationView } from '../../src/cli/rotation-progress.ts'
import { Pace, startProgress } from '../../src/cli/run-progress.ts'
import { ServiceClient } from '../../src/cli/service-client.ts'
import { FernetKey } from '../../src/core/fernet.ts'
import { Keyring, parseKeyLines } from '../../src/core/keyring.ts'
import { Secret } from '../../src/core/secret.ts'
import { mintToken } from '../../src/core/token.ts'
import { startService } from '../chaos/service-process.ts'
import { temporaryDirectory } from '../leftovers.ts'
import { fakeScreen, fakeTerminal } from './fake-terminal.ts'
import { loopback, runStrongroom, type Seen } from './run-strongroom.ts'

const directory = join(temporaryDirectory(t), 'data')
const keysFile = join(directory, 'keys')
const service = await startService(t, { STRONGROOM_DATA_DIR: directory })
const env = { STRONGROOM_DATA_DIR: directory, STRONGROOM_ADMIN_URL: service.adminUrl }
const admin = new ServiceClient(
  service.adminUrl,
  new Secret(readFileSync(join(directory, 'admin.token'), 'utf8').trim()),
)
const rotations = new RotationClient(admin)
const put = async (path: string, body: object) =>
  admin.call('PUT', `/v1/admin/${path}`, new Secret(JSON.stringify(body)))

const grants = [{ actions: ['credential:*', 'lease:*'], workspaces: ['*'] }]
await put('workspaces/acme', {})
await put('roles/worker', { grants })
await put('identities/worker', { roles: ['worker'] })
const issued = await admin.call('POST', '/v1/admin/identities/worker/tokens')
const worker = {
  STRONGROOM_URL: service.serviceUrl,
  STRONGROOM_TOKEN: (issued.body as { token: string }).token,
  STRONGROOM_WORKSPACE: 'acme',
}
for (const name of ['a', 'b', 'c'])
  await runStrongroom(['put', name, '--connector', 'source-postgres'], worker, `"value of ${name}"`)

const ids = (file = keysFile) => Keyring.parse(parseKeyLines(readFileSync(file, 'utf8'))).ids()
const beside = () => readdirSync(directory).filter((name) => name.startsWith('keys.'))
const linesOf = (out: string) =>
  out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

t.test('--generate makes the key, moves everything onto it, and names the one that may go', async (t) => {
  const before = readFileSync(keysFile, 'utf8')
  const [oldId] = ids()
  const { code, out, err } = await runStrongroom(['rotate-keys', '--generate'], env)
  t.equal(code, 0, err)
  const [newId, ...others] = ids()
  t.strictSame(others, [oldId])
  t.ok(
    FernetKey.parse(readFileSync(keysFile, 'utf8').split('\n')[0]!),
    'the first line is the key and no more',
  )
  t.equal(statSync(keysFile).mode & 0o777, 0o600)
  const [kept, ...rest] = beside()
  t.strictSame(rest, [], 'nothing else is left behind')
  t.match(kept, /^keys\.before-\d{8}T\d+Z$/)
  t.equal(readFileSync(join(directory, kept!), 'utf8'), before)
  t.equal(statSync(join(directory, kept!)).mode & 0o777, 0o600)
  t.match(linesOf(out).at(-1), { state: 'done', to_key: newId, total: 3, moved: 3, failed: 0, failures: [] })
  t.match(err, `  ${oldId}  line 2 of ${keysFile}\n`)
  t.match(
    await rotations.keys(),
    [
      { id: newId, copies: 3 },
      { id: oldId, copies: 0 },
    ].toSorted(byId),
  )
  const text = readFileSync(keysFile, 'utf8')
  for (const key of parseKeyLines(text)) t.notMatch(out + err, key, 'no key is printed')
})

const byId = (one: { id: string | undefined }, other: { id: string | undefined }) =>
  one.id! < other.id! ? -1 : 1

t.test('when the old key is gone from the file, everything still opens', async (t) => {
  const [newKey] = parseKeyLines(readFileSync(keysFile, 'utf8'))
  writeFileSync(keysFile, `${newKey}\n`)
  const until = Date.now() + 5000
  while ((await rotations.keys()).length > 1 && Date.now() < until)
    await new Promise((go) => setTimeout(go, 100))
  t.equal((await rotations.keys()).length, 1)
  for (const name of ['a', 'b', 'c'])
    t.equal((await runStrongroom(['lease', name], worker)).out, `value of ${name}\n`)
})

t.test('where nothing is to be moved it is done at once, and nothing is to be removed', async (t) => {
  const { code, out, err } = await runStrongroom(['rotate-keys', '--to', ids()[0]!], env)
  t.equal(code, 0)
  t.match(linesOf(out).at(-1), { state: 'done', total: 0 })
  t.match(err, /nothing is to be removed/)
})

t.test('--follow shows a rotation again', async (t) => {
  const { code, err } = await runStrongroom(
    ['rotate-keys', '--follow', '0190a1b2-0000-7000-8000-000000000000'],
    env,
  )
  t.match({ code, err }, { code: 1, err: /not_found/ })
  const run = await rotations.start(ids()[0])
  const { code: done, out } = await runStrongroom(['rotate-keys', '--follow', run.id], env)
  t.equal(done, 0)
  t.match(linesOf(out).at(-1), { id: run.id, state: 'done' })
})

t.test('a key that no process knows is refused by its name', async (t) => {
  const { code, err } = await runStrongroom(['rotate-keys', '--to', '0'.repeat(32)], env)
  t.match({ code, err }, { code: 1, err: /unknown_name[^]*\/to_key/ })
})

for (const [what, prepare, says] of [
  [
    'that holds other keys than the service',
    (file: string) => write(file, FernetKey.generate().text.reveal()),
    /service knows/,
  ],
  ['that is a link', (file: string) => symlinkSync(keysFile, file), /is a link, as a mounted secret is/],
  ['that is not there', () => {}, /cannot be changed \(ENOENT\)/],
  ['that is no keys file', (file: string) => write(file, 'hunter2'), /has not the form/],
  [
    'at which another one works',
    (file: string) => (write(file, ''), write(`${file}.next`, '')),
    /another rotate-keys/,
  ],
] as const) {
  t.test(`--generate refuses a file ${what}, and changes nothing`, async (t) => {
    const where = t.testdir({})
    const file = join(where, 'file')
    prepare(file)
    const before = readdirSync(where)
    const { code, out, err } = await runStrongroom(['rotate-keys', '--generate'], {
      ...env,
      STRONGROOM_KEYS_FILE: file,
    })
    t.match({ code, out, err }, { code: 78, out: '', err: says })
    t.notMatch(err, /hunter2/)
    t.strictSame(readdirSync(where), before)
  })
}

function write(file: string, text: string): void {
  writeFileSync(file, text)
  chmodSync(file, 0o600)
}

t.test('--generate is refused where the keys stand in a variable', async (t) => {
  const { code, err } = await runStrongroom(['rotate-keys', '--generate'], {
    ...env,
    STRONGROOM_KEYS: FernetKey.generate().text.reveal(),
  })
  t.match({ code, err }, { code: 78, err: /roll a key out by hand[^]*STRONGROOM_KEYS holds the keys/ })
})

t.test('with two processes --generate is refused, names them, and says how to roll a key out', async (t) => {
  const before = readFileSync(keysFile, 'utf8')
  const second = await startService(t, { STRONGROOM_DATA_DIR: directory })
  const { code, out, err } = await runStrongroom(['rotate-keys', '--generate'], env)
  t.match({ code, out }, { code: 1, out: '' })
  t.match(err, /2 are registered: \S+:\d+ \S+, \S+:\d+ \S+/)
  t.match(err, /strongroom rotate-keys --to KEY_ID/)
  t.equal(readFileSync(keysFile, 'utf8'), before)
  t.same(await second.end('SIGTERM'), { code: 0, signal: null })
})

const token = mintToken().text.reveal()
const running: Run = {
  id: '0190a1b2-0000-7000-8000-000000000009',
  state: 'running',
  to_key: 'f'.repeat(32),
  total: 1000,
  moved: 100,
  skipped: 0,
  failed: 0,
  started_at: '2030-01-01T00:00:00.000Z',
  failures: [],
}

/** A service whose rotation is `run`, as often as one looks. */
async function serving(run: () => { status: number; body?: unknown }) {
  const at = await loopback(({ method, url }: Seen) => {
    if (method === 'POST') return { status: 202, body: running }
    if (url.startsWith('/v1/admin/keys')) return { status: 200, body: { items: [], next: null } }
    return run()
  })
  return { ...at, env: { STRONGROOM_ADMIN_URL: at.url, STRONGROOM_TOKEN: token } }
}

t.test('copies that failed are listed, no key may go, and the exit code is 1', async (t) => {
  const failures = [{ workspace: 'acme', credential: 'orders-db', version: 3, code: 'copy_unreadable' }]
  const failed = {
    ...running,
    state: 'failed',
    failed: 101,
    failures,
    finished_at: '2030-01-01T00:01:00.000Z',
  }
  const { env, close } = await serving(() => ({ status: 200, body: failed }))
  t.teardown(close)
  const { code, out, err } = await runStrongroom(['rotate-keys'], env)
  t.equal(code, 1)
  t.match(err, /No key may go[^]*^ {2}acme\/orders-db version 3: copy_unreadable\n {2}and 100 more/m)
  t.match(linesOf(out).at(-1), { state: 'failed', failures })
})

t.test('^C leaves the rotation running and says how to follow it again', async (t) => {
  const { env, seen, close } = await serving(() => ({ status: 200, body: { ...running, moved: 200 } }))
  t.teardown(close)
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, '../../bin/strongroom.js'), 'rotate-keys'],
    { env },
  )
  let [out, err] = ['', '']
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
    if (!child.killed && linesOf(out).length >= 3) child.kill('SIGINT')
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  t.equal(code, 1)
  t.match(err, `follow it with strongroom rotate-keys --follow ${running.id}\n`)
  t.notOk(seen.some(({ url }) => url.endsWith('/cancel')))
})

t.test('a service that is away for a moment does not end the looking', async (t) => {
  let looks = 0
  const unavailable = { status: 503, body: { code: 'unavailable', detail: 'Not now' } }
  const done = { ...running, state: 'done', moved: 1000, finished_at: '2030-01-01T00:01:00.000Z' }
  const { env, close } = await serving(() => (looks++ < 1 ? unavailable : { status: 200, body: done }))
  t.teardown(close)
  const { code, err } = await runStrongroom(['rotate-keys'], env)
  t.match({ code, err }, { code: 0, err: /Done in 1 min 0 s: 1000 copies moved/ })
})

t.test('a rotation that runs already is named, to be followed', async (t) => {
  const at = await loopback(({ method }) =>
    method === 'POST'
      ? { status: 409, body: { code: 'already_running', detail: 'A rotation is running' } }
      : { status: 200, body: { items: [running], next: null } },
  )
  t.teardown(at.close)
  const { code, err } = await runStrongroom(['rotate-keys'], {
    STRONGROOM_ADMIN_URL: at.url,
    STRONGROOM_TOKEN: token,
  })
  t.match(
    { code, err },
    { code: 1, err: `already_running: follow it with strongroom rotate-keys --follow ${running.id}` },
  )
})

t.test('a service that is not there is 69, and without a token it is 78', async (t) => {
  const away = { STRONGROOM_ADMIN_URL: 'http://127.0.0.1:1', STRONGROOM_TOKEN: token }
  t.equal((await runStrongroom(['rotate-keys'], away)).code, 69)
  t.equal((await runStrongroom(['rotate-keys', '--generate'], away)).code, 69)
  const nobody = { STRONGROOM_ADMIN_URL: service.adminUrl, STRONGROOM_DATA_DIR: t.testdir({}) }
  t.equal((await runStrongroom(['rotate-keys'], nobody)).code, 78)
})

for (const args of [
  ['--generate', '--to', 'f'.repeat(32)],
  ['--to', 'no-id'],
  ['--follow', '../keys'],
  ['now'],
]) {
  t.test(`rotate-keys ${args.join(' ')} is wrong usage`, async (t) => {
    t.equal((await runStrongroom(['rotate-keys', ...args])).code, 2)
  })
}

t.test('the speed is that of the last looks, and what is left follows from it', async (t) => {
  const pace = new Pace(rotationView)
  t.match(pace.lineOf(running, 0), { rate_per_second: 0 })
  t.match(pace.lineOf({ ...running, moved: 300 }, 2000), { rate_per_second: 100, left_seconds: 7 })
  for (let second = 3; second < 20; second++) pace.lineOf({ ...running, moved: 300 }, second * 1000)
  t.notOk('left_seconds' in pace.lineOf({ ...running, moved: 300 }, 20_000), 'it stands still')
  const finished_at = '2030-01-01T00:00:10.000Z'
  t.match(pace.lineOf({ ...running, state: 'done', moved: 1000, finished_at }), { rate_per_second: 100 })
})

t.test('on a terminal there is a bar with rate, time left and failures', async (t) => {
  const { screen, drawn } = fakeScreen()
  const { terminal, out } = fakeTerminal()
  const progress = await startProgress({ ...terminal, screen }, rotationView)
  progress.show(running)
  await new Promise((resolve) => setTimeout(resolve, 150))
  progress.show({ ...running, moved: 500, failed: 2 })
  progress.end()
  t.match(drawn(), /10% {2}100 of 1000 copies/)
  t.match(drawn(), /50% {2}502 of 1000 copies {2}\d+\/s {2}\d+ s left {2}2 failed/)
  t.equal(out(), '')
})
