import { readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import type { Documented } from '../contract.ts'
import type { Answer } from '../service.ts'
import { ALL, startService } from '../service.ts'
import { troubledStore } from '../troubled-store.ts'

const { store } = await troubledStore(t)
const service = await startService(t, {}, { stores: [store] })
const { contract, admin } = service
const writer = service.as(await service.identity('writer', [ALL]))
const C = '/v1/workspaces/acme/credentials'

await writer('PUT', `${C}/orders-db`, { connector: 'source-postgres', value: { password: 'one' } })
await writer('PUT', `${C}/orders-db/value`, { value: { password: 'two' } })
const lease = (await writer('POST', `${C}/orders-db/leases`)).json.lease.id
await admin('PUT', '/v1/admin/roles/orders-worker', { grants: [] })
await admin('PUT', '/v1/admin/identities/someone', { roles: ['orders-worker'] })
const token = (await admin('POST', '/v1/admin/identities/someone/tokens')).json.id
const storeMigration = (
  await admin('POST', '/v1/admin/store-migrations', { from: 'local', to: 'team-vault' })
).json.id
const rotation = (await admin('POST', '/v1/admin/rotations')).json.id

/** What stands in a path for each of its parameters. */
const PARAMETERS: Record<string, string> = {
  workspace: 'acme',
  name: 'orders-db',
  version: '1',
  identity: 'someone',
  role: 'orders-worker',
  token,
}

/** Sends a request of the operation: with a body where it takes one. */
function send({ app, method, path, operation }: Documented, body?: unknown): Promise<Answer> {
  const { operationId } = operation
  const runs = operationId.includes('Rotation') ? rotation : lease
  const id = operationId.includes('StoreMigration') ? storeMigration : runs
  const url = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => (name === 'id' ? id : PARAMETERS[name]!))
  return (app === service.strongroom.adminApp ? admin : writer)(method, url, body)
}

t.test('every request that the document shows is taken, and answered as it says', async (t) => {
  let shown = 0
  for (const documented of contract.operations) {
    const { operation, examples } = documented
    if (operation.requestBody) t.ok(examples.length > 0, `${operation.operationId} shows a request`)
    for (const example of examples) {
      // The answer is held against its schema by the one who asks.
      const { status, json } = await send(documented, example)
      t.ok(status < 300 || status === 409, `${operation.operationId} ${status} ${json?.code}`)
      shown++
    }
  }
  t.ok(shown >= 14)
})

t.test('an example of each body is refused with a field more, and nowhere does it work', async (t) => {
  for (const documented of contract.operations.filter(({ examples }) => examples.length > 0)) {
    const { status, json } = await send(documented, { ...(documented.examples[0] as object), frobnicate: 1 })
    t.match([status, json.code], [400, 'invalid_request'], documented.operation.operationId)
  }
})

t.test('every operation without a body is answered as documented', async (t) => {
  // What deletes goes last, and what lies deepest first.
  const bodiless = contract.operations.filter(({ examples }) => examples.length === 0)
  const rank = ({ method, path }: Documented): number => (method === 'DELETE' ? 1000 - path.length : 0)
  const ordered = bodiless.toSorted((a, b) => rank(a) - rank(b))
  for (const documented of ordered) {
    const { status } = await send(documented)
    t.ok(status < 300 || status === 409, `${documented.operation.operationId} ${status}`)
  }
})

t.test('every schema is one', async (t) => {
  t.strictSame(contract.schemaFaults(), [])
})

t.test('the file is what the listeners say of themselves', async (t) => {
  const file = parse(readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8'))
  const inFile = Object.entries<Record<string, { operationId?: string }>>(file.paths).flatMap(
    ([path, methods]) =>
      Object.entries(methods)
        .filter(([, one]) => one.operationId)
        .map(([method, one]) => `${method.toUpperCase()} ${path} ${one.operationId}`),
  )
  const told = contract.operations.map((one) => `${one.method} ${one.path} ${one.operation.operationId}`)
  t.same([...new Set(told)].sort(), inFile.sort())
  t.ok(told.includes('POST /v1/workspaces/{workspace}/credentials/{name}/leases leaseCredential'))
})
