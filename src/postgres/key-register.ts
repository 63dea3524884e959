import { StartRefused } from '../core/start-refused.ts'
import type { Client, Connections } from './connections.ts'
import { PROCESS_ALIVE_SECONDS } from './keys-sql.ts'

/** A process and the keys that it knows. */
export interface ProcessRegistration {
  /** UUID. */
  id: string
  /** Host and process number, for people. */
  name: string
  /** The ids of the ring's keys, the first one first. */
  keyIds: readonly string[]
}

/**
 * Registers a process and the keys it knows, in one transaction under the key table's lock.
 *
 * On an empty ledger the first process's first key becomes the sealing key.
 *
 * @returns The id of the sealing key.
 * @throws StartRefused where the ring lacks the sealing key or one that still seals copies, naming each.
 */
export async function registerProcess(
  connections: Connections,
  process: ProcessRegistration,
): Promise<string> {
  return connections.run(performance.now() + REGISTER_DEADLINE_MS, async (client) => {
    await client.query('begin')
    try {
      await client.query('lock table keys in exclusive mode')
      const sealing = await register(client, process)
      await client.query('commit')
      return sealing
    } catch (error) {
      await client.query('rollback')
      throw error
    }
  })
}

const REGISTER_DEADLINE_MS = 10_000

async function register(client: Client, process: ProcessRegistration): Promise<string> {
  const { keyIds } = process
  const needed = await client.query(
    `select k.id, k.sealing, exists (select from copies c where c.key_id = k.id and c.token is not null) as used
     from keys k order by k.id`,
  )
  const missing = needed.rows.filter((key) => (key.sealing || key.used) && !keyIds.includes(key.id))
  if (missing.length > 0) {
    throw new StartRefused(
      missing.map(
        (key) =>
          `STRONGROOM_KEYS: the ring (${keyIds.join(', ')}) lacks the key ${key.id}, which ` +
          (key.sealing ? 'the ledger names as the sealing key' : 'still seals copies in the ledger'),
      ),
    )
  }
  await client.query('insert into keys (id) select unnest($1::text[]) on conflict do nothing', [keyIds])
  const first = needed.rows.every((key) => !key.sealing)
  if (first) await client.query('update keys set sealing = true where id = $1', [keyIds[0]])
  await noteAlive(client, process)
  return needed.rows.find((key) => key.sealing)?.id ?? keyIds[0]!
}

/** Says that the process lives, and forgets those that have not been seen for long. @returns the sealing key's id */
export async function keepProcessAlive(
  connections: Connections,
  process: ProcessRegistration,
): Promise<string> {
  return connections.run(performance.now() + ALIVE_DEADLINE_MS, async (client) => {
    await noteAlive(client, process)
    await client.query('delete from processes where seen_at < now() - make_interval(secs => $1)', [
      PROCESS_ALIVE_SECONDS * 10,
    ])
    const { rows } = await client.query('select id from keys where sealing')
    return rows[0].id
  })
}

const ALIVE_DEADLINE_MS = 2_000

async function noteAlive(client: Client, { id, name, keyIds }: ProcessRegistration): Promise<void> {
  await client.query(
    `insert into processes (id, name, key_ids) values ($1, $2, $3)
     on conflict (id) do update set key_ids = excluded.key_ids, seen_at = now()`,
    [id, name, keyIds],
  )
}

/** The process ends: it no longer counts among those that know a key. */
export async function forgetProcess(connections: Connections, id: string): Promise<void> {
  await connections.run(performance.now() + ALIVE_DEADLINE_MS, (client) =>
    client.query('delete from processes where id = $1', [id]),
  )
}
