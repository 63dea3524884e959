import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Secret } from '../../src/core/secret.ts'
import { buildServiceApp } from '../../src/http/service-app.ts'
import type { Ends } from './raw-connection.ts'
import { listening, requestText, until } from './raw-connection.ts'
import { lease, stubDeps } from './stub-deps.ts'

const UNREAD_MS = 300
/** Together far more than the buffers of two sockets hold. */
const LEASES = 24
const VALUE = JSON.stringify('v'.repeat(1_000_000))

/** A connection that has asked for more than it takes, and how many connections the app has. */
async function begin(t: Ends) {
  const granted = { lease, value: new Secret(VALUE) }
  const { deps } = stubDeps({ 'leaseGrants.lease': async () => granted }, { unreadMsMax: UNREAD_MS })
  const app = buildServiceApp(deps)
  const connection = (await listening(t, app))()
  let open = 0
  app.server.on('connection', (socket) => {
    open++
    socket.once('close', () => open--)
  })
  connection.socket.pause()
  const body = '{}'
  const headers = { 'content-type': 'application/json', 'content-length': String(body.length) }
  const request = requestText('POST /v1/workspaces/acme/credentials/orders-db/leases', headers) + body
  connection.send(...Array.from({ length: LEASES }, () => request))
  await until(() => open === 1)
  return { connection, open: () => open }
}

t.test('an answer that nobody reads goes with its connection', async (t) => {
  const { open } = await begin(t)
  const beganAt = performance.now()
  await until(() => open() === 0)
  t.ok(performance.now() - beganAt >= UNREAD_MS * 0.9)
})

t.test('who reads slowly gets it all', async (t) => {
  const { connection, open } = await begin(t)
  const beganAt = performance.now()
  while (connection.text.length < LEASES * VALUE.length && open() === 1) {
    await sleep(UNREAD_MS / 5)
    for (let part = 0; part < 32; part++) {
      connection.socket.read()
      await immediate()
    }
  }
  t.ok(performance.now() - beganAt > 2 * UNREAD_MS)
  t.equal((await connection.answers(LEASES)).length, LEASES)
})
