import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { Secret } from '../../src/core/secret.ts'
import { Connections } from '../../src/postgres/connections.ts'
import { freshGround } from '../ground.ts'
import { rest } from '../troubled-store.ts'

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

t.test('who is to end waits for a database that works, and not for long where it hangs', async (t) => {
  const options = { databaseUrl: ground.databaseUrl, max: 2, statementTimeoutMs: 0, onError: () => {} }
  const connections = new Connections(options)
  const sleeps = (seconds: number) =>
    connections.run(performance.now() + 30_000, (client) => client.query('select pg_sleep($1)', [seconds]))
  const [underWay, hanging] = [sleeps(3), sleeps(30)]
  hanging.catch(() => {})
  await rest(500)
  connections.hurry(7_000, 3_000)
  await underWay
  await t.rejects(sleeps(5), { code: 'unavailable' }, 'what begins later has less time')
  await t.rejects(hanging, { code: 'unavailable' })
  for (let step = 0; step < 4; step++) await sleeps(0.3)
  await connections.close()
})

t.test('connections to a server that never says a word are closed all the same', async (t) => {
  const silent = createServer(() => {})
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  t.teardown(() => silent.close())
  const { port } = silent.address() as AddressInfo
  const databaseUrl = new Secret(`postgres://u:p@127.0.0.1:${port}/x`)
  const connections = new Connections({ databaseUrl, max: 4, statementTimeoutMs: 0, onError: () => {} })
  const asked = (deadlineMs: number) =>
    connections
      .run(performance.now() + deadlineMs, (client) => client.query('select 1'))
      .then(
        () => 'answered',
        ({ code }) => code,
      )
  // More than there are connections: those who wait in line are gone before it moves.
  const many = [...Array.from({ length: 12 }, () => asked(300)), asked(30_000)]
  connections.hurry(1_000, 500)
  t.strictSame([...new Set(await Promise.all(many))], ['unavailable'])
  const beganAt = performance.now()
  await connections.close()
  const tookMs = Math.round(performance.now() - beganAt)
  t.ok(tookMs < 5_000, `${tookMs} ms`)
})
