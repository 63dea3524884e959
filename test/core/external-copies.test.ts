import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import t from 'tap'
import { v7 } from 'uuid'
import { readConfig } from '../../src/config.ts'
import { StoreError } from '../../src/core/secret-store.ts'
import { Secret } from '../../src/core/secret.ts'
import { StartRefused } from '../../src/core/start-refused.ts'
import { createLogger } from '../../src/log.ts'
import { ONLY_LOCAL } from '../../src/opened-stores.ts'
import { makeAdministrator } from '../../src/server.ts'
import { wire } from '../../src/wire.ts'
import { holdUp, openExternalVault, OUTSIDE, refused } from '../external-vault.ts'
import { freshGround } from '../ground.ts'
import type { Troubled, TroubledOptions } from '../troubled-store.ts'
import { openVault, someName } from '../vault.ts'

const ground = await freshGround(t)
const begin = (t: Test, options: TroubledOptions = {}) => openExternalVault(t, ground, options)
const stateOf = (name: string) =>
  ground.sql(
    `select k.version, k.state, k.ref from copies k join credentials c on c.id = k.credential_id
     where c.name = $1 and k.state <> 'pending' order by k.version`,
    [name],
  )

t.test('a copy is named in the ledger before its store is asked to keep it', async (t) => {
  const { vault, by, name, trouble } = await begin(t)
  const seen: unknown[] = []
  trouble.onCall = async (call, ref) => {
    const rows = await ground.sql('select state, store, version from copies where ref = $1', [ref])
    seen.push([call, ...rows])
  }
  await vault.create(by, name, '"one"', {}, OUTSIDE)
  await vault.update(by, name, '"two"')
  const pending = (version: number) => ({ state: 'pending', store: 'team-vault', version })
  t.same(seen, [
    ['put', pending(1)],
    ['get', pending(1)],
    ['get', { ...pending(1), state: 'current' }],
    ['put', pending(2)],
    ['get', pending(2)],
  ])
})

t.test(
  'a store that keeps something else than it was given is caught, and nothing is switched',
  async (t) => {
    const lies: Record<string, (value: string) => string> = {
      truncated: (value) => value.slice(0, -1),
      empty: () => '',
      reordered: () => '{"b":2,"a":1}',
      trimmed: (value) => value.replaceAll(' ', ''),
      'another value': () => '"another"',
    }
    let lie: ((value: string) => string) | undefined
    const { vault, by, name } = await begin(t, {
      alter: (inner) => ({ put: (ref, value) => inner.put(ref, lie ? lie(value) : value) }),
    })
    await vault.create(by, name, '"one"', {}, OUTSIDE)
    for (const [what, told] of Object.entries(lies)) {
      lie = told
      const value = '{"a":1,"b":"2 3"}'
      const made = await vault.create(by, someName(), value, {}, OUTSIDE).catch((error) => error)
      t.match(made, { code: 'store_rejected', store: 'team-vault' }, what)
      t.equal(await refused(vault.update(by, name, value)), 'store_rejected', what)
    }
    t.match(await stateOf(name), [{ version: 1, state: 'current' }])
    t.equal((await vault.lease(by, name)).value.reveal(), '"one"')
    lie = undefined
    await vault.update(by, name, '"two"')
    t.equal((await vault.lease(by, name)).value.reveal(), '"two"')
  },
)

t.test('a writer whose copy was swept meanwhile switches nothing', async (t) => {
  const { vault, by, name, trouble } = await begin(t)
  await vault.create(by, name, '"one"', {}, OUTSIDE)
  trouble.onCall = (call, ref) =>
    call === 'put' && ground.sql(`update copies set state = 'dropped' where ref = $1`, [ref])
  t.equal(await refused(vault.update(by, name, '"two"')), 'unavailable')
  trouble.onCall = undefined
  t.match(await stateOf(name), [
    { version: 1, state: 'current' },
    { version: 1 + 1, state: 'dropped' },
  ])
  t.equal((await vault.lease(by, name)).value.reveal(), '"one"')
})

t.test('a writer who is revoked while the store keeps his value switches nothing', async (t) => {
  const { vault, by, name, trouble } = await begin(t)
  await vault.create(by, name, '"one"', {}, OUTSIDE)
  const held = holdUp(trouble, 'put')
  const writing = refused(vault.update(by, name, '"two"'))
  await held.came()
  await vault.identities.revokeToken(vault.call(), vault.admin, by.name, by.token.id)
  held.open()
  t.equal(await writing, 'unauthenticated')
  t.match(await stateOf(name), [{ version: 1, state: 'current' }])
})

/** Where the copy goes while a reader is on his way to the old place. */
async function move(kept: Map<string, string>, ref: string, value: string | undefined): Promise<string> {
  const next = `strongroom/moved/${randomUUID()}`
  if (value !== undefined) kept.set(next, value)
  kept.delete(ref)
  const [old] = await ground.sql(`update copies set state = 'replaced' where ref = $1 returning *`, [ref])
  await ground.sql(
    `insert into copies (id, credential_id, version, store, ref, state) values ($1, $2, $3, $4, $5, 'current')`,
    [v7(), old!['credential_id'], old!['version'], old!['store'], next],
  )
  return next
}

t.test('a reader who finds nothing reads the pointer once more, and follows it', async (t) => {
  const { vault, by, name, trouble, kept, calls } = await begin(t, { cacheSeconds: 0 })
  await vault.create(by, name, '"one"', {}, OUTSIDE)
  const once = (act: (ref: string) => Promise<unknown>): void => {
    trouble.onCall = (_call, ref) => {
      trouble.onCall = undefined
      return act(ref)
    }
  }
  once((ref) => move(kept, ref, '"one"'))
  t.equal((await vault.lease(by, name)).value.reveal(), '"one"', 'to another secret')
  calls.length = 0
  trouble.onCall = (_call, ref) => move(kept, ref, undefined)
  t.equal(await refused(vault.lease(by, name)), 'store_not_found')
  trouble.onCall = undefined
  t.equal(calls.length, 2, 'once more, and not for ever')
  t.equal(await refused(vault.lease(by, name)), 'store_not_found')
  t.equal(calls.length, 3, 'where the pointer has not moved, the store is not asked again')
})

t.test('a copy that was moved home under a reader is opened there', async (t) => {
  const { vault, by, name, trouble } = await begin(t)
  const { credential } = await vault.create(by, name, '"one"', {}, OUTSIDE)
  trouble.onCall = async (_call, ref) => {
    const copyId = v7()
    const place = { workspace: vault.workspace, credentialId: credential.id, version: 1, copyId }
    const { keyId, sealed } = vault.sealer.seal(place, new Secret('"one"'))
    await ground.sql(`update copies set state = 'replaced' where ref = $1`, [ref])
    await ground.sql(
      `insert into copies (id, credential_id, version, store, state, key_id, token)
       values ($1, $2, 1, 'local', 'current', $3, $4)`,
      [copyId, credential.id, keyId, sealed],
    )
    throw new StoreError('not_found', 'moved')
  }
  t.equal((await vault.lease(by, name)).value.reveal(), '"one"')
})

/** A copy outside whose store migration has its source at home, or, with a ref, where nothing is. */
async function withSource(t: Test, sourceRef?: string) {
  const begun = await begin(t, { cacheSeconds: 0 })
  const { vault, by, name } = begun
  const { credential } = await vault.create(by, name, '"one"', {}, OUTSIDE)
  const copyId = v7()
  const place = { workspace: vault.workspace, credentialId: credential.id, version: 1, copyId }
  const { keyId, sealed } = vault.sealer.seal(place, new Secret('"one"'))
  const content =
    sourceRef === undefined ? ['local', null, keyId, sealed] : ['team-vault', sourceRef, null, null]
  await ground.sql(
    `insert into copies (id, credential_id, version, state, store, ref, key_id, token)
     values ($1, $2, 1, 'source', $3, $4, $5, $6)`,
    [copyId, credential.id, ...content],
  )
  return begun
}

t.test(
  'a process that does not have the target of a store migration yet reads from its source',
  async (t) => {
    const { vault, by, name } = await withSource(t)
    const another = await openVault(t, ground, { workspace: vault.workspace })
    t.equal((await another.lease(by, name)).value.reveal(), '"one"')
    await ground.sql(`update copies set state = 'dropped' where state = 'source'`)
    t.equal(await refused(another.lease(by, name)), 'store_unavailable', 'until it is finalized')
  },
)

t.test('where neither target nor source answers, the target’s fault is told', async (t) => {
  const { vault, by, name, trouble, calls } = await withSource(t, `strongroom/${someName()}/${v7()}`)
  trouble.onCall = () => {
    trouble.onCall = undefined
    throw new StoreError('denied', 'the target')
  }
  calls.length = 0
  t.equal(await refused(vault.lease(by, name)), 'store_denied')
  t.equal(calls.length, 2)
})

t.test('a process without a store that the ledger has copies in does not start, and names it', async (t) => {
  const { vault, by, name, store } = await begin(t)
  await vault.create(by, name, '"one"', {}, OUTSIDE)
  const config = { mode: 'development' as const, deadlineSeconds: 15, rateLimit: 0, trustedProxies: [] }
  const log = createLogger('silent', { write: () => true })
  const start = (external: Troubled['store'][]) => wire(config, ground, log, {}, { ...ONLY_LOCAL, external })
  const error = await start([]).catch((reason) => reason)
  t.ok(error instanceof StartRefused)
  t.match(error.faults, [/^STRONGROOM_STORES_FILE: lacks the store team-vault/])

  const owner = {
    STRONGROOM_DATABASE_OWNER_URL: ground.ownerUrl.reveal(),
    STRONGROOM_KEYS: ground.keys.map((key) => key.reveal()).join(','),
    STRONGROOM_DEADLINE_SECONDS: '15',
  }
  const made = await makeAdministrator(await readConfig(owner, 'owner'), 'operator', log)
  t.equal(made.identity, 'operator', 'the way back in needs no store')

  const strongroom = await start([store])
  await strongroom.close()
})
