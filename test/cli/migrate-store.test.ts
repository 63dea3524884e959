import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { command } from '../../src/cli/migrate-store.ts'
import { RelocationClient } from '../../src/cli/relocation-client.ts'
import { ServiceClient } from '../../src/cli/service-client.ts'
import { Secret } from '../../src/core/secret.ts'
import { startService } from '../chaos/service-process.ts'
import { temporaryDirectory } from '../leftovers.ts'
import { startVaultServer } from '../providers/hashicorp-vault-server.ts'
import { fakeScreen, fakeTerminal } from './fake-terminal.ts'
import { runStrongroom } from './run-strongroom.ts'

const vault = await startVaultServer()
t.teardown(() => vault.close())
const home = temporaryDirectory(t)
const storesFile = join(home, 'stores.json')
const limits = { writes_per_second: 500 }
writeFileSync(storesFile, JSON.stringify({ stores: { 'team-vault': { ...vault.settings, limits } } }))
const directory = join(home, 'data')
const settings = { STRONGROOM_DATA_DIR: directory, STRONGROOM_STORES_FILE: storesFile }
let service = await startService(t, settings)
const env = { STRONGROOM_ADMIN_URL: service.adminUrl, STRONGROOM_DATA_DIR: directory }
const admin = new ServiceClient(
  service.adminUrl,
  new Secret(readFileSync(join(directory, 'admin.token'), 'utf8').trim()),
)
const relocations = new RelocationClient(admin)
const ask = async (client: ServiceClient, method: string, path: string, body: object = {}) =>
  (await client.call(method, path, new Secret(JSON.stringify(body)))).body as Record<string, never>

for (const workspace of ['acme', 'globex']) await ask(admin, 'PUT', `/v1/admin/workspaces/${workspace}`)
const grants = [{ actions: ['credential:*', 'lease:*'], workspaces: ['*'] }]
await ask(admin, 'PUT', '/v1/admin/roles/worker', { grants })
await ask(admin, 'PUT', '/v1/admin/identities/worker', { roles: ['worker'] })
const { token } = await ask(admin, 'POST', '/v1/admin/identities/worker/tokens')
const worker = new ServiceClient(service.serviceUrl, new Secret(token!))
const at = (name: string): string => `/v1/workspaces/${name.split('/').join('/credentials/')}`
const values: Record<string, string> = {}
async function put(name: string, value: string): Promise<void> {
  await ask(worker, 'PUT', at(name), { connector: 'source-postgres', value: (values[name] = value) })
}
for (const name of ['acme/a', 'acme/b', 'acme/c', 'globex/d']) await put(name, `the value of ${name}`)

/** Where each credential lies, after it was seen that every one still leases its value. */
async function lying(): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const [name, value] of Object.entries(values)) {
    const leased = await ask(worker, 'POST', `${at(name)}/leases`)
    if (leased['value'] !== value) throw new Error(`${name} leases something else`)
    found[name] = (await ask(worker, 'GET', at(name)))['store']!
  }
  return found
}
const allIn = (store: string) => Object.fromEntries(Object.keys(values).map((name) => [name, store]))

/** The command in this process; with an answer, on a terminal. */
async function migrate(args: string[], answer?: string, onLine = (): void => undefined) {
  const { terminal, out, err } = fakeTerminal()
  const { screen, drawn } = fakeScreen()
  const asked: string[] = []
  const typed = {
    ...terminal,
    out: (text: string) => (terminal.out(text), onLine()),
    inputIsTyped: answer !== undefined,
    screen: answer === undefined ? undefined : screen,
    ask: async (question: string) => (asked.push(question), answer!),
  }
  const code = await command.run(args, typed, async () => ({ admin }))
  const lines = out().split('\n').filter(Boolean)
  return { code, lines: lines.map((line) => JSON.parse(line)), err: err(), drawn: drawn(), asked }
}
const TO_VAULT = ['--from', 'local', '--to', 'team-vault']
const TO_LOCAL = ['--from', 'team-vault', '--to', 'local']

t.test('--dry-run shows what would move, tries the target, and begins nothing', async (t) => {
  const { code, lines, err } = await migrate([...TO_VAULT, '--workspace', 'acme', '--dry-run'])
  t.equal(code, 0)
  t.equal(lines.length, 1)
  const groups = [{ workspace: 'acme', connector: 'source-postgres', copies: 3 }]
  t.match(lines[0].plan, { from: 'local', to: 'team-vault', copies: 3, seconds: 1, groups, stays: [] })
  // Each value is 21 bytes; of a token only the length is known, and that goes by blocks of 16.
  t.ok(Math.abs(lines[0].plan.bytes - 63) <= 3 * 9, `${lines[0].plan.bytes} is about 63`)
  t.match(err, /^3 copies, about \d+ bytes, move from local to team-vault, in at least 1 s under its limit/)
  t.match(err, /\n {2}acme {2}source-postgres {2}3 copies {2}about \d+ bytes\n/)
  t.match(err, /\nteam-vault has taken a trial value, given it back and deleted it\.\n$/)
  t.ok(vault.requests.some((line) => line.startsWith('POST /v1/secret/data/strongroom/probe/')))
  t.strictSame(vault.kept(), [])
  t.strictSame(await relocations.unfinished(), [])
})

t.test('without a terminal and without --yes nothing is begun, and it says so', async (t) => {
  const { code, out, err } = await runStrongroom(['migrate-store', ...TO_VAULT], env)
  t.match({ code, out }, { code: 2, out: '' })
  t.match(err, /there is no terminal to ask on: it takes --yes/)
  t.strictSame(await relocations.unfinished(), [])
})

t.test('on a terminal it asks, and whoever does not say yes begins nothing', async (t) => {
  await t.rejects(migrate(TO_VAULT, ''), { message: 'nothing was begun', exitCode: 1 })
  await t.rejects(migrate(TO_VAULT, 'yesterday'), { message: 'nothing was begun' })
  t.strictSame(await relocations.unfinished(), [])
})

t.test('on a terminal there is a bar, and a rollback points everything back', async (t) => {
  const { code, lines, err, drawn, asked } = await migrate(TO_VAULT, 'y')
  t.equal(code, 0, err)
  t.same(asked, ['Begin? [y/N] '])
  t.strictSame(lines, [], 'what a script reads is not for a terminal')
  t.match(drawn, /100% {2}4 of 4 copies {2}\d+\/s .* 0 failed/)
  t.match(err, /\nDone in \d+ s: 4 copies moved, 0 stay, 0 failed \([\d.]+\/s\)\.\n/)
  t.strictSame(await lying(), allIn('team-vault'))

  await put('acme/a', 'updated meanwhile')
  const [, id] = /--rollback (\S+) /.exec(err)!
  const back = await migrate(['--rollback', id!])
  t.equal(back.code, 0)
  t.match(back.lines.at(-1), { id, state: 'rolled_back', heading: 'back', moved: 0, failures: [] })
  const rollback = { moved: 5, duration_seconds: Number, rate_per_second: Number }
  t.match(back.lines.at(-1), { moved_over: 4, duration_seconds: Number, rollback })
  t.match(back.err, /^Rolled back in \d+ s \([\d.]+\/s\): what was moved is read from local again\.\n/)
  t.strictSame(await lying(), allIn('local'))
  await t.rejects(migrate(['--finalize', id!]), { code: 'wrong_state' })
})

t.test('every line is JSON elsewhere; finalized, the opposite one goes back', async (t) => {
  const { code, lines, err } = await migrate([...TO_VAULT, '--yes'])
  t.equal(code, 0, err)
  t.match(lines[0], { plan: { copies: 5 } })
  const [, first] = lines
  t.match(first, { id: /^[0-9a-f-]{36}$/, heading: 'over', from: 'local', to: 'team-vault', total: 5 })
  const report = { state: 'done', moved: 5, skipped: 0, failed: 0, throttled: 0, failures: [], stays: [] }
  t.match(lines.at(-1), { id: first.id, ...report })
  for (const member of ['duration_seconds', 'rate_per_second']) t.type(lines.at(-1)[member], 'number')

  const held = await migrate([...TO_LOCAL, '--yes'])
  t.equal(held.code, 0)
  t.match(held.lines, [{ plan: { copies: 0, stays: [{ reason: 'other_migration', copies: 5 }] } }])
  t.match(held.err, `Nothing is to be moved.\n  unfinished: ${first.id}, from local to team-vault, done\n`)

  const closed = await migrate(['--finalize', first.id])
  t.match(closed.lines.at(-1), { id: first.id, state: 'finalized' })
  t.match(
    closed.err,
    /^Finalized: 5 copies moved, 0 stay, 0 failed\. The copies in local that were moved are dropped\.\n.*migrate-store --from team-vault --to local\n$/,
  )
  t.equal(closed.code, 0)
  await t.rejects(migrate(['--rollback', first.id]), { code: 'wrong_state' })

  const back = await migrate([...TO_LOCAL, '--yes'])
  t.match(back.lines.at(-1), { state: 'done', moved: 5 })
  t.strictSame(await lying(), allIn('local'))
  t.equal((await migrate(['--finalize', back.lines.at(-1).id])).code, 0)
})

t.test('copies that failed are listed, and running it again does only what is left', async (t) => {
  let puts = 0
  vault.onCall = (call) => void (call === 'put' && ++puts === 5 && vault.suffer('deny'))
  const { code, lines, err } = await migrate([...TO_VAULT, '--workspace', 'acme', '--yes'])
  vault.onCall = undefined
  await vault.recover()
  const { id, failed, failures, moved } = lines.at(-1)
  t.equal(code, 1)
  t.equal(lines.at(-1).state, 'failed')
  t.ok(failed > 0)
  t.equal(moved + failed, 4)
  t.equal(failures.length, failed)
  for (const { workspace, credential, version, code } of failures) {
    t.equal(code, 'store_denied')
    t.match(err, `\n  ${workspace}/${credential} version ${version}: store_denied\n`)
  }
  t.match(err, `--resume ${id}; --rollback ${id} undoes it`)

  await lying()
  const other = await migrate([...TO_VAULT, '--dry-run'])
  t.notOk('resumes' in other.lines[0], 'another route is another store migration')
  const again = await migrate([...TO_VAULT, '--workspace', 'acme', '--yes'])
  t.equal(again.code, 0, again.err)
  t.equal(again.lines[0].resumes, id)
  t.match(
    again.err,
    new RegExp(`^The store migration ${id} from local to team-vault has failed: ${moved} copies`),
  )
  t.match(again.lines.at(-1), { id, state: 'done', total: 4, moved: 4, failed: 0 })
  t.strictSame(await lying(), { ...allIn('team-vault'), 'globex/d': 'local' })
  t.equal((await migrate(['--rollback', id])).code, 0)
})

t.test('a target that is denied fails the plan, is named, and nothing is begun', async (t) => {
  await vault.suffer('deny')
  t.teardown(() => vault.recover())
  const { code, err } = await runStrongroom(['migrate-store', ...TO_VAULT, '--yes'], env)
  t.match({ code, err }, { code: 1, err: /store_denied: team-vault did not take a trial value/ })
  t.match((await relocations.unfinished()).length, 0)
})

t.test('when the target dies, a rollback does not need it', async (t) => {
  const moved = await migrate([...TO_VAULT, '--workspace', 'globex', '--yes'])
  await vault.suffer('refuse-connections')
  const { code, lines } = await migrate(['--rollback', moved.lines.at(-1).id])
  await vault.recover()
  t.match({ code, report: lines.at(-1) }, { code: 0, report: { state: 'rolled_back', failures: [] } })
  t.strictSame(await lying(), allIn('local'))
})

/** Holds up every put but the trial's until it is let go. */
function heldUp(): () => void {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  let puts = 0
  vault.onCall = (call, moment) => (call === 'put' && moment === 'before' && ++puts > 1 ? promise : undefined)
  return () => {
    vault.onCall = undefined
    resolve(undefined)
  }
}

t.test(
  '^C leaves it running and says how to follow it; a service started anew goes on with it',
  async (t) => {
    const letGo = heldUp()
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, '../../bin/strongroom.js'), 'migrate-store', ...TO_VAULT, '--yes'],
      { env },
    )
    let [out, err] = ['', '']
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString()
      if (!child.killed && out.split('\n').length >= 4) child.kill('SIGINT')
    })
    t.equal(await new Promise((resolve) => child.on('close', resolve)), 1)
    const [, id] = /follow it with strongroom migrate-store --follow (\S+)\n/.exec(err) ?? []
    t.match(await relocations.read(id!), { state: 'running' })
    await t.rejects(migrate([...TO_LOCAL, '--yes']), { message: `--follow ${id}, or --cancel it` })

    const looking = Promise.withResolvers<undefined>()
    const following = migrate(['--follow', id!], undefined, () => looking.resolve(undefined))
    await looking.promise
    const ended = service.end('SIGKILL')
    letGo()
    await ended
    const [listen, adminListen] = [service.serviceUrl, service.adminUrl].map((url) => new URL(url).host)
    service = await startService(t, {
      ...settings,
      STRONGROOM_LISTEN: listen!,
      STRONGROOM_ADMIN_LISTEN: adminListen!,
    })
    const cancelled = await migrate(['--cancel', id!])
    t.equal(cancelled.code, 0)
    t.match(cancelled.lines.at(-1), { id, state: 'cancelled' })
    t.match(cancelled.err, /was cancelled: \d copies moved, 0 stay, 0 failed\. Copies stay where they are\./)
    t.equal((await following).code, 1, 'who followed it did not want that')
  },
)
