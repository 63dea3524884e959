import { copyFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import { certificates, NO_OPENSSL } from './hashicorp-vault-certificates.ts'
import type { VaultServer } from './hashicorp-vault-server.ts'
import { eventually } from '../eventually.ts'
import { beginTrial, HASTY_MS, openStore } from './hashicorp-vault-trial.ts'

// They mostly wait, each at a server of its own.
t.jobs = 6

const PREFIX = { prefix: 'strongroom' }
const logins = ({ requests }: VaultServer): number =>
  requests.filter((line) => line.endsWith('/login')).length

for (const method of ['approle', 'kubernetes'] as const) {
  t.test(`${method}: many calls at once log in once, and a wrong or missing file is denied`, async (t) => {
    const { store, server } = await beginTrial(t, { method, namespace: 'data', times: { ttl: 3600 } })
    const refs = Array.from({ length: 8 }, () => mint(PREFIX))
    await Promise.all(refs.map((ref) => store.put(ref, MARKED)))
    t.equal(logins(server), 1)
    t.equal(await store.get(refs[0]!), MARKED)

    for (const spoil of [
      () => writeFileSync(server.loginFile, 'wrong-d41d8cd98f00b204'),
      () => writeFileSync(server.loginFile, ''),
      () => writeFileSync(server.loginFile, 'two\r\nlines: d41d8cd98f00b204'),
      () => rmSync(server.loginFile),
    ]) {
      spoil()
      const other = await openStore(server.settings)
      await failsAs(t, 'denied', () => other.get(refs[0]!))
      await other.close()
    }
    const lost = await openStore({
      ...server.settings,
      auth: { ...(server.settings['auth'] as object), mount: 'none' },
    })
    await failsAs(t, 'denied', () => lost.get(refs[0]!), 'a login where no method is mounted')
    await lost.close()
  })
}

t.test(
  'cert: the caller is known by its certificate, which may be replaced meanwhile',
  { skip: NO_OPENSSL },
  async (t) => {
    const tls = certificates(t)
    const { store, server } = await beginTrial(t, { method: 'cert', tls, times: { ttl: 3600 } })
    const ref = mint(PREFIX)
    await store.put(ref, MARKED)
    t.equal(await store.get(ref), MARKED)

    const stranger = certificates(t)
    const files = { cert_file: stranger.client_cert_file, key_file: stranger.client_key_file }
    const other = await openStore({ ...server.settings, auth: { method: 'cert', ...files } })
    t.teardown(() => other.close())
    await failsAs(t, 'denied', () => other.get(ref), 'a certificate that another authority signed')
    writeFileSync(files.key_file, 'no key')
    await failsAs(t, 'unavailable', () => other.get(ref), 'a key that is none')
    copyFileSync(tls.client_cert_file, files.cert_file)
    copyFileSync(tls.client_key_file, files.key_file)
    t.equal(await other.get(ref), MARKED)
  },
)

t.test('a token is renewed before it ends, and at its last end there is a new login', async (t) => {
  const { store, server } = await beginTrial(t, { method: 'approle', times: { ttl: 4, max: 7 } })
  const ref = mint(PREFIX)
  await store.put(ref, MARKED)
  t.ok(await eventually(() => server.tokens.renewals >= 1))
  t.equal(logins(server), 1, 'renewed while nobody called')
  for (let i = 0; i < 100 && logins(server) === 1; i++) {
    t.equal(await store.get(ref), MARKED)
    await sleep(100)
  }
  t.equal(await store.get(ref), MARKED)
  t.ok(logins(server) >= 2)
})

t.test('a login comes before the end that no renewal can move', async (t) => {
  const { store, server } = await beginTrial(t, { method: 'approle', times: { ttl: 3, max: 3.7 } })
  await store.check()
  t.ok(await eventually(() => logins(server) >= 2, 3_700))
  t.same([server.tokens.renewals, logins(server)], [1, 2])
})

t.test(
  'a token in its last second, renewed by less than one, is not taken for one without end',
  async (t) => {
    const { store, server } = await beginTrial(t, { method: 'approle', times: { ttl: 2, max: 2 } })
    await store.check()
    t.ok(await eventually(() => logins(server) >= 2))
    t.same([server.tokens.renewals, logins(server)], [1, 2])
  },
)

t.test('a token that cannot be renewed is replaced by a new login before it ends', async (t) => {
  const { store, server } = await beginTrial(t, { method: 'kubernetes', times: { ttl: 4, renewable: false } })
  await store.check()
  t.ok(await eventually(() => logins(server) >= 2, 4_000))
  t.equal(server.tokens.renewals, 0)
})

t.test('a renewal that fails is tried again while the token lives', async (t) => {
  const { store, server } = await beginTrial(t, { method: 'token', times: { ttl: 6 } })
  await store.check()
  let failed = 0
  server.forge = (request) => (request.includes('renew-self') && ++failed ? { status: 500 } : undefined)
  t.ok(await eventually(() => failed > 0))
  server.forge = undefined
  t.ok(await eventually(() => server.tokens.renewals >= 1))
  await t.resolves(store.check())
})

t.test('a token that was revoked is replaced within the call, by one login for all', async (t) => {
  const { store, server } = await beginTrial(t, { method: 'approle', times: { ttl: 3600 } })
  const ref = mint(PREFIX)
  await store.put(ref, MARKED)
  await sleep(1_050)
  server.tokens.revokeAll()
  const values = await Promise.all(Array.from({ length: 5 }, () => store.get(ref)))
  t.same(
    values,
    Array.from({ length: 5 }, () => MARKED),
  )
  t.equal(logins(server), 2)
})

t.test('a path that is refused is denied, and is no reason to log in again', async (t) => {
  const { store, server } = await beginTrial(t, { method: 'approle', times: { ttl: 3600 } })
  await store.check()
  await sleep(1_050)
  server.forge = (request) => (request.includes('/data/') ? { status: 403 } : undefined)
  for (let i = 0; i < 5; i++) await failsAs(t, 'denied', () => store.get(mint(PREFIX)))
  t.equal(logins(server), 1)
  server.tokens.selfService = false
  const beganAt = performance.now()
  for (let i = 0; i < 5; i++) await failsAs(t, 'denied', () => store.get(mint(PREFIX)))
  const seconds = Math.floor((performance.now() - beganAt) / 1_000)
  t.ok(
    logins(server) >= 2 && logins(server) <= 2 + seconds,
    'once a second at most where the token may not be asked about',
  )
})

t.test('token: its file is read again after a refusal, and when it changed', async (t) => {
  const { store, server } = await beginTrial(t, { times: { ttl: 3600 } })
  const ref = mint(PREFIX)
  await store.put(ref, MARKED)
  server.tokens.revokeAll()
  await failsAs(t, 'denied', () => store.get(ref), 'with a token that is no more')
  writeFileSync(server.loginFile, server.tokens.issue())
  t.equal(await store.get(ref), MARKED, 'at once after the refusal')

  writeFileSync(server.loginFile, server.tokens.issue())
  await sleep(1_050)
  await store.get(ref)
  const text = 'hvs.newer'
  writeFileSync(server.loginFile, text)
  await sleep(1_050)
  await failsAs(t, 'denied', () => store.get(ref), 'a change is seen though the old token lives')
  for (const spoil of [() => writeFileSync(server.loginFile, ''), () => rmSync(server.loginFile)]) {
    writeFileSync(server.loginFile, server.tokens.issue())
    await sleep(1_050)
    t.equal(await store.get(ref), MARKED)
    spoil()
    await sleep(1_050)
    t.equal(await store.get(ref), MARKED, 'a file that is just being written takes no token away')
  }
})

t.test('token: a missing or empty file is denied, and mended without a restart', async (t) => {
  const { store, server } = await beginTrial(t)
  const token = server.tokens.issue()
  rmSync(server.loginFile)
  await failsAs(t, 'denied', () => store.check())
  writeFileSync(server.loginFile, '\n')
  await failsAs(t, 'denied', () => store.check())
  writeFileSync(server.loginFile, token)
  await t.resolves(store.check())
})

t.test('token: one that is not renewable or may not ask about itself is used as it is', async (t) => {
  const { store, server } = await beginTrial(t, { times: { ttl: 4, renewable: false } })
  await store.check()
  await sleep(2_900)
  t.equal(server.tokens.renewals, 0)
  await t.resolves(store.check())
  await sleep(1_200)
  await failsAs(t, 'denied', () => store.check(), 'once it has ended')

  const { store: shy, server: mute } = await beginTrial(t, { times: { ttl: 3600 } })
  mute.tokens.selfService = false
  await t.resolves(shy.check())
})

t.test('a login that hangs ends in time, and so does the call that needs it', async (t) => {
  const { store, server } = await beginTrial(t, { method: 'approle' }, HASTY_MS)
  await server.suffer('hang')
  const beganAt = performance.now()
  await failsAs(t, 'unavailable', () => store.get(mint(PREFIX)))
  t.ok(performance.now() - beganAt < 10_000)
  await server.recover()
  await t.resolves(store.check())
})
