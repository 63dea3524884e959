import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { createLogger } from '../../src/log.ts'
import { openConfigured } from '../../src/opened-stores.ts'
import { STORE_KINDS } from '../../src/store-kinds.ts'
import { parseStoresFile } from '../../src/stores-file.ts'
import { age, statesIn } from '../swept-vault.ts'
import { freshGround } from '../ground.ts'
import { temporaryDirectory } from '../leftovers.ts'
import { startVaultServer } from '../providers/hashicorp-vault-server.ts'
import { openVault } from '../vault.ts'
import { runStrongroom } from './run-strongroom.ts'

const SECRET = 'hunter2-marked'

/** A ledger with copies in a loopback HashiCorp Vault, and the command on both. */
async function house(t: Test) {
  const server = await startVaultServer()
  t.teardown(() => server.close())
  const directory = mkdtempSync(join(tmpdir(), 'strongroom-sweep-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const storesFile = join(directory, 'stores.json')
  const stores = { 'team-vault': { ...server.settings, limits: { timeout_seconds: 6 } } }
  writeFileSync(storesFile, JSON.stringify({ stores }))
  const parsed = await parseStoresFile(Buffer.from(JSON.stringify({ stores })), STORE_KINDS, 10)
  if ('faults' in parsed) throw new Error(parsed.faults.join('; '))
  const opened = await openConfigured(parsed.file, createLogger('fatal'))
  t.teardown(() => opened.close())

  const loginToken = readFileSync(server.loginFile, 'utf8').trim()
  const ground = await freshGround(t)
  const vault = await openVault(t, ground, { stores: opened.external })
  const worker = await vault.identityWith()
  const env: Record<string, string> = {
    STRONGROOM_DATABASE_URL: ground.databaseUrl.reveal(),
    STRONGROOM_KEYS: ground.keys.map((key) => key.reveal()).join(','),
    STRONGROOM_STORES_FILE: storesFile,
    STRONGROOM_DEADLINE_SECONDS: '10',
  }
  return {
    ground,
    server,
    env,
    create: (name: string) =>
      vault.create(worker, name, `{"password":"${SECRET}"}`, {}, { store: 'team-vault' }),
    remove: (name: string, purge = true) =>
      vault.credentials.delete(vault.call(), worker.caller, 'acme', name, purge),
    /** Runs the command; nothing that it says may be secret. */
    async sweep(...args: string[]) {
      const ended = await runStrongroom(['sweep', ...args], env)
      const told = ended.out + ended.err
      const secrets = [SECRET, loginToken, ...ground.keys.map((key) => key.reveal())]
      for (const secret of secrets) if (told.includes(secret)) t.fail('a secret was printed')
      return ended
    },
  }
}

t.test('--dry-run lists what would go and changes nothing; without it that goes, twice', async (t) => {
  const { ground, server, create, remove, sweep } = await house(t)
  for (const name of ['kept', 'purged', 'deleted']) await create(name)
  await remove('purged')
  await remove('deleted', false)
  t.match(await sweep('--dry-run'), { code: 0, out: 'nothing is due\n', err: '' })

  await age(ground)
  await ground.sql("update credentials set deleted_at = now() - interval '8 days' where name = 'deleted'")
  const [{ ref }] = (await ground.sql("select ref from copies where state = 'dropped'")) as [{ ref: string }]
  const before = await statesIn(ground)
  const listed = `purge acme/deleted (deleted)\ndelete team-vault ${ref} for good\n`
  t.match(await sweep('--dry-run'), { code: 0, out: listed, err: '' })
  t.strictSame(await statesIn(ground), before)
  t.equal(server.kept().length, 3)

  const said = (purged: number, deleted: number): string =>
    `purged ${purged} credentials; deleted ${deleted} copies in external stores; forgot 0 copies and 0 leases\n`
  t.match(await sweep(), { code: 0, out: said(1, 1), err: '' })
  t.notOk(server.kept().includes(ref))
  for (const deleted of [2, 1]) {
    await age(ground)
    t.match(await sweep(), { code: 0, out: said(0, deleted), err: '' })
  }
  t.strictSame(await statesIn(ground), ['1 current'])
  t.equal(server.kept().length, 1)
})

t.test('--hold keeps every external copy until --adopt, and says so with exit code 1', async (t) => {
  const { ground, server, create, remove, sweep } = await house(t)
  await create('orders')
  t.match(await sweep('--hold'), { code: 0, out: /^from now on nothing external is deleted/, err: '' })
  t.match(await sweep(), { code: 0 }, 'nothing is due')
  await remove('orders')
  await age(ground)
  const why = /^strongroom: 1 copies stay in external stores, since an operator holds it[^\n]*\n$/
  t.match(await sweep('--dry-run'), { code: 1, out: /^delete team-vault /, err: why })
  t.match(await sweep(), { code: 1, out: /deleted 0 copies/, err: why })
  t.equal(server.kept().length, 1)
  t.match(await sweep('--adopt'), { code: 0, out: /^from now on this database deletes/, err: '' })
  t.equal(server.kept().length, 1, 'that alone deletes nothing')
  t.match(await sweep(), { code: 0, out: /deleted 1 copies/, err: '' })
  t.strictSame(server.kept(), [])
})

t.test(
  'a copy that its store does not delete is told with its store and the fault, and exit code 1',
  async (t) => {
    const { ground, server, create, remove, sweep } = await house(t)
    await create('orders')
    await remove('orders')
    await age(ground)
    await server.suffer('deny')
    const { code, out, err } = await sweep()
    t.match({ code, out }, { code: 1, out: /deleted 0 copies/ })
    t.equal(
      err,
      '  team-vault: denied\nstrongroom: 1 copies could not be deleted: the next sweep tries again\n',
    )
    t.equal(server.kept().length, 1)
  },
)

t.test('a sweep that is used or configured wrongly deletes nothing', async (t) => {
  const { ground, server, env, create, remove, sweep } = await house(t)
  await create('orders')
  await remove('orders')
  await age(ground)
  t.match(await sweep('--hold', '--adopt'), { code: 2, err: /only one of/ })
  t.match(await sweep('now'), { code: 2 })
  env['STRONGROOM_KEYS'] = ''
  t.match(await sweep(), { code: 78, err: /STRONGROOM_KEYS/ })
  t.equal(server.kept().length, 1)
})

t.test('a sweep makes no database: a data directory without one is refused and left as it was', async (t) => {
  const dataDirectory = join(temporaryDirectory(t), 'data')
  const refused = /^strongroom: STRONGROOM_DATA_DIR: [^\n]* has no database[^\n]*\n$/
  const sweep = (...args: string[]) =>
    runStrongroom(['sweep', ...args], { STRONGROOM_DATA_DIR: dataDirectory })
  for (const option of [[], ['--dry-run'], ['--hold'], ['--adopt']]) {
    t.match(await sweep(...option), { code: 78, out: '', err: refused })
    t.notOk(existsSync(dataDirectory))
  }
  mkdirSync(dataDirectory)
  t.match(await sweep(), { code: 78, out: '', err: refused })
  t.strictSame(readdirSync(dataDirectory), [])
})
