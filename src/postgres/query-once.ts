import pg from 'pg'

/** Where a query goes, and as whom. */
export interface Target {
  host: string
  port: number
  database: string
  user: string
  password: string
}

/** One query on a connection of its own: for the demo, where a worker uses what it leased. */
export async function queryOnce(
  target: Target | string,
  text: string,
  values: unknown[] = [],
): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(typeof target === 'string' ? { connectionString: target } : target)
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}
