import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { forbidden } from '../../src/core/errors.ts'
import { buildServiceApp } from '../../src/http/service-app.ts'
import { listening, requestText, until } from './raw-connection.ts'
import { ask, granted, lease, stubDeps } from './stub-deps.ts'

const json = '{"credentials":["a","b","c"]}'
const type = { 'content-type': 'application/json' }
const one = '/v1/workspaces/acme/credentials/orders-db/leases'
const many = '/v1/workspaces/acme/leases'
const outcomes = [granted, forbidden('lease:issue'), granted]

const doors = [
  { method: 'lease', result: granted, url: one, payload: '{}', leases: 1 },
  { method: 'leaseMany', result: outcomes, url: many, payload: json, leases: 2 },
]

for (const { method, result, url, payload, leases } of doors) {
  const ground = () => {
    const commit = Promise.withResolvers<unknown>()
    const { deps, seen } = stubDeps({
      [`leaseGrants.${method}`]: () => commit.promise,
      'leaseGrants.undelivered': () => undefined,
    })
    const undelivered = () => seen.calls.filter((call) => call.method === 'leaseGrants.undelivered')
    return { app: buildServiceApp(deps), commit, seen, undelivered }
  }
  const text = requestText(`POST ${url}`, { ...type, 'content-length': String(payload.length) }) + payload

  for (const [how, hangUp] of [
    ['closed', 'end'],
    ['reset', 'resetAndDestroy'],
  ] as const) {
    t.test(
      `${method}: what is granted to one who has ${how} his connection is told to have failed`,
      async (t) => {
        const { app, commit, seen, undelivered } = ground()
        const connection = (await listening(t, app))()
        connection.send(text)
        await until(() => seen.calls.length > 0)
        connection.socket[hangUp]()
        await sleep(50)
        commit.resolve(result)
        await until(() => undelivered().length > 0)
        await sleep(20)
        t.equal(undelivered().length, 1)
        const [call, failed] = undelivered()[0]!.args as [{ operation: string }, (typeof granted)[]]
        t.match(call, { operation: leases === 1 ? 'leaseCredential' : 'leaseCredentials' })
        t.strictSame(
          failed.map((each) => each.lease.id),
          Array(leases).fill(lease.id),
        )
        t.equal(connection.text, '')
      },
    )
  }

  t.test(`${method}: what leaves has not failed`, async (t) => {
    const { app, commit, undelivered } = ground()
    commit.resolve(result)
    const headers = { ...type }
    t.ok((await ask(app, { method: 'POST', url, payload, headers })).text.includes('"value"'))
    const connection = (await listening(t, app))()
    connection.send(text)
    const [answer] = await connection.answers(1)
    t.match(answer!.body, '"value"')
    t.equal(undelivered().length, 0)
  })
}
