import t from 'tap'
import { command, type DemoGround, type SourcePostgres } from '../../src/cli/demo.ts'
import { mintToken } from '../../src/core/token.ts'
import { fakeTerminal } from './fake-terminal.ts'
import { loopback, type Seen } from './run-strongroom.ts'

/** Answers as the service would, but for `more`. */
async function stage(more: Partial<DemoGround> = {}, row = `gAAAAA${'x'.repeat(900)}`) {
  let kept: SourcePostgres | undefined
  let revoked = false
  const minted: string[] = []
  const answer = ({ method, url, headers, body }: Seen) => {
    if (url.endsWith('/tokens')) {
      const token = mintToken().text.reveal()
      minted.push(token)
      return { status: 201, body: { id: 't', token } }
    }
    if (url.endsWith('/leases')) {
      const isBilling = headers.authorization === `Bearer ${minted[2]}`
      if (isBilling) return { status: 404, body: { code: 'not_found', detail: 'Nothing' } }
      return { status: 201, body: { lease: { id: 'l1' }, value: kept } }
    }
    if (url.endsWith('/renew'))
      return revoked ? { status: 410, body: { code: 'lease_ended' } } : { status: 200, body: {} }
    if (method === 'DELETE') {
      revoked = true
      return { status: 204 }
    }
    if (url.endsWith('/orders-db')) kept = (JSON.parse(body) as { value: SourcePostgres }).value
    if (url.includes('/audit?'))
      return { status: 200, body: { items: [{ action: 'lease:issue', outcome: 'allowed' }] } }
    return { status: method === 'PUT' ? 201 : 200, body: { valid: true } }
  }
  const service = await loopback(answer)
  let cleaned = 0
  const statements: string[] = []
  const ground: DemoGround = {
    serviceUrl: service.url,
    adminUrl: service.url,
    adminToken: mintToken().text,
    async sql(text) {
      statements.push(text)
      return text.includes('copies') ? [{ token: row }] : [{ host: '/run/x', port: 5432 }]
    },
    workerQuery: async (_config, text) =>
      text.startsWith('select') ? [1, 2, 3].map((id) => ({ id, item: 'lamp', cents: 1 })) : [],
    async clean() {
      cleaned++
      service.close()
    },
    ...more,
  }
  const secrets = () => [ground.adminToken.reveal(), ...minted, kept?.password ?? '(none kept)']
  return { ground, secrets, cleaned: () => cleaned, statements, revoked: () => revoked }
}

t.test('the transcript shows every step as a curl, and no password or token', async (t) => {
  const { terminal, out } = fakeTerminal()
  const { ground, secrets, cleaned, revoked } = await stage()
  t.equal(await command.run([], terminal, async () => ground), 0)
  t.equal(cleaned(), 1)
  t.ok(revoked())
  t.equal(out().match(/^\d\. /gm)?.length, 8)
  t.match(out(), /curl -X PUT '.*orders-db' \\\n +-H "authorization: Bearer \$PLATFORM_TOKEN"/)
  t.match(out(), /"password": "\*{10}"/)
  t.equal(secrets().length, 5)
  for (const secret of secrets()) t.notOk(out().includes(secret))
})

t.test('a row that is not sealed fails the demo, which still cleans up', async (t) => {
  const { terminal } = fakeTerminal()
  const { ground, cleaned } = await stage({}, '{"password":"open"}')
  await t.rejects(
    command.run([], terminal, async () => ground),
    { message: 'the row is not sealed' },
  )
  t.equal(cleaned(), 1)
})

t.test('a signal in the middle cleans up and is told', async (t) => {
  const { terminal, signal, listening } = fakeTerminal()
  const waiting = new Promise<never>(() => undefined)
  const { ground, cleaned } = await stage({ workerQuery: () => waiting })
  const running = command.run([], terminal, async () => ground)
  setTimeout(signal, 20)
  await t.rejects(running, { message: 'interrupted', exitCode: 130 })
  t.equal(cleaned(), 1)
  t.notOk(listening())
})

t.test('a signal during the start cleans up what was started', async (t) => {
  const { terminal, signal, out } = fakeTerminal()
  const { ground, cleaned } = await stage()
  const starting = Promise.withResolvers<DemoGround>()
  const running = command.run([], terminal, () => starting.promise)
  signal()
  starting.resolve(ground)
  await t.rejects(running, { message: 'interrupted', exitCode: 130 })
  t.equal(cleaned(), 1)
  t.equal(out(), '')
})
