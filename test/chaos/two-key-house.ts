import type { Test } from 'tap'
import { FernetKey } from '../../src/core/fernet.ts'
import { fill } from '../bench/fill.ts'
import type { TestGround } from '../ground.ts'
import { freshGround } from '../ground.ts'
import { call, must } from './client-load.ts'
import type { ServiceProcess } from './service-process.ts'
import { initAdministrator, onGround, refusedStart, startService, until } from './service-process.ts'

/** A key and its text. */
export type Key = ReturnType<typeof FernetKey.generate>

/** A ledger whose copies are under one key, and another key for them to be moved onto. */
export async function twoKeyHouse(t: Test, credentials: number) {
  const fresh = await freshGround(t)
  const [old, next] = [FernetKey.generate(), FernetKey.generate()]
  await fill(fresh.ownerUrl.reveal(), [old.text.reveal()], { callers: 1, credentials, bytes: 300 })
  const ground: TestGround = { ...fresh, keys: [old.text] }
  const admin = await initAdministrator(ground)
  const ring = (...keys: Key[]) => onGround({ ...ground, keys: keys.map((key) => key.text) })
  const start = (...keys: Key[]) => startService(t, ring(...keys))
  const refused = (...keys: Key[]) => refusedStart(t, ring(...keys))
  return { ground, admin, old, next, start, refused }
}

/** Begins a rotation. */
export const rotate = async ({ adminUrl }: ServiceProcess, admin: string, to?: Key) =>
  must('POST', `${adminUrl}/v1/admin/rotations`, admin, to ? { to_key: to.key.id } : {})

/** Waits for the end of a rotation. */
export async function ended({ adminUrl }: ServiceProcess, admin: string, id: string) {
  const run = () => must('GET', `${adminUrl}/v1/admin/rotations/${id}`, admin)
  await until('the rotation has ended', 30_000, async () => (await run()).state !== 'running')
  return await run()
}

/** Asks for a lease. */
export const lease = ({ serviceUrl }: ServiceProcess, worker: string, name: string, body = {}) =>
  call('POST', `${serviceUrl}/v1/workspaces/acme/credentials/${name}/leases`, worker, body)

/** How many copies are sealed under a key. */
export const countUnder = async ({ sql }: TestGround, { key }: Key): Promise<number> =>
  (await sql('select from copies where token is not null and key_id = $1', [key.id])).length
