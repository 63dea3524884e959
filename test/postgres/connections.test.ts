import t from 'tap'
import { Connections } from '../../src/postgres/connections.ts'
import { freshGround } from '../ground.ts'

const ground = await freshGround(t)

t.test(
  'no statement is compiled, whatever the database would do: it takes longer than a deadline',
  async (t) => {
    // As PostgreSQL comes, and at a price that every statement reaches.
    await ground.sql(`alter database ${ground.name} set jit = on`)
    await ground.sql(`alter database ${ground.name} set jit_above_cost = 0`)
    for (const settings of [[], ['enable_seqscan=off']]) {
      const { databaseUrl } = ground
      const connections = new Connections({
        databaseUrl,
        max: 1,
        settings,
        statementTimeoutMs: 5000,
        onError: () => {},
      })
      t.teardown(() => connections.close())
      const { rows } = await connections.run(performance.now() + 5000, (client) =>
        client.query(`select current_setting('jit') as jit, current_setting('jit_above_cost') as above`),
      )
      t.strictSame(rows, [{ jit: 'off', above: '0' }])
    }
  },
)
