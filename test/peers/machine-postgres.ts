import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, globSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { Secret } from '../../src/core/secret.ts'
import type { TestGround } from '../ground.ts'

/** A cluster of the PostgreSQL that is installed on this machine, with its own tools; none but its socket leads there. */
export interface MachineCluster {
  /** A ground in a database that is made here, empty but for the two roles. */
  ground(name: string, keys: TestGround['keys']): Promise<TestGround>
  /** Runs one of its tools as superuser, and answers what it says. */
  tool(name: string, args: string[], input?: Buffer): Buffer
}

const TOOLS = ['initdb', 'pg_ctl', 'postgres', 'pg_dump', 'pg_restore']
const PORT = 5432
const [OWNER, SERVICE] = ['strongroom_owner', 'strongroom']

/** The directory of the newest PostgreSQL with server and tools of one version, where this machine has one. */
export function machinePostgres(): string | undefined {
  const found = globSync(['/usr/lib/postgresql/*/bin/initdb', '/usr/pgsql-*/bin/initdb']).map(dirname)
  const whole = found.filter((bin) => TOOLS.every((name) => existsSync(join(bin, name))))
  const version = (bin: string): number => Number(/(\d+)\/bin$/.exec(bin)?.[1])
  return whole.filter((bin) => version(bin) >= 15).sort((a, b) => version(b) - version(a))[0]
}

/** Starts a cluster in a temporary folder; it is removed after the test. */
export function startMachineCluster(t: Test, bin: string): MachineCluster {
  const home = mkdtempSync(join(tmpdir(), 'strongroom-peer-'))
  chmodSync(home, 0o700)
  const user = serverUser()
  if (user) chownSync(home, user.uid, user.gid)
  const data = join(home, 'data')
  const asServer = (name: string, args: string[], input?: Buffer): Buffer =>
    execFileSync(join(bin, name), args, {
      ...user,
      cwd: home,
      env: { LC_ALL: 'C' },
      maxBuffer: 64 * 1024 * 1024,
      stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      ...(input && { input }),
    })
  asServer('initdb', ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'])
  const log = join(home, 'log')
  const settings = `-k ${home} -p ${PORT} -c listen_addresses=''`
  // Its output would keep our pipe open for as long as the server runs.
  const started = spawnSync(join(bin, 'pg_ctl'), ['-D', data, '-l', log, '-o', settings, '-w', 'start'], {
    ...user,
    cwd: home,
    env: { LC_ALL: 'C' },
    stdio: 'ignore',
  })
  t.teardown(() => {
    spawnSync(join(bin, 'pg_ctl'), ['-D', data, '-m', 'immediate', '-w', 'stop'], {
      ...user,
      cwd: home,
      stdio: 'ignore',
    })
    rmSync(home, { recursive: true, force: true })
  })
  if (started.status !== 0) throw new Error('the PostgreSQL of this machine did not start')
  const url = (role: string, database: string): string =>
    `postgres://${role}:unused@${encodeURIComponent(home)}:${PORT}/${database}`
  return {
    tool: (name, args, input) =>
      asServer(name, ['-h', home, '-p', String(PORT), '-U', 'postgres', ...args], input),
    async ground(name, keys) {
      const client = new pg.Client({ connectionString: url('postgres', 'postgres') })
      await client.connect()
      try {
        for (const role of [OWNER, SERVICE]) {
          const { rowCount } = await client.query('select from pg_roles where rolname = $1', [role])
          if (!rowCount) await client.query(`create role ${role} login`)
        }
        await client.query(`create database ${name} owner ${OWNER}`)
      } finally {
        await client.end()
      }
      const clients = new pg.Pool({ connectionString: url('postgres', name), max: 2 })
      clients.on('error', () => {})
      t.teardown(() => clients.end())
      return {
        name,
        databaseUrl: new Secret(url(SERVICE!, name)),
        ownerUrl: new Secret(url(OWNER!, name)),
        keys,
        sql: async (text, values) => (await clients.query(text, values)).rows,
      }
    },
  }
}

/** PostgreSQL refuses to run as root: there it runs as the user that its package made. */
function serverUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}
