import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { freshGround } from '../ground.ts'
import { times } from '../repeat.ts'
import { checkTold, ClientLoad, makeWorker } from './client-load.ts'
import { initAdministrator, onGround, startService, until } from './service-process.ts'

t.test('a service that is killed at any moment has kept what it has told', async (t) => {
  const ground = await freshGround(t)
  const admin = await initAdministrator(ground)
  let service = await startService(t, onGround(ground))
  const worker = await makeWorker(service.adminUrl, admin)

  for (let round = 1; round <= times(); round++) {
    await t.test(`round ${round}`, async (t) => {
      const load = new ClientLoad(t, service.serviceUrl, worker, { leasing: 8, writing: 4 })
      await until('there are leases', 10_000, () => load.told.leases.length > 50)
      await sleep(Math.random() * 800)
      t.strictSame(await service.end('SIGKILL'), { code: null, signal: 'SIGKILL' })
      const told = await load.stop()
      const failed = told.answers.filter(
        ({ status }) => status !== 200 && status !== 201 && status !== 'broken',
      )
      t.strictSame(failed, [], 'nothing failed before')
      t.ok(told.leases.length > 0 && told.writes.length > 0, `${told.leases.length} leases`)

      service = await startService(t.parent as typeof t, onGround(ground))
      await checkTold(t, ground, service, { worker, admin }, told)
    })
  }
})

t.test('after a load the service holds no more files open than before', async (t) => {
  const ground = await freshGround(t)
  const admin = await initAdministrator(ground)
  const service = await startService(t, onGround(ground))
  const worker = await makeWorker(service.adminUrl, admin)
  const openFiles = () => readdirSync(`/proc/${service.pid}/fd`).length

  const wave = async (): Promise<void> => {
    const load = new ClientLoad(t, service.serviceUrl, worker, { leasing: 24, writing: 8 })
    await until('there are leases', 10_000, () => load.told.leases.length > 200)
    await load.stop()
  }
  await wave()
  await sleep(100)
  const before = openFiles()
  for (let waves = 0; waves < times(); waves++) await wave()
  await until(`no more than the ${before} before`, 10_000, () => openFiles() <= before + 2)
  await until('they are few', 10_000, () => openFiles() < 80)
  t.strictSame(await service.end('SIGTERM'), { code: 0, signal: null })
})
