import t from 'tap'
import type { Test } from 'tap'
import { readConfig } from '../../src/config.ts'
import { FernetKey } from '../../src/core/fernet.ts'
import { Secret } from '../../src/core/secret.ts'
import { StartRefused } from '../../src/core/start-refused.ts'
import { createLogger } from '../../src/log.ts'
import { Connections } from '../../src/postgres/connections.ts'
import { checkDatabase } from '../../src/postgres/start-checks.ts'
import { makeAdministrator } from '../../src/server.ts'
import { freshGround } from '../ground.ts'
import { openVault, someName } from '../vault.ts'

const ground = await freshGround(t)
interface NamedKey {
  id: string
  text: Secret
}

function key(): NamedKey {
  const { key, text } = FernetKey.generate()
  return { id: key.id, text }
}

/** Why the service would not start, if so. */
async function faults(production: boolean, databaseUrl = ground.databaseUrl): Promise<readonly string[]> {
  const options = { databaseUrl, max: 1, statementTimeoutMs: 5000, onError: () => {} }
  const connections = new Connections(options)
  try {
    await checkDatabase(connections, production)
    return []
  } catch (error) {
    if (error instanceof StartRefused) return error.faults
    throw error
  } finally {
    await connections.close()
  }
}

/** A database where nothing has been sealed yet. */
async function empty(t: Test) {
  const fresh = await freshGround(t)
  return { fresh, withKeys: (...keys: NamedKey[]) => ({ ...fresh, keys: keys.map((one) => one.text) }) }
}

t.test('a database that is as it should be is accepted, in production too', async (t) => {
  t.strictSame(await faults(true), [])
})

t.test('a database without durable commits is refused, in development too', async (t) => {
  for (const setting of ['off', 'local']) {
    await ground.sql(`alter database ${ground.name} set synchronous_commit = ${setting}`)
    t.match(
      await faults(false),
      setting === 'off' ? [/^STRONGROOM_DATABASE_URL: .* synchronous_commit off/] : [],
    )
    await ground.sql(`alter database ${ground.name} reset synchronous_commit`)
  }
})

t.test('a database that says that fsync is off is refused', async (t) => {
  // No test may turn it off for a server that others use: here the server is made to say so.
  await ground.sql(`create function current_setting(text) returns text language sql as $$
    select case $1 when 'fsync' then 'off' else pg_catalog.current_setting($1) end $$`)
  await ground.sql(`alter database ${ground.name} set search_path = public, pg_catalog`)
  t.match(await faults(false), [/^STRONGROOM_DATABASE_URL: .* fsync off/])
  await ground.sql(`alter database ${ground.name} reset search_path`)
  await ground.sql('drop function public.current_setting(text)')
  t.strictSame(await faults(false), [])
})

t.test('an older and a newer schema are refused, each by what lacks or is too much', async (t) => {
  const [latest] = await ground.sql('select name from strongroom_migrations order by name desc limit 1')
  await ground.sql("update strongroom_migrations set name = '0999_future' where name = $1", [latest!.name])
  t.match(await faults(false), [
    new RegExp(`older than this version \\(lacks ${latest!.name}\\): run strongroom db-upgrade`),
    /newer than this version \(has 0999_future\): run a newer Strongroom/,
  ])
  await ground.sql("update strongroom_migrations set name = $1 where name = '0999_future'", [latest!.name])
  await ground.sql('alter table strongroom_migrations rename to hidden')
  t.match(await faults(false), [/no schema of Strongroom: run strongroom db-upgrade/])
  await ground.sql('alter table hidden rename to strongroom_migrations')
  t.strictSame(await faults(false), [])
})

t.test(
  'in production a role that owns the tables, is superuser or may change events is refused',
  async (t) => {
    t.match(await faults(true, ground.ownerUrl), [
      /owns tables/,
      /may change audit events/,
      /may create tables/,
    ])
    t.strictSame(await faults(false, ground.ownerUrl), [], 'development lets it pass')

    const name = someName().replace('-', '_')
    await ground.sql(`create role ${name} superuser login password 'x'`)
    t.teardown(() => ground.sql(`drop role ${name}`))
    const url = new URL(ground.databaseUrl.reveal())
    url.username = name
    url.password = 'x'
    t.match(await faults(true, new Secret(url.href)), [/is a superuser/, /owns tables/, /change/, /create/])

    await ground.sql('grant delete on audit_events to strongroom')
    t.match(await faults(true), [/may change audit events/])
    await ground.sql('revoke delete on audit_events from strongroom')
    await ground.sql('grant create on schema public to strongroom')
    t.match(await faults(true), [/may create tables/])
    await ground.sql('revoke create on schema public from strongroom')
    t.strictSame(await faults(true), [])
  },
)

t.test('the first key of the first process seals, and a wrong ring is refused naming both', async (t) => {
  const { fresh, withKeys } = await empty(t)
  const [first, second, wrong] = [key(), key(), key()]
  const vault = await openVault(t, withKeys(first, second))
  t.equal(vault.sealer.sealingKeyId, first.id)
  await t.rejects(openVault(t, withKeys(wrong)), {
    name: 'StartRefused',
    message: `STRONGROOM_KEYS: the ring (${wrong.id}) lacks the key ${first.id}, which the ledger names as the sealing key`,
  })
  const later = await openVault(t, withKeys(second, first))
  t.equal(later.sealer.sealingKeyId, first.id, 'another order on the ring changes nothing')
  const known = await fresh.sql('select id, sealing from keys')
  t.strictSame(
    known.map((row) => row.id).sort(),
    [first.id, second.id].sort(),
    'the refused ring left no trace',
  )
})

t.test(
  'a ring that lacks a key that still seals copies is refused, and not for one that seals none',
  async (t) => {
    const { fresh, withKeys } = await empty(t)
    const [old, next, unused] = [key(), key(), key()]
    const vault = await openVault(t, withKeys(old, next, unused))
    const worker = await vault.identityWith()
    await vault.create(worker, 'orders')
    await fresh.sql('update keys set sealing = false')
    await fresh.sql('update keys set sealing = true where id = $1', [next.id])
    await t.rejects(openVault(t, withKeys(next, unused)), {
      message: `STRONGROOM_KEYS: the ring (${next.id}, ${unused.id}) lacks the key ${old.id}, which still seals copies in the ledger`,
    })
    const later = await openVault(t, withKeys(old, next))
    t.equal(later.sealer.sealingKeyId, next.id)
    t.equal(
      (await later.lease(worker, 'orders')).value.reveal(),
      '{"password":"one"}',
      'any key of the ring opens',
    )
    await later.update(worker, 'orders', '{"password":"two"}')
    const copies = await fresh.sql('select version, key_id from copies order by version')
    t.strictSame(copies, [
      { version: 1, key_id: old.id },
      { version: 2, key_id: next.id },
    ])
    await t.resolves(
      vault.update(worker, 'orders', '{"password":"three"}'),
      'a process that sealed under the old key learns',
    )
    t.equal(vault.sealer.sealingKeyId, next.id)
  },
)

t.test(
  'of two first starts at the same moment with different keys one is refused, naming both',
  async (t) => {
    const { fresh, withKeys } = await empty(t)
    const keys = [key(), key(), key(), key()]
    const started = await Promise.allSettled(keys.map((one) => openVault(t, withKeys(one))))
    const winners = started.filter((one) => one.status === 'fulfilled')
    t.equal(winners.length, 1)
    const winner = keys[started.indexOf(winners[0]!)]!
    for (const [index, one] of started.entries()) {
      if (one.status === 'fulfilled') continue
      t.ok(one.reason instanceof StartRefused)
      t.match(one.reason.message, keys[index]!.id)
      t.match(one.reason.message, winner.id)
    }
    t.strictSame(await fresh.sql('select id, sealing from keys'), [{ id: winner.id, sealing: true }])
  },
)

t.test("a fault of the owner's URL is told by its name, and init looks at no stores file", async (t) => {
  const init = async (url: string) => {
    const env = {
      STRONGROOM_DATABASE_OWNER_URL: url,
      STRONGROOM_KEYS: ground.keys[0]!.reveal(),
      STRONGROOM_STORES_FILE: '/nowhere/stores.json',
    }
    return makeAdministrator(await readConfig(env, 'owner'), 'operator', createLogger('silent'))
  }
  const url = ground.ownerUrl.reveal()
  t.equal((await init(url)).identity, 'operator')
  await t.rejects(init(url.replace(/:[^:@]*@/, ':wrong@')), {
    message: /^STRONGROOM_DATABASE_OWNER_URL: the database refuses the role or its password$/,
  })
})
