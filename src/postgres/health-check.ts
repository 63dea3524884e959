import type { HealthReport } from '../core/health.ts'
import type { Connections } from './connections.ts'
import { knownMigrations } from './start-checks.ts'

const CHECK_DEADLINE_MS = 900

/**
 * Whether the database answers, has the schema that this version knows, and seals under a key that this process knows.
 *
 * @param knowsKey Whether a key of this id is on the ring.
 * @param storesHealth Only shown: no store decides whether this process is ready.
 * @param onFailed Told why the database could not be asked: whoever asks for the health is not.
 */
export async function checkHealth(
  connections: Connections,
  knowsKey: (id: string) => boolean,
  storesHealth: () => { ok: number; degraded: number },
  onFailed: (error: unknown) => void,
): Promise<HealthReport> {
  const stores = storesHealth()
  try {
    const { rows } = await connections.run(performance.now() + CHECK_DEADLINE_MS, (client) =>
      client.query({
        name: 'health',
        text: `select (select id from keys where sealing) as sealing,
          array(select name::text from strongroom_migrations order by name) as migrations`,
      }),
    )
    const { sealing, migrations } = rows[0]
    const schema = knownMigrations().join() === migrations.join() ? 'ok' : 'another version'
    const keys = knowsKey(sealing) ? 'ok' : 'the sealing key is not on the ring'
    return { ready: schema === 'ok' && keys === 'ok', checks: { database: 'ok', schema, keys, stores } }
  } catch (error) {
    onFailed(error)
    return { ready: false, checks: { database: 'unavailable', schema: 'unknown', keys: 'unknown', stores } }
  }
}
