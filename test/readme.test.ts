import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { temporaryDirectory } from './leftovers.ts'

const root = join(import.meta.dirname, '..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')

t.test('the guide in the README works as it is written', async (t) => {
  const parent = temporaryDirectory(t)
  const dataDirectory = join(parent, 'data')
  const service = await startService(dataDirectory)
  const { serviceUrl, adminUrl } = service
  t.teardown(async () => {
    const code = await service.stop()
    if (code !== 0) throw new Error(`The service ended with ${code}`)
  })
  const script = guide()
    .replaceAll('http://127.0.0.1:7400', serviceUrl)
    .replaceAll('http://127.0.0.1:7401', adminUrl)
    .replaceAll('.strongroom/', `${dataDirectory}/`)
  const env = {
    PATH: process.env['PATH'],
    NPM_CONFIG_UPDATE_NOTIFIER: 'false',
    HOME: parent,
    STRONGROOM_ADMIN_URL: adminUrl,
    STRONGROOM_DATA_DIR: dataDirectory,
  }
  const strict = ['--norc', '-eu', '-o', 'pipefail', '-c', script]
  const told = await promisify(execFile)('bash', strict, { cwd: root, env })
  t.equal(told.stderr, '')
  t.match(told.stdout, /"name":"acme"/)
  t.match(told.stdout, /"name":"orders-db".*"version":1.*"changed":true/)
  t.match(told.stdout, /"value":\{"host":"db\.internal","port":5432,.*"password":"correct horse"\}/)
  t.match(told.stdout, /"ttl_seconds":600/)
  t.match(told.stdout, /^revoked: 204$/m)
  t.match(told.stdout, /"status":410,.*"code":"lease_ended"\}\n/)
  t.match(told.stdout, /"status":403,.*"code":"forbidden"\}\n/)
  t.match(told.stdout, /"action":"lease:issue"/)
  t.match(told.stdout, /\{"valid":true/)
  t.match(told.stdout, /^The audit trail holds\.$/m)
})

t.test('the settings in the README are those that the code knows', async (t) => {
  const reader = readFileSync(join(root, 'src/config-reader.ts'), 'utf8')
  const lists = /const SECRETS = (\[[^;]*?\])\nconst PLAIN = (\[[^;]*?\n\])/s.exec(reader)!
  const known = lists.slice(1).flatMap((list) => [...list.matchAll(/'([A-Z_]+)'/g)].map(([, name]) => name!))
  const told = [...readme.matchAll(/`STRONGROOM_([A-Z_]+)`/g)].map(([, name]) => name!)
  t.ok(known.length > 15)
  t.same([...new Set(told)].toSorted(), known.toSorted())
})

t.test('every link between the documents leads somewhere', async (t) => {
  const documents = ['.', 'docs', 'docs/decisions', 'providers'].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name)),
  )
  t.ok(documents.length > 10)
  for (const path of documents) {
    const text = readFileSync(join(root, path), 'utf8')
    for (const [, target] of text.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      const file = join(root, dirname(path), target!)
      t.ok(existsSync(file), `${path} links to ${relative(root, file)}`)
    }
  }
})

t.test('a decision is at most 40 lines', async (t) => {
  const folder = join(root, 'docs/decisions')
  for (const name of readdirSync(folder)) {
    const lines = readFileSync(join(folder, name), 'utf8').trimEnd().split('\n').length
    t.ok(lines <= 40, `${name} has ${lines} lines`)
  }
})

/** Every sh block between the marks, in their order. */
function guide(): string {
  const marked = /<!-- guide:.*?-->(.*?)<!-- end of the guide -->/s.exec(readme)
  const blocks = [...(marked?.[1] ?? '').matchAll(/^```sh\n(.*?)^```$/gms)].map(([, text]) => text)
  if (blocks.length < 6) throw new Error('The README has no guide')
  return blocks.join('\n')
}

/** As `npm start` does, but on free ports and with a deadline for a busy machine. */
async function startService(dataDirectory: string) {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: { start: string }
  }
  const [command, ...args] = scripts.start.split(' ')
  if (command !== 'node') throw new Error('npm start does not run node')
  const env = {
    PATH: process.env['PATH'],
    STRONGROOM_DATA_DIR: dataDirectory,
    STRONGROOM_LISTEN: '127.0.0.1:0',
    STRONGROOM_ADMIN_LISTEN: '127.0.0.1:0',
    STRONGROOM_DEADLINE_SECONDS: '15',
  }
  const service = spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(service, 'exit')
  const stop = async (): Promise<number | null> => {
    service.kill('SIGINT')
    return (await ended)[0] as number | null
  }
  let said = ''
  const urls = await new Promise<string[]>((resolve, reject) => {
    service.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
      const found = /listens on (\S+)\n.*operators on\s+(\S+)\n/.exec(said)
      if (found) resolve(found.slice(1))
    })
    void ended.then(() => reject(new Error(`The service did not start: ${said}`)))
  })
  return { serviceUrl: urls[0]!, adminUrl: urls[1]!, stop }
}
