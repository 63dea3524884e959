import pg from 'pg'
import { Secret } from '../core/secret.ts'
import type { EmbeddedServer } from './embedded-server.ts'

const OWNER = 'strongroom_owner'
const SERVICE = 'strongroom'
const DATABASE = 'strongroom'

/**
 * Makes the two roles and the database on an embedded server, where they are missing.
 *
 * @returns The URLs of the owner, who runs migrations, and of the service, who may not.
 */
export async function setUpEmbedded(
  server: EmbeddedServer,
): Promise<{ ownerUrl: Secret; serviceUrl: Secret }> {
  const [ownerPassword, servicePassword] = [
    await server.passwordFor(OWNER),
    await server.passwordFor(SERVICE),
  ]
  const client = new pg.Client({ connectionString: server.superuserUrl })
  await client.connect()
  try {
    const { rows } = await client.query('select rolname from pg_roles where rolname = any ($1)', [
      [OWNER, SERVICE],
    ])
    const known = rows.map((row) => row.rolname)
    for (const [role, password] of [[OWNER, ownerPassword] as const, [SERVICE, servicePassword] as const]) {
      if (known.includes(role)) continue
      await client.query(`create role ${role} login password ${pg.escapeLiteral(password)}`)
    }
    const database = await client.query('select from pg_database where datname = $1', [DATABASE])
    if (!database.rowCount) await client.query(`create database ${DATABASE} owner ${OWNER}`)
  } finally {
    await client.end()
  }
  return {
    ownerUrl: new Secret(server.url(OWNER, ownerPassword, DATABASE)),
    serviceUrl: new Secret(server.url(SERVICE, servicePassword, DATABASE)),
  }
}
