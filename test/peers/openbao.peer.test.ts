import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Locator } from '../../src/core/locator.ts'
import { conforms, failsAs, MARKED, mint } from '../conformance/secret-store.ts'
import type { StoreUnderTest, Trouble } from '../conformance/secret-store.ts'
import { certificates, NO_OPENSSL } from '../providers/hashicorp-vault-certificates.ts'
import { openStore } from '../providers/hashicorp-vault-trial.ts'
import { startOpenBao } from './openbao.ts'

const PREFIX = { prefix: 'strongroom' }
const OWNER = { workspace: 'acme', credential: 'orders-db' }

/** What the provider's documentation says that a store needs, and no more; links beside it. */
const POLICY = `
path "secret/data/strongroom/*"     { capabilities = ["create", "read", "update"] }
path "secret/metadata/strongroom/*" { capabilities = ["create", "update", "delete"] }
path "secret/data/apps/*"           { capabilities = ["read"] }`

const tls = NO_OPENSSL ? undefined : certificates(t)
const bao = await startOpenBao(tls)
t.teardown(() => bao.close())
await bao.root('POST', 'sys/mounts/secret', { type: 'kv', options: { version: '2' } })
await bao.root('PUT', 'sys/policies/acl/strongroom', { policy: POLICY })
for (const method of ['approle', 'cert', 'kubernetes'])
  await bao.root('POST', `sys/auth/${method}`, { type: method })

async function tokenFile(times: object, namespace?: string): Promise<string> {
  const ask = { policies: ['strongroom'], ...times }
  const { auth } = await bao.root('POST', 'auth/token/create', ask, namespace)
  return file((auth as { client_token: string }).client_token)
}

function file(text: string): string {
  const path = join(bao.home, randomUUID())
  writeFileSync(path, text, { mode: 0o600 })
  return path
}

async function approle(times: object): Promise<object> {
  const role = `auth/approle/role/${randomUUID()}`
  await bao.root('POST', role, { token_policies: ['strongroom'], ...times })
  const { role_id } = (await bao.root('GET', `${role}/role-id`))['data'] as { role_id: string }
  const { secret_id } = (await bao.root('POST', `${role}/secret-id`))['data'] as { secret_id: string }
  return { method: 'approle', role_id, secret_id_file: file(secret_id) }
}

async function make(): Promise<StoreUnderTest> {
  const auth = { method: 'token', token_file: await tokenFile({ ttl: '1h' }) }
  let trouble: Trouble | undefined
  return {
    ...PREFIX,
    store: await openStore({ address: bao.address, auth }, 2_000),
    timeoutMs: 2_000,
    valueBytesMax: 32_768,
    async suffer(next) {
      trouble = next
      if (next === 'deny') await bao.root('PUT', 'sys/policies/acl/strongroom', { policy: 'path "x" {}' })
      if (next === 'break') await bao.seal()
      if (next === 'refuse-connections') await bao.stop()
      if (next !== 'throttle') return
      await bao.root('POST', 'sys/quotas/rate-limit/low', { path: 'secret', rate: 0.0001, interval: '1h' })
      // The first call of an address is always let through.
      await bao.root('GET', 'secret/config').catch(() => {})
    },
    async recover() {
      if (trouble === 'deny') await bao.root('PUT', 'sys/policies/acl/strongroom', { policy: POLICY })
      if (trouble === 'throttle') await bao.root('DELETE', 'sys/quotas/rate-limit/low')
      if (trouble === 'break') await bao.unseal()
      if (trouble === 'refuse-connections') await bao.start()
      trouble = undefined
    },
    async plant(locator, text) {
      await bao.root('POST', `secret/data/${locator}`, { data: JSON.parse(text) as object })
    },
    async close() {},
  }
}

conforms(t, { name: 'OpenBao', troubles: ['deny', 'throttle', 'break', 'refuse-connections'], make })

t.test('put, get, label and delete leave nothing behind', async (t) => {
  const { store } = await make()
  t.teardown(() => store.close())
  const ref = mint(PREFIX)
  await store.put(ref, MARKED, OWNER)
  await store.put(ref, MARKED, OWNER)
  const { data } = await bao.root('GET', `secret/metadata/${ref}`)
  t.match(data, { current_version: 1, custom_metadata: OWNER })
  t.same(((await bao.root('GET', `secret/data/${ref}`))['data'] as { data: object }).data, { value: MARKED })
  await failsAs(t, 'rejected', () => store.put(ref, '"other"'))
  t.equal(await store.get(ref), MARKED)
  await store.delete(ref)
  await t.rejects(bao.root('GET', `secret/metadata/${ref}`), /404/)
  await store.put(ref, MARKED)
  await bao.root('DELETE', `secret/data/${ref}`)
  await failsAs(t, 'not_found', () => store.get(ref))
  await failsAs(t, 'rejected', () => store.put(ref, MARKED), 'a put over what an operator deleted')
  await store.delete(ref, true)
  await t.rejects(bao.root('GET', `secret/metadata/${ref}`), /404/)
})

t.test('a link says its version, and what the policy does not open is denied', async (t) => {
  const { store, plant } = await make()
  t.teardown(() => store.close())
  await plant('apps/acme/two', '{"a":"x"}')
  await plant('apps/acme/two', '{"a":"y","b":{"n":1.5,"t":true}}')
  t.same(await store.read(Locator.parse('apps/acme/two')!), {
    text: '{"a":"y","b":{"n":1.5,"t":true}}',
    version: '2',
  })
  await failsAs(t, 'not_found', () => store.read(Locator.parse('apps/sys/health')!))
  await failsAs(t, 'denied', () => store.read(Locator.parse('other/acme')!))
})

t.test('a mount that is missing or holds version 1 is no empty store', async (t) => {
  const auth = { method: 'token', token_file: await tokenFile({ policies: ['root'], ttl: '1h' }) }
  await bao.root('POST', 'sys/mounts/kv1', { type: 'kv' })
  for (const [mount, fault] of [
    ['kv1', 'rejected'],
    ['none', 'denied'],
  ] as const) {
    const store = await openStore({ address: bao.address, mount, auth })
    t.teardown(() => store.close())
    await failsAs(t, fault, () => store.check(), `check of ${mount}`)
    await failsAs(t, fault, () => store.put(mint(PREFIX), MARKED), `put into ${mount}`)
  }
  const store = await openStore({ address: bao.address, mount: 'none', auth })
  t.teardown(() => store.close())
  await failsAs(t, 'rejected', () => store.get(mint(PREFIX)))
  await t.rejects(bao.root('LIST', 'kv1/data/strongroom'), /404/)
})

t.test('a store lives in a namespace', async (t) => {
  await bao.root('POST', 'sys/namespaces/data')
  await bao.root('POST', 'sys/mounts/kv/team', { type: 'kv', options: { version: '2' } }, 'data')
  const policy = POLICY.replaceAll('"secret/', '"kv/team/')
  await bao.root('PUT', 'sys/policies/acl/strongroom', { policy }, 'data')
  const auth = { method: 'token', token_file: await tokenFile({ ttl: '1h' }, 'data') }
  const settings = { address: bao.address, mount: 'kv/team', auth }
  const [inside, outside] = [await openStore({ ...settings, namespace: 'data' }), await openStore(settings)]
  t.teardown(() => Promise.all([inside.close(), outside.close()]))
  const ref = mint(PREFIX)
  await inside.put(ref, MARKED, OWNER)
  t.equal(await inside.get(ref), MARKED)
  await failsAs(t, 'denied', () => outside.check())
})

t.test(
  'approle: logs in, renews while nobody calls, logs in anew at the last end, survives a revocation',
  async (t) => {
    const store = await openStore({
      address: bao.address,
      auth: await approle({ token_ttl: '3s', token_max_ttl: '6s' }),
    })
    t.teardown(() => store.close())
    const ref = mint(PREFIX)
    await store.put(ref, MARKED)
    await sleep(4_000)
    for (let i = 0; i < 8; i++) {
      t.equal(await store.get(ref), MARKED)
      await sleep(1_000)
    }
    await bao.root('PUT', 'sys/leases/revoke-prefix/auth/approle')
    // The server may still be at it when it answers, and then revokes what was logged in meanwhile, too.
    const got = await store.get(ref).catch(() => sleep(1_000).then(() => store.get(ref)))
    t.equal(got, MARKED, 'after its token was revoked')

    const wrong = { ...(await approle({})), secret_id_file: file(randomUUID()) }
    const other = await openStore({ address: bao.address, auth: wrong })
    t.teardown(() => other.close())
    await failsAs(t, 'denied', () => other.get(ref))
  },
)

t.test('token: is renewed while nobody calls, and read again when it was revoked', async (t) => {
  const token_file = await tokenFile({ ttl: '3s' })
  const store = await openStore({ address: bao.address, auth: { method: 'token', token_file } })
  t.teardown(() => store.close())
  await store.check()
  await sleep(4_000)
  await t.resolves(store.check())
  await bao.root('PUT', 'sys/leases/revoke-prefix/auth/token/create')
  await failsAs(t, 'denied', () => store.check())
  writeFileSync(token_file, '')
  const { auth } = await bao.root('POST', 'auth/token/create', { policies: ['strongroom'], ttl: '1h' })
  writeFileSync(token_file, (auth as { client_token: string }).client_token)
  await t.resolves(store.check())
})

t.test(
  'cert: logs in over TLS by its certificate and keeps its connections',
  { skip: NO_OPENSSL },
  async (t) => {
    const { client_cert_file, client_key_file, ca, ca_file } = tls!
    const allowed = {
      certificate: ca.toString(),
      allowed_common_names: ['client'],
      token_policies: ['strongroom'],
    }
    await bao.root('POST', 'auth/cert/certs/pipelines', { ...allowed, token_ttl: '3s' })
    const at = { address: bao.tlsAddress, ca_file }
    const auth = { method: 'cert', cert_file: client_cert_file, key_file: client_key_file, role: 'pipelines' }
    const store = await openStore({ ...at, auth })
    t.teardown(() => store.close())
    const ref = mint(PREFIX)
    await store.put(ref, MARKED)
    await sleep(4_000)
    t.equal(await store.get(ref), MARKED, 'and renews by it')

    const stranger = certificates(t)
    const files = { cert_file: stranger.client_cert_file, key_file: stranger.client_key_file }
    const other = await openStore({ ...at, auth: { method: 'cert', ...files } })
    t.teardown(() => other.close())
    await failsAs(t, 'denied', () => other.get(ref))
  },
)

t.test(
  'kubernetes: logs in by a service account that the cluster vouches for',
  { skip: NO_OPENSSL },
  async (t) => {
    const user = { username: 'system:serviceaccount:data:strongroom', uid: 'a-uid' }
    const cluster = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += String(chunk)
      const { spec } = JSON.parse(body) as { spec: { token: string } }
      const authenticated = spec.token === jwt
      response.writeHead(201, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify({
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenReview',
          status: { authenticated, ...(authenticated && { user }) },
        }),
      )
    })
    await new Promise<void>((resolve) => cluster.listen(0, '127.0.0.1', resolve))
    t.teardown(() => cluster.close())
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const account = { namespace: 'data', serviceaccount: { name: 'strongroom', uid: 'a-uid' } }
    const now = Math.floor(Date.now() / 1000)
    const times = { iat: now - 60, nbf: now - 60, exp: now + 600 }
    const claims = {
      iss: 'kubernetes/serviceaccount',
      'kubernetes.io': account,
      sub: user.username,
      ...times,
    }
    const jwt = `${part({ alg: 'RS256' })}.${part(claims)}.${Buffer.from('signature').toString('base64url')}`
    await bao.root('POST', 'auth/kubernetes/config', {
      kubernetes_host: `http://127.0.0.1:${(cluster.address() as AddressInfo).port}`,
      token_reviewer_jwt: jwt,
      disable_local_ca_jwt: true,
      kubernetes_ca_cert: tls!.ca.toString(),
    })
    const bound = { bound_service_account_names: 'strongroom', bound_service_account_namespaces: 'data' }
    await bao.root('POST', 'auth/kubernetes/role/strongroom', { ...bound, token_policies: ['strongroom'] })

    const auth = { method: 'kubernetes', role: 'strongroom', jwt_file: file(jwt) }
    const store = await openStore({ address: bao.address, auth })
    const other = await openStore({ address: bao.address, auth: { ...auth, jwt_file: file(`${jwt}x`) } })
    t.teardown(() => Promise.all([store.close(), other.close()]))
    const ref = mint(PREFIX)
    await store.put(ref, MARKED)
    t.equal(await store.get(ref), MARKED)
    await failsAs(t, 'denied', () => other.get(ref))
  },
)
