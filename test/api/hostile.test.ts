import t from 'tap'
import { mintToken } from '../../src/core/token.ts'
import { parseQuery } from '../../src/http/query.ts'
import { ALL, startService } from '../service.ts'

const C = '/v1/workspaces/acme/credentials'
const service = await startService(t)
const writer = service.as(await service.identity('writer', [ALL]))
const input = { connector: 'source-postgres', value: 'one' }
await writer('PUT', `${C}/hidden`, { ...input, labels: { team: 'b' } })

t.test('PUT answers for a hidden name as for one that is missing', async (t) => {
  const grant = { actions: ['credential:read'], workspaces: ['acme'], labels: { team: 'a' } }
  const reader = service.as(await service.identity('reader', [grant]))
  const body = { ...input, labels: { team: 'a' } }
  const [hidden, missing] = [
    await reader('PUT', `${C}/hidden`, body),
    await reader('PUT', `${C}/missing`, body),
  ]
  t.equal(hidden.status, 403)
  t.equal(missing.status, 403)
  t.equal(hidden.json.detail, missing.json.detail)
})

t.test('who could have made a hidden name is told that it is taken', async (t) => {
  const grant = { actions: ['credential:write'], workspaces: ['acme'], labels: { team: 'a' } }
  const other = service.as(await service.identity('other', [grant]))
  const answer = await other('PUT', `${C}/hidden`, { ...input, labels: { team: 'a' } })
  t.equal(answer.json.code, 'name_taken')
})

t.test('made-up tokens take no place in the line for leases', async (t) => {
  const credentials = Array.from({ length: 100 }, (_, index) => `name-${index}`)
  const forged = Array.from({ length: 60 }, () =>
    service.as(mintToken().text.reveal())('POST', '/v1/workspaces/acme/leases', { credentials }),
  )
  const leased = await writer('POST', `${C}/hidden/leases`, {})
  t.equal(leased.status, 201)
  t.same([...new Set((await Promise.all(forged)).map((answer) => answer.status))], [401])
})

t.test('a parameter that is repeated thousands of times costs no more than reading it', async (t) => {
  const beganAt = performance.now()
  parseQuery(Array(8000).fill('a').join('&'))
  t.ok(performance.now() - beganAt < 100)
})
