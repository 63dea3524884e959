import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { homeOf } from '../../src/postgres/embedded-place.ts'
import { startOf } from '../../src/postgres/embedded-process.ts'
import { temporaryDirectory } from '../leftovers.ts'
import { times } from '../repeat.ts'
import { makeWorker, must } from './client-load.ts'
import type { ServiceProcess } from './service-process.ts'
import {
  databaseProcesses,
  launchService,
  processesNaming,
  refusedStart,
  startService,
  until,
} from './service-process.ts'

function inDirectory(dataDirectory: string): Record<string, string> {
  return { STRONGROOM_DATA_DIR: dataDirectory }
}

function adminToken(dataDirectory: string): string {
  return readFileSync(join(dataDirectory, 'admin.token'), 'utf8').trim()
}

const lives = (pid: number): boolean => startOf(pid) !== undefined

/** What PostgreSQL's processes for this data directory name in their command line. */
function databasesIn(dataDirectory: string): number[] {
  return processesNaming(homeOf(dataDirectory).directory)
}

/** Keeps a value by one service, to be found by another. */
async function keep({ serviceUrl, adminUrl }: ServiceProcess, dataDirectory: string, value: string) {
  const worker = await makeWorker(adminUrl, adminToken(dataDirectory))
  const credential = { name: 'kept', connector: 'c', value }
  await must('POST', `${serviceUrl}/v1/workspaces/acme/credentials`, worker, credential)
  return worker
}

async function leased({ serviceUrl }: ServiceProcess, worker: string): Promise<string> {
  return (await must('POST', `${serviceUrl}/v1/workspaces/acme/credentials/kept/leases`, worker, {})).value
}

// One directory for all that only needs one that is complete: making a cluster is what takes the time.
const dataDirectory = join(temporaryDirectory(t), 'data')
let worker = ''

t.test('a signal stops the service and its database, and the next start finds what was kept', async (t) => {
  let service = await startService(t, inDirectory(dataDirectory))
  t.match(service.err(), /This was the first start/)
  worker = await keep(service, dataDirectory, 'v1')
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const database = databaseProcesses(dataDirectory)
    t.ok(database.length > 1 && database.every(lives))
    t.strictSame(await service.end(signal), { code: 0, signal: null }, signal)
    t.strictSame(database.filter(lives), [], 'no process of the database is left')
    t.strictSame(databasesIn(dataDirectory), [])
    service = await startService(t, inDirectory(dataDirectory))
    t.notMatch(service.err(), /first start/)
    t.equal(await leased(service, worker), 'v1')
  }
  await service.end('SIGTERM')
})

t.test('a service that is killed leaves its database running, and the next start uses it', async (t) => {
  let service = await startService(t, inDirectory(dataDirectory))
  const [postmaster] = databaseProcesses(dataDirectory)
  for (let round = 1; round <= times(); round++) {
    await service.end('SIGKILL')
    t.ok(lives(postmaster!), 'the database outlives it')
    service = await startService(t, inDirectory(dataDirectory))
    t.equal(databaseProcesses(dataDirectory)[0], postmaster)
    t.equal(await leased(service, worker), 'v1')
  }
  await service.end('SIGTERM')
  t.notOk(lives(postmaster!), 'a database that was found is stopped as well')
})

t.test('a database that was killed with its service comes back with what it had', async (t) => {
  const service = await startService(t, inDirectory(dataDirectory))
  const [postmaster] = databaseProcesses(dataDirectory)
  process.kill(postmaster!, 'SIGKILL')
  await service.end('SIGKILL')
  const next = await startService(t, inDirectory(dataDirectory))
  t.equal(await leased(next, worker), 'v1')
  await next.end('SIGTERM')
})

t.test('a first start that is killed at any moment is begun anew by the next', async (t) => {
  const parent = temporaryDirectory(t)
  for (let round = 1; round <= times(2); round++) {
    const dataDirectory = join(parent, `data-${round}`)
    // In the long run up to three in a row, each at another moment of what takes some two seconds.
    for (let kills = Math.ceil(Math.random() * times(1, 3)); kills > 0; kills--) {
      const first = launchService(t, inDirectory(dataDirectory))
      await sleep(100 + Math.random() * 2400)
      await first.end('SIGKILL')
    }
    const service = await startService(t, inDirectory(dataDirectory))
    const worker = await keep(service, dataDirectory, 'v1')
    t.equal(await leased(service, worker), 'v1', `round ${round}`)
    t.strictSame(await service.end('SIGTERM'), { code: 0, signal: null })
    await until('no database is left', 30_000, () => databasesIn(dataDirectory).length === 0)
  }
})

t.test(
  'two starts on the same ports and directory: one listens, the other says so and harms nothing',
  async (t) => {
    const service = await startService(t, inDirectory(dataDirectory))
    const [postmaster] = databaseProcesses(dataDirectory)
    const taken = { STRONGROOM_LISTEN: new URL(service.serviceUrl).host }
    const second = await refusedStart(t, { ...inDirectory(dataDirectory), ...taken })
    t.equal(second.code, 78)
    t.match(second.err, /^strongroom: STRONGROOM_LISTEN: cannot listen on \S+ \(EADDRINUSE\)\n$/)
    t.ok(lives(postmaster!))
    t.equal(await leased(service, worker), 'v1')
    // On other ports two may share the database; the last to leave stops it.
    const third = await startService(t, inDirectory(dataDirectory))
    t.equal(await leased(third, worker), 'v1')
    await service.end('SIGTERM')
    t.equal(await leased(third, worker), 'v1')
    await third.end('SIGTERM')
    t.notOk(lives(postmaster!))
  },
)

t.test('of two first starts at the same moment both work on one database, or one says why not', async (t) => {
  const parent = temporaryDirectory(t)
  for (let round = 1; round <= times(1, 20); round++) {
    const dataDirectory = join(parent, `data-${round}`)
    const both = [launchService(t, inDirectory(dataDirectory)), launchService(t, inDirectory(dataDirectory))]
    const started = await Promise.all(
      both.map(async ({ listening, ...launched }): Promise<ServiceProcess | undefined> => {
        const urls = await listening.catch(() => undefined)
        return urls && { ...launched, ...urls }
      }),
    )
    t.comment(both.map((one) => one.err()).join('\n'))
    const running = started.filter((one) => one !== undefined)
    t.ok(running.length > 0, `round ${round}: one of them works`)
    const refused = both.filter((_, index) => !started[index])
    for (const one of refused) t.equal((await one.ended).code, 78, one.err())
    const worker = await keep(running[0]!, dataDirectory, 'v1')
    for (const service of running) t.equal(await leased(service, worker), 'v1')
    for (const service of running) t.strictSame(await service.end('SIGTERM'), { code: 0, signal: null })
    const next = await startService(t, inDirectory(dataDirectory))
    t.equal(await leased(next, worker), 'v1', 'and the next start finds it')
    await next.end('SIGTERM')
  }
})

t.test(
  'a directory without its last mark is begun anew, also one of an older version, and its key is kept',
  async (t) => {
    for (const marks of [['complete'], ['complete', 'begun']]) {
      for (const mark of marks) rmSync(join(dataDirectory, mark))
      const service = await startService(t, inDirectory(dataDirectory))
      t.match(service.err(), /This was the first start/)
      await service.end('SIGTERM')
    }
    t.equal(readdirSync(dataDirectory).filter((name) => name.startsWith('keys.before-')).length, 2)
  },
)
