import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { runStrongroom } from '../cli/run-strongroom.ts'
import { age, statesIn } from '../swept-vault.ts'
import { freshGround } from '../ground.ts'
import { long } from '../repeat.ts'
import type { Answer } from './client-load.ts'
import { call, makeWorker } from './client-load.ts'
import type { Hold } from './provider-houses.ts'
import { PAST_GRACE_SECONDS, startHouses } from './provider-houses.ts'
import { initAdministrator, onGround, startService, until } from './service-process.ts'

type Act = 'create' | 'update'

const READ: Hold[] = ['before', 'after'].map((moment) => ({ call: 'get', moment }) as Hold)
const WRITE = (['put', 'get'] as const).flatMap((call) =>
  (['before', 'after'] as const).map((moment): Hold => ({ call, moment, readBack: call === 'get' })),
)
const ALL: [Act, Hold][] = [
  ...WRITE.map((hold): [Act, Hold] => ['create', hold]),
  ...[...READ, ...WRITE].map((hold): [Act, Hold] => ['update', hold]),
]
/** The moment at which it matters most: all is done but for the switch. What is created is killed further below. */
const FEW: [Act, Hold][] = [['update', { call: 'get', moment: 'after', readBack: true }]]

/** What the sweep that is killed is about to do, or has done and not written down. */
const SWEPT: Hold[] = (['before', 'after'] as const).map((moment) => ({ call: 'delete', moment }))

const strongroom = join(import.meta.dirname, '../../bin/strongroom.js')

t.test('a service that is killed at any step loses no value and leaves no secret behind', async (t) => {
  const ground = await freshGround(t)
  const houses = await startHouses(t, long)
  const admin = await initAdministrator(ground)
  const env = onGround(ground, houses.env)
  let service = await startService(t, env)
  const worker = await makeWorker(service.adminUrl, admin)
  /** What each credential may be leased with: one value, or either of two where a client was not told. */
  const told = new Map<string, (string | undefined)[]>()

  const doomedRefs: string[] = []

  const ask = (method: string, path: string, body?: unknown): Promise<Answer> =>
    call(method, `${service.serviceUrl}/v1/workspaces/acme/${path}`, worker, body)
  const create = (name: string): Promise<Answer> =>
    ask('POST', 'credentials', { name, connector: 'c', store: name.split('.')[0], value: `${name} one` })
  const update = (name: string): Promise<Answer> =>
    ask('PUT', `credentials/${name}/value`, { value: `${name} two` })
  const lease = async (name: string): Promise<string | undefined> => {
    const { status, body } = await ask('POST', `credentials/${name}/leases`, {})
    if (status === 404) return undefined
    if (status !== 201) throw new Error(`${name} is leased with ${status} ${body.code}`)
    return body.value
  }
  const restart = async (): Promise<void> => {
    await service.end('SIGKILL')
    service = await startService(t, env)
  }
  const check = async (t: Test, names: readonly string[]): Promise<void> => {
    const leased = await Promise.all(names.map(lease))
    for (const [index, name] of names.entries())
      t.ok(told.get(name)!.includes(leased[index]), `${name} is what was told: ${leased[index]}`)
  }
  const madeAll = async (suffix: string): Promise<string[]> => {
    const names = houses.names.map((store) => `${store}.${suffix}`)
    for (const { status } of await Promise.all(names.map(create)))
      if (status !== 201) throw new Error(`creating answered ${status}`)
    for (const name of names) told.set(name, [`${name} one`])
    return names
  }

  for (const [act, hold] of long ? ALL : FEW) {
    const step = [act, hold.moment, hold.readBack ? 'read-back' : hold.call].join('-')
    await t.test(`killed at ${step}`, async (t) => {
      const names = act === 'update' ? await madeAll(step) : houses.names.map((store) => `${store}.${step}`)
      const [write, before, after] = act === 'create' ? [create, undefined, 'one'] : [update, 'one', 'two']
      const { reached, release } = houses.hold(hold)
      const writing = Promise.all(names.map(write))
      await reached
      await service.end('SIGKILL')
      t.strictSame(
        (await writing).map(({ status }) => status),
        names.map(() => 'broken'),
      )
      release()
      await restart()
      for (const name of names) told.set(name, [before && `${name} ${before}`, `${name} ${after}`])
      await check(t, names)
      for (const { status } of await Promise.all(names.map(write))) t.match(String(status), /^20[01]$|^409$/)
      for (const name of names) told.set(name, [`${name} ${after}`])
      await check(t, names)
    })
  }

  const doomed = await madeAll('doomed')
  const perhaps = await madeAll('perhaps')
  const deleted = await madeAll('deleted')
  const perhapsDeleted = await madeAll('perhaps-deleted')
  const remove = (name: string): Promise<Answer> => ask('DELETE', `credentials/${name}`)
  const purge = (name: string): Promise<Answer> => ask('DELETE', `credentials/${name}?purge=true`)
  const keptOf = (store: string): string[] => houses.servers[store]!.kept().sort()

  await t.test(
    'killed after a purge was told, and while another and a delete are on their way',
    async (t) => {
      await Promise.all(doomed.map(update))
      const refs = await ground.sql(
        `select k.ref from copies k join credentials c on c.id = k.credential_id where c.name = any ($1)`,
        [doomed],
      )
      doomedRefs.push(...refs.map(({ ref }) => ref as string))
      t.equal(doomedRefs.length, 2 * doomed.length)
      for (const { status } of await Promise.all(doomed.map(purge))) t.equal(status, 204)
      for (const { status } of await Promise.all(deleted.map(remove))) t.equal(status, 204)
      const removing = [...perhaps.map(purge), ...perhapsDeleted.map(remove)]
      await restart()
      const answers = await Promise.all(removing)
      for (const name of [...doomed, ...deleted]) told.set(name, [undefined])
      for (const [index, name] of [...perhaps, ...perhapsDeleted].entries())
        told.set(name, answers[index]!.status === 204 ? [undefined] : [undefined, `${name} one`])
      await check(t, [...told.keys()])
    },
  )

  for (const hold of long ? [...SWEPT, ...SWEPT] : SWEPT.slice(1)) {
    await t.test(`a sweep killed ${hold.moment} its deletes`, async (t) => {
      await age(ground, PAST_GRACE_SECONDS)
      const { reached, release } = houses.hold(hold)
      const sweep = spawn(process.execPath, [strongroom, 'sweep'], { env, stdio: 'ignore' })
      const ended = once(sweep, 'close')
      t.equal(await Promise.race([reached.then(() => 'reached'), ended]), 'reached')
      sweep.kill('SIGKILL')
      t.strictSame(await ended, [null, 'SIGKILL'])
      release()
    })
  }

  await t.test('after two sweeps no value is lost, and the stores keep what the ledger names', async (t) => {
    const { reached, release } = houses.hold({ call: 'put', moment: 'before' })
    const late = houses.names.map((store) => `${store}.late`)
    const creating = Promise.all(late.map(create))
    await reached
    await service.end('SIGKILL')
    await creating
    for (const name of late) told.set(name, [undefined])
    const swept = async (): Promise<void> => {
      await age(ground, PAST_GRACE_SECONDS)
      t.match(await runStrongroom(['sweep'], env), { code: 0, err: '' })
    }
    await swept()
    const before = houses.names.map((store) => keptOf(store).length)
    release()
    const landed = (): boolean => houses.names.every((store, at) => keptOf(store).length === before[at]! + 1)
    await until('the puts have landed, after the first deletes', 10_000, landed)
    await swept()

    for (const store of houses.names) {
      const named = await ground.sql(
        `select ref from copies where store = $1 and state in ('current', 'kept', 'source') order by ref`,
        [store],
      )
      t.strictSame(keptOf(store), named.map(({ ref }) => ref).sort(), `${store} keeps what the ledger names`)
      const recoverable = houses.servers[store]!.recoverable()
      t.notOk(
        doomedRefs.some((ref) => recoverable.includes(ref)),
        `${store} can recover nothing of it`,
      )
    }
    t.strictSame(
      (await statesIn(ground)).filter((state) => /pending|replaced|dropped/.test(state)),
      [],
    )
    service = await startService(t.parent as Test, env)
    await check(t, [...told.keys()])
    for (const name of [...deleted, ...perhapsDeleted]) {
      const restored = (await ask('POST', `credentials/${name}/restore`)).status
      t.ok(restored === 200 || (restored === 409 && perhapsDeleted.includes(name)), `${name}: ${restored}`)
      told.set(name, [`${name} one`])
    }
    await check(t, [...deleted, ...perhapsDeleted])
  })
})
