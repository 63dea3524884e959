import t from 'tap'
import type { Test } from 'tap'
import { Secret } from '../../src/core/secret.ts'
import { Connections } from '../../src/postgres/connections.ts'
import { freshGround } from '../ground.ts'

const ground = await freshGround(t)

/** What the server says of some of its settings, on a connection that asks for `settings`. */
async function told(t: Test, databaseUrl: Secret, settings: string[], names: string[]) {
  const options = { databaseUrl, max: 1, settings, statementTimeoutMs: 5000, onError: () => {} }
  const connections = new Connections(options)
  t.teardown(() => connections.close())
  const { rows } = await connections.run(performance.now() + 5000, (client) =>
    client.query('select name, setting from pg_settings where name = any ($1)', [names]),
  )
  return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))
}

t.test(
  'no statement is compiled, whatever the database would do: it takes longer than a deadline',
  async (t) => {
    // As PostgreSQL comes, and at a price that every statement reaches.
    await ground.sql(`alter database ${ground.name} set jit = on`)
    await ground.sql(`alter database ${ground.name} set jit_above_cost = 0`)
    for (const settings of [[], ['enable_seqscan=off']])
      t.match(await told(t, ground.databaseUrl, settings, ['jit', 'jit_above_cost']), {
        jit: 'off',
        jit_above_cost: '0',
      })
  },
)

t.test('what the database URL asks for holds beside what the service asks for', async (t) => {
  const url = new Secret(`${ground.databaseUrl.reveal()}&options=-c%20geqo=off%20-c%20jit=on`)
  t.strictSame(await told(t, url, ['enable_seqscan=off'], ['geqo', 'jit', 'enable_seqscan']), {
    geqo: 'off',
    jit: 'off',
    enable_seqscan: 'off',
  })
})

t.test('who is to end waits for a database that works, and not for one that hangs', async (t) => {
  const options = { databaseUrl: ground.databaseUrl, max: 2, statementTimeoutMs: 0, onError: () => {} }
  const connections = new Connections(options)
  const sleeps = (seconds: number) =>
    connections.run(performance.now() + 30_000, (client) => client.query('select pg_sleep($1)', [seconds]))
  const told: number[] = []
  const beganAt = performance.now()
  connections.hurry(1000, () => {
    told.push(performance.now() - beganAt)
    connections.giveUp()
  })
  for (let step = 0; step < 3; step++) await sleeps(0.5)
  t.strictSame(told, [], 'each step has its time')
  await t.rejects(sleeps(20), { code: 'unavailable' })
  t.equal(told.length, 1)
  await t.rejects(sleeps(0), { code: 'unavailable' }, 'and nothing is begun any more')
  await connections.close()
})
