import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { homeOf } from '../src/postgres/embedded-place.ts'
import { runStrongroom } from './cli/run-strongroom.ts'
import { temporaryDirectory } from './leftovers.ts'
import type { Sources } from './traces.ts'
import { mark, markOf, tracesIn } from './traces.ts'

// Promise 2 in a process of its own: what it prints, and every file that it and its PostgreSQL leave behind.

const root = join(import.meta.dirname, '..')

async function startProcess(dataDirectory: string) {
  const env = {
    STRONGROOM_DATA_DIR: dataDirectory,
    STRONGROOM_LISTEN: '127.0.0.1:0',
    STRONGROOM_ADMIN_LISTEN: '127.0.0.1:0',
    STRONGROOM_LOG_LEVEL: 'trace',
    STRONGROOM_DEADLINE_SECONDS: '15',
  }
  const child = spawn(process.execPath, [join(root, 'bin/strongroom.js'), 'serve'], { cwd: root, env })
  const ended = once(child, 'exit')
  let said = ''
  const urls = await new Promise<string[]>((resolve, reject) => {
    const hear = (text: string): void => {
      said += text
      const found = /listens on (\S+)\n.*operators on\s+(\S+)\n/.exec(said)
      if (found) resolve(found.slice(1))
    }
    child.stdout.setEncoding('utf8').on('data', hear)
    child.stderr.setEncoding('utf8').on('data', hear)
    void ended.then(() => reject(new Error('The service did not start')))
  })
  const stop = async (): Promise<unknown> => {
    child.kill('SIGINT')
    return (await ended)[0]
  }
  return { serviceUrl: urls[0]!, adminUrl: urls[1]!, said: () => said, stop }
}

function filesIn(directory: string, except: readonly string[] = []): Sources {
  const paths = globSync('**/*', { cwd: directory }).filter((path) =>
    statSync(join(directory, path)).isFile(),
  )
  const read = paths.filter((path) => !except.includes(path))
  return Object.fromEntries(read.map((path) => [path, readFileSync(join(directory, path))]))
}

t.test('neither what a process prints nor a file of its database or its own holds a value', async (t) => {
  const parent = temporaryDirectory(t)
  const dataDirectory = join(parent, 'data')
  const service = await startProcess(dataDirectory)
  t.teardown(() => service.stop())
  const kept = mark('a value')
  const refused = mark('what is refused')
  const adminToken = readFileSync(join(dataDirectory, 'admin.token'), 'utf8').trim()
  const ask = async (url: string, method: string, token: string, body?: string) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const answer = await fetch(url, { method, headers, ...(body !== undefined && { body }) })
    return { status: answer.status, text: await answer.text() }
  }
  const admin = (method: string, path: string, body: unknown) =>
    ask(`${service.adminUrl}/v1/admin/${path}`, method, adminToken, JSON.stringify(body))
  await admin('PUT', 'workspaces/acme', {})
  await admin('PUT', 'roles/all', { grants: [{ actions: ['credential:*', 'lease:*'], workspaces: ['*'] }] })
  await admin('PUT', 'identities/worker', { roles: ['all'] })
  const issued = JSON.parse((await admin('POST', 'identities/worker/tokens', {})).text) as { token: string }

  const env = {
    STRONGROOM_URL: service.serviceUrl,
    STRONGROOM_WORKSPACE: 'acme',
    STRONGROOM_TOKEN: issued.token,
    STRONGROOM_DATA_DIR: dataDirectory,
  }
  const put = ['put', 'orders-db', '--connector', 'source-postgres']
  const told = [
    await runStrongroom(put, env, JSON.stringify({ password: kept.text })),
    await runStrongroom([...put, '--text'], env, kept.text),
    await runStrongroom(put, env, `{"password":"${refused.text}`),
    await runStrongroom([...put, refused.text], env, JSON.stringify(refused.text)),
  ]
  t.same(
    told.map(({ code }) => code),
    [0, 0, 2, 2],
  )
  const leased = await runStrongroom(['lease', 'orders-db'], env)
  t.ok(leased.out.includes(kept.forms.get('plain')!), 'the value came back')
  const url = `${service.serviceUrl}/v1/workspaces/acme/credentials/orders-db/value`
  t.equal((await ask(url, 'PUT', issued.token, `{"value":"${refused.text}`)).status, 400)
  t.equal(
    (await ask(url, 'PUT', issued.token, JSON.stringify({ value: refused.text.repeat(1500) }))).status,
    413,
  )
  t.equal(await service.stop(), 0)

  const home = homeOf(dataDirectory).directory
  const said = {
    'what the service prints': service.said(),
    'what put prints': told.map(({ out, err }) => out + err).join('\n'),
  }
  const files = { ...filesIn(dataDirectory), ...filesIn(home) }
  t.ok(
    files['log'] && Object.keys(files).some((path) => path.includes('pg_wal')),
    'PostgreSQL is searched whole',
  )
  t.same(tracesIn({ ...said, ...files }, [kept, refused]), [])

  const own = ['admin.token', 'keys', 'database.json']
  const others = { ...filesIn(dataDirectory, own), ...filesIn(home, own) }
  const secrets = [
    markOf('the key', readFileSync(join(dataDirectory, 'keys'), 'utf8').match(/^[\w-]{43}=$/m)![0]),
    markOf('the token of the administrator', adminToken.split('_')[2]!),
    markOf('the token of the worker', issued.token.split('_')[2]!),
  ]
  t.same(tracesIn({ ...said, ...others }, secrets), [])
  const found = tracesIn(filesIn(dataDirectory), secrets)
  t.ok(
    found.includes('admin.token holds the token of the administrator: plain'),
    'it is found where it belongs',
  )
  t.ok(found.includes('keys holds the key: plain'))
})

t.test('a setting that is refused is not repeated', async (t) => {
  const secret = mark('a setting')
  const piece = secret.forms.get('plain')!
  const settings = [
    { STRONGROOM_KEYS: piece, STRONGROOM_DATABASE_URL: `postgres://user:${piece}@127.0.0.1:1/nothing` },
    { STRONGROOM_KEYS: `${piece},${piece}`, STRONGROOM_MODE: piece, STRONGROOM_LISTEN: piece },
    { STRONGROOM_DATABASE_URL: `postgres//${piece}`, STRONGROOM_KEYS_FILE: '/nowhere' },
    {
      STRONGROOM_DATABASE_URL: `postgres://user:${piece}@127.0.0.1:1/nothing`,
      STRONGROOM_KEYS: `${'A'.repeat(43)}=`,
    },
  ]
  for (const env of settings) {
    const { code, out, err } = await runStrongroom(['serve'], env as unknown as Record<string, string>)
    t.not(code, 0)
    t.same(tracesIn({ out, err }, [secret]), [])
  }
})
