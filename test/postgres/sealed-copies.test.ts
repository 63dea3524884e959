import { Secret } from '../../src/core/secret.ts'
import { createRequire } from 'node:module'
import t from 'tap'
import type { Test } from 'tap'
import { freshGround } from '../ground.ts'
import { eventsIn, openVault, someName } from '../vault.ts'

/** As much of the npm package `fernet` as is used here. */
interface OtherFernet {
  Secret: new (key: string) => object
  Token: new (options: { secret: object; token: string; ttl: number }) => { decode(): string }
}

const other = createRequire(import.meta.url)('fernet') as OtherFernet
const ground = await freshGround(t)

async function twoCredentials(t: Test) {
  const vault = await openVault(t, ground, { workspace: someName() })
  const worker = await vault.identityWith()
  const a = (await vault.create(worker, 'a', '{"password":"of a"}')).credential
  await vault.update(worker, 'a', '{"password":"of a, later"}')
  const b = (await vault.create(worker, 'b', '{"password":"of b"}')).credential
  const opened = async (name: string, version?: number) => {
    try {
      return (await vault.lease(worker, name, { version })).value.reveal()
    } catch (error) {
      return (error as { code: string }).code
    }
  }
  return { vault, worker, a, b, opened }
}

t.test('a token opens with the npm package `fernet` and its key, and says where it belongs', async (t) => {
  const { vault, a } = await twoCredentials(t)
  const copies = await ground.sql('select id, token from copies where credential_id = $1 order by version', [
    a.id,
  ])
  const secret = new other.Secret(ground.keys[0]!.reveal())
  const texts = copies.map(({ token }) => new other.Token({ secret, token, ttl: 0 }).decode())
  t.strictSame(texts, [
    `${vault.workspace}/${a.id}/1/${copies[0]!.id}\n{"password":"of a"}`,
    `${vault.workspace}/${a.id}/2/${copies[1]!.id}\n{"password":"of a, later"}`,
  ])
})

t.test('a token moved to the row of another copy does not open', async (t) => {
  const { a, b, opened } = await twoCredentials(t)
  await ground.sql(
    `update copies c set token = o.token from copies o
     where c.credential_id = $1 and c.version = 2 and o.credential_id = $2`,
    [a.id, b.id],
  )
  t.equal(await opened('a'), 'copy_unreadable')
  t.equal(await opened('b'), '{"password":"of b"}')
  t.equal(await opened('a', 1), '{"password":"of a"}')
})

t.test("an old version's token in the new one's row does not open", async (t) => {
  const { a, opened } = await twoCredentials(t)
  await ground.sql(
    `update copies c set token = o.token from copies o
     where c.credential_id = $1 and c.version = 2 and o.credential_id = $1 and o.version = 1`,
    [a.id],
  )
  t.equal(await opened('a'), 'copy_unreadable')
})

t.test('a row that was given another version does not open', async (t) => {
  const { a, opened } = await twoCredentials(t)
  await ground.sql('update copies set version = 3 - version where credential_id = $1', [a.id])
  t.equal(await opened('a'), 'copy_unreadable')
  t.equal(await opened('a', 1), 'copy_unreadable')
})

t.test('a row that was given to another credential does not open', async (t) => {
  const { a, b, opened } = await twoCredentials(t)
  await ground.sql('delete from copies where credential_id = $1', [b.id])
  await ground.sql('update copies set credential_id = $2 where credential_id = $1 and version = 1', [
    a.id,
    b.id,
  ])
  t.equal(await opened('b'), 'copy_unreadable')
})

t.test('a credential that was carried into another workspace does not open', async (t) => {
  const { vault, worker, a, b } = await twoCredentials(t)
  const elsewhere = await openVault(t, ground, { workspace: someName() })
  await ground.sql(
    'update credentials c set workspace_id = w.id from workspaces w where c.id = $1 and w.name = $2',
    [a.id, elsewhere.workspace],
  )
  await t.rejects(elsewhere.lease(worker, 'a'), { code: 'copy_unreadable' })
  t.equal((await vault.lease(worker, b.name)).value.reveal(), '{"password":"of b"}')
})

t.test('nobody reads, patches or promotes an unreadable copy, and it is a failed event', async (t) => {
  const { vault, worker, a } = await twoCredentials(t)
  await ground.sql("update copies set token = 'gAAAAA' where credential_id = $1", [a.id])
  const unreadable = { code: 'copy_unreadable' }
  const patch = new Secret('{"password":"new"}')
  await t.rejects(
    vault.values.patch(vault.call(), worker.caller, vault.workspace, 'a', patch, undefined),
    unreadable,
  )
  await t.rejects(
    vault.values.promote(vault.call(), worker.caller, vault.workspace, 'a', 1, undefined),
    unreadable,
  )
  t.strictSame(
    (await eventsIn(ground, `workspace = '${vault.workspace}' and outcome = 'failed'`)).map(
      (one) => one.code,
    ),
    ['copy_unreadable', 'copy_unreadable'],
  )
})

t.test('a whole new value takes the place of an unreadable one', async (t) => {
  const { vault, worker, a } = await twoCredentials(t)
  await ground.sql("update copies set token = 'gAAAAA' where credential_id = $1", [a.id])
  const { changed } = await vault.update(worker, 'a', '{"password":"new"}')
  t.equal(changed, true)
  t.equal((await vault.lease(worker, 'a')).value.reveal(), '{"password":"new"}')
})

t.test('a row that names its key wrongly still opens with the key of the ring that fits', async (t) => {
  const { a, opened } = await twoCredentials(t)
  await ground.sql("insert into keys (id) values ('ffffffffffffffffffffffffffffffff') on conflict do nothing")
  await ground.sql("update copies set key_id = repeat('f', 32) where credential_id = $1", [a.id])
  t.equal(await opened('a'), '{"password":"of a, later"}')
  await ground.sql(
    'update copies set key_id = (select id from keys where sealing) where credential_id = $1',
    [a.id],
  )
})
