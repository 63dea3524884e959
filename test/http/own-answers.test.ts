import { once } from 'node:events'
import t from 'tap'
import { buildAdminApp } from '../../src/http/admin-app.ts'
import { buildServiceApp } from '../../src/http/service-app.ts'
import type { Ends } from './raw-connection.ts'
import { listening, requestText } from './raw-connection.ts'
import { good, stubDeps } from './stub-deps.ts'

const authorization = `authorization: Bearer ${good.text.reveal()}`
const LEASE = '/v1/workspaces/acme/credentials/orders-db/leases'

for (const [name, build] of [
  ['service', buildServiceApp],
  ['admin', buildAdminApp],
] as const) {
  const open = async (t: Ends) => {
    const { deps, seen } = stubDeps()
    const connect = await listening(t, build(deps))
    const ask = async (text: string) => {
      const connection = connect()
      connection.send(text)
      const [answer] = await connection.answers(1)
      return { connection, ...answer!, json: JSON.parse(answer!.body) as Record<string, unknown> }
    }
    return { ask, seen }
  }

  t.test(`${name}: HTTP/1.1 without a host is told so as everything else is`, async (t) => {
    const { ask, seen } = await open(t)
    for (const line of ['GET /v1/whoami', 'GET /nowhere', 'GET /v1/who%ZZ', `POST ${LEASE}`]) {
      const answer = await ask(`${line} HTTP/1.1\r\n${authorization}\r\ncontent-length: 0\r\n\r\n`)
      t.equal(answer.status, 400, line)
      t.match(answer.json, { code: 'invalid_request', errors: [{ pointer: 'host' }] })
      t.match(answer.head, /^content-type: application\/problem\+json/m)
      t.match(answer.head, /^cache-control: no-store/m)
      t.match(answer.head, `x-request-id: ${String(answer.json['instance']).slice('/requests/'.length)}`)
    }
    t.equal(seen.calls.length, 0)
    t.equal((await ask('GET /health/live HTTP/1.0\r\n\r\n')).status, 200, 'HTTP/1.0 needs none')
  })

  t.test(`${name}: an expectation that nobody knows is passed over`, async (t) => {
    const { ask } = await open(t)
    const answer = await ask(requestText('GET /health/live', { expect: 'foo' }))
    t.equal(answer.status, 200)
    t.match(answer.head, /^x-request-id: /m)
  })

  t.test(`${name}: CONNECT is a method like any other that is unknown`, async (t) => {
    const { ask } = await open(t)
    const answer = await ask('CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\nand more of it')
    t.equal(answer.status, 404)
    t.equal(answer.json['code'], 'not_found')
    t.match(answer.head, /^content-type: application\/problem\+json/m)
    t.match(answer.head, /^cache-control: no-store/m)
    t.match(answer.head, /^connection: close/m)
    t.match(answer.head, `x-request-id: ${String(answer.json['instance']).slice('/requests/'.length)}`)
    if (!answer.connection.closed) await once(answer.connection.socket, 'close')
  })
}
