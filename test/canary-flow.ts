import type { Test } from 'tap'
import { StoreError } from '../src/core/secret-store.ts'
import type { Answer, Ask, Service } from './service.ts'
import { ALL } from './service.ts'
import type { Troubled } from './troubled-store.ts'
import type { Mark } from './traces.ts'
import { anotherSession, sleep } from './vault.ts'

/** What the flow works on; the writer may do everything in every workspace. */
export interface Flow {
  t: Test
  service: Service
  /** An external store of the service. */
  store: Troubled
  writer: Ask
  /** Stands in values that are kept. */
  kept: Mark
  /** Names members of them. */
  member: Mark
  /** Stands in requests that are refused, wherever text can. */
  refused: Mark
}

/** Calls every operation of both listeners with marked texts, well-formed and not, also while things are broken. */
export async function runCanaryFlow(flow: Flow): Promise<void> {
  await keepAndLease(flow)
  await keepOutside(flow)
  await refuse(flow)
  await breakThings(flow)
  await migrateStores(flow)
  await administrate(flow)
}

const C = '/v1/workspaces/acme/credentials'
const input = { connector: 'source-postgres', labels: { team: 'a' } }

async function keepAndLease({ service, writer, kept, member }: Flow): Promise<void> {
  const value = (more: object = {}): object => ({
    host: 'db',
    password: kept.text,
    [member.text]: { [member.text]: kept.text },
    ...more,
  })
  for (const name of ['one', 'two', 'three'])
    await writer('POST', C, { name, ...input, value: value({ name }) })
  await writer('PUT', `${C}/one`, { ...input, value: value() })
  await writer('PUT', `${C}/text`, { ...input, value: kept.text })
  await writer('PATCH', `${C}/one`, { labels: { tier: 'x' }, expires_at: '2040-01-01T00:00:00Z' })
  for (let version = 0; version < 6; version++) {
    await writer('PUT', `${C}/one/value`, { value: value({ version }) })
    await writer('PATCH', `${C}/one/value`, { value: { patched: kept.text + version, host: null } })
  }
  await writer('POST', `${C}/one/leases`, { version: 1 })
  const { items } = (await writer('GET', `${C}/one/versions`)).json
  await writer('POST', `${C}/one/versions/${items[1].version}/promote`)
  await writer('DELETE', `${C}/one/versions/${items[1].version}`)
  const { lease } = (await writer('POST', `${C}/one/leases`, { run_id: 'run', reason: 'why' })).json
  await writer('POST', '/v1/workspaces/acme/leases', { credentials: ['one', 'two', 'missing', 'text'] })
  await writer('GET', `/v1/leases/${lease.id}`)
  await writer('GET', '/v1/leases')
  await writer('POST', `/v1/leases/${lease.id}/renew`)
  await writer('DELETE', `/v1/leases/${lease.id}`)
  await writer('GET', C)
  await writer('GET', `${C}/one`)
  await writer('GET', '/v1/whoami')
  for (const url of ['/health/live', '/health/ready', '/openapi.json']) {
    await service.as(undefined)('GET', url)
    await service.adminAs(undefined)('GET', url)
  }
}

async function keepOutside({ store, writer, kept, member }: Flow): Promise<void> {
  const at = { ...input, store: store.store.name }
  const value = { password: kept.text, [member.text]: 1 }
  await writer('POST', C, { name: 'kept-outside', ...at, value })
  await writer('PUT', `${C}/kept-outside/value`, { value: { ...value, more: kept.text } })
  await writer('PATCH', `${C}/kept-outside/value`, { value: { more: [kept.text] } })
  await writer('POST', `${C}/kept-outside/versions/1/promote`)
  await writer('POST', `${C}/kept-outside/leases`)
  const secret = JSON.stringify(value)
  store.kept.set('apps/acme/db', secret)
  store.kept.set('apps/acme/text', kept.text)
  store.kept.set('apps/acme/long', kept.text.repeat(2000))
  for (const [name, to] of Object.entries({
    linked: { locator: 'apps/acme/db' },
    'linked-member': { locator: 'apps/acme/db', field: 'password' },
    'linked-text': { locator: 'apps/acme/text' },
    'linked-wrongly': { locator: 'apps/acme/text', field: 'password' },
    'linked-long': { locator: 'apps/acme/long' },
  })) {
    await writer('PUT', `${C}/${name}`, { ...input, link: { store: store.store.name, ...to } })
    await writer('POST', `${C}/${name}/leases`)
  }
  await writer('POST', '/v1/workspaces/acme/leases', {
    credentials: ['kept-outside', 'linked', 'linked-wrongly'],
  })
  // Stores that lie, say too much, or were tampered with.
  const spoil = (text: string) => (call: string, ref: string) =>
    call === 'get' && void store.kept.set(ref, text)
  const troubles: Troubled['trouble']['onCall'][] = [
    spoil(secret.slice(0, -1)),
    spoil(`${secret},"lease":{}`),
    () => Promise.reject(new StoreError('denied', kept.text)),
    () => Promise.reject(new TypeError(kept.text)),
  ]
  for (const trouble of troubles) {
    store.trouble.onCall = trouble
    await writer('PUT', `${C}/kept-wrongly`, { ...at, value })
    await writer('PATCH', `${C}/kept-outside/value`, { value: { more: kept.text } })
    await writer('POST', `${C}/kept-outside/leases`, { version: 2 })
    await writer('POST', `${C}/linked/leases`)
    store.trouble.onCall = undefined
  }
}

async function refuse({ service, writer, refused }: Flow): Promise<void> {
  const { admin } = service
  const json = { 'content-type': 'application/json' }
  const { text } = refused
  const bodies = [
    `{"value":"${refused.forms.get('plain')}`,
    text,
    `{"value":${text}}`,
    `{"value":[${JSON.stringify(text)}],"value":${JSON.stringify(text)}}`,
    `{"value":{${JSON.stringify(text)}:1,${JSON.stringify(text)}:2}}`,
    `{"value":{"${refused.forms.get('plain')}\\ud800":"\\ud800"}}`,
    `{"value":1e400,${JSON.stringify(text)}:1}`,
    JSON.stringify({ [text]: text }),
    JSON.stringify({ value: 1, [text]: { [text]: text } }),
    JSON.stringify({ value: text.repeat(1000) }),
    JSON.stringify({ value: text.repeat(25_000) }),
    JSON.stringify({ name: text, connector: text, value: text, store: text, labels: text, expires_at: text }),
    JSON.stringify({ name: 'x', connector: 'c', value: text, labels: { [text]: text }, purge_at: text }),
    JSON.stringify({
      credentials: [text, text],
      ttl_seconds: text,
      run_id: { [text]: 1 },
      reason: text.repeat(20),
    }),
    JSON.stringify({ connector: 'other', value: text }),
    JSON.stringify({ labels: { [text]: null }, expires_at: text }),
    JSON.stringify({ grants: [{ actions: [text], workspaces: [text], labels: { [text]: text } }] }),
    JSON.stringify({
      roles: [text],
      default_store: text,
      heads: [{ stream: text }],
      to_key: text,
      identity: text,
    }),
  ]
  for (const { app, method, path } of service.contract.operations) {
    const url = path
      .replace('{workspace}', 'acme')
      .replace('{name}', 'one')
      .replaceAll(/\{\w+\}/g, '9')
    const ask = app === service.strongroom.adminApp ? admin : writer
    const seen = path.startsWith('/v1/')
    if (seen) await ask(method, `${url}?${encodeURIComponent(text)}=${encodeURIComponent(text)}`)
    if (seen)
      await ask(
        method,
        `${url}?after=${Buffer.from(text).toString('base64url')}&limit=${encodeURIComponent(text)}`,
      )
    if (seen)
      await service.as(refused.forms.get('plain'))(
        method,
        app === service.strongroom.adminApp ? '/v1/whoami' : url,
      )
    if (!['POST', 'PUT', 'PATCH'].includes(method)) continue
    for (const body of bodies) await ask(method, url, Buffer.from(body), json)
    await ask(method, url, Buffer.from(text), { 'content-type': `text/${refused.forms.get('plain')}` })
  }
  await writer('PUT', `${C}/one/value`, { value: text }, { 'if-match': `"${refused.forms.get('plain')}"` })
  await writer('PUT', `${C}/one/value`, { value: text }, { 'if-match': '"1"' })
  await writer('GET', `${C}/-${encodeURIComponent(text)}`)
  await writer('GET', `/${encodeURIComponent(text)}`)
}

async function ended(admin: Ask, begun: Answer): Promise<void> {
  if (begun.status !== 202) throw new Error(begun.text)
  while ((await admin('GET', begun.headers['location']!)).json.state === 'running') await sleep(50)
}

async function breakThings({ service: { ground }, writer, kept }: Flow): Promise<void> {
  const copy = `(select id from credentials where name = $1 and state = 'active')`
  await ground.sql(
    `update copies set token = (select token from copies where credential_id = ${copy} and state = 'current')
     where state = 'current' and credential_id = (select id from credentials where name = 'three')`,
    ['two'],
  )
  const unreadable = [
    await writer('POST', `${C}/three/leases`),
    await writer('PATCH', `${C}/three/value`, { value: { password: kept.text } }),
    await writer('POST', `${C}/three/versions/1/promote`),
  ]
  for (const { json } of unreadable)
    if (json.code !== 'copy_unreadable') throw new Error(JSON.stringify(json))
  await ground.sql('alter table versions add check (version < 0) not valid')
  const failing = await writer('PUT', `${C}/two/value`, { value: kept.text })
  if (failing.json.code !== 'internal') throw new Error(failing.text)
  await ground.sql('alter table versions drop constraint versions_version_check')
  await ground
    .sql(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()',
      [ground.name],
    )
    .catch(() => {})
  for (let tries = 0; tries < 3; tries++) await writer('PUT', `${C}/two/value`, { value: kept.text + tries })
}

async function migrateStores({ service: { admin }, store, writer, kept }: Flow): Promise<void> {
  const migrations = '/v1/admin/store-migrations'
  const order = { from: 'local', to: store.store.name }
  await admin('GET', '/v1/admin/stores')
  await admin('POST', migrations, { ...order, dry_run: true })
  // It goes on for as long as the store is out of reach.
  store.trouble.onCall = () => {
    throw new Error(kept.text)
  }
  await writer('PUT', `${C}/outside`, { ...input, store: store.store.name, value: kept.text })
  const begun = await admin('POST', migrations, order)
  const at = begun.headers['location']!
  await admin('POST', `${at}/cancel`)
  store.trouble.onCall = undefined
  await admin('POST', `${at}/resume`)
  await ended(admin, begun)
  await writer('POST', `${C}/one/leases`)
  await admin('POST', `${at}/rollback`)
  await ended(admin, begun)
  const again = await admin('POST', migrations, order)
  await ended(admin, again)
  await admin('POST', `${again.headers['location']}/finalize`)
  await ended(admin, again)
  await admin('GET', migrations)
}

async function administrate({ t, service, writer }: Flow): Promise<void> {
  const { admin } = service
  const [one, other] = (await admin('GET', '/v1/admin/keys')).json.items
  const rotateTo = (key: { id: string }) => admin('POST', '/v1/admin/rotations', { to_key: key.id })
  // One that meets what cannot be opened, and one that is still running because somebody else holds the copies.
  for (const key of [one, other]) await ended(admin, await rotateTo(key))
  const session = await anotherSession(t, service.ground)
  await session.query('begin')
  await session.query('select from copies for update')
  const held = await rotateTo(one)
  await admin('POST', `${held.headers['location']}/cancel`)
  await session.query('rollback')
  for (const [path, body] of [
    ['workspaces/more', {}],
    ['roles/more', { grants: [ALL] }],
    ['identities/more', { roles: ['more'] }],
  ] as const) {
    await admin('PUT', `/v1/admin/${path}`, body)
    await admin('GET', `/v1/admin/${path}`)
    await admin('GET', `/v1/admin/${path.split('/')[0]}`)
  }
  const token = await admin('POST', '/v1/admin/identities/more/tokens')
  await service.as(token.json.token)('GET', '/v1/whoami')
  await admin('GET', '/v1/admin/identities/more/tokens')
  await admin('DELETE', token.headers['location']!)
  for (const path of ['identities/more', 'roles/more', 'workspaces/more'])
    await admin('DELETE', `/v1/admin/${path}`)
  await admin('POST', '/v1/admin/leases/revoke', { workspace: 'acme' })
  await admin('GET', '/v1/admin/audit?limit=500')
  await admin('GET', '/v1/admin/audit/verify')
  await admin('POST', '/v1/admin/audit/verify', { heads: [] })
  await admin('GET', '/v1/admin/rotations')
  await admin('GET', '/metrics')
  const operator = await service.identity('operator', [{ actions: ['admin:*'], workspaces: ['*'] }])
  await service.adminAs(operator)('GET', '/metrics')
  await writer('DELETE', `${C}/two`)
  await writer('POST', `${C}/two/restore`)
  await writer('DELETE', `${C}/text?purge=true`)
  await service.strongroom.sweep.run()
}
