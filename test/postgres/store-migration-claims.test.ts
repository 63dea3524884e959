import t, { type Test } from 'tap'
import { v7 } from 'uuid'
import { StoreError } from '../../src/core/secret-store.ts'
import type { Relocation } from '../../src/core/relocation.ts'
import type { Client } from '../../src/postgres/connections.ts'
import { claimCopies } from '../../src/postgres/relocation-claims-sql.ts'
import { anotherSession, lockWaits, sleep } from '../vault.ts'
import { claimed, movingHouse, transaction, type House } from './moving-house.ts'

const NAMES = Array.from({ length: 12 }, (_, index) => `db-${String(index).padStart(2, '0')}`)

t.test(
  'who has been through the first copies takes those after them, and is not shown the first again',
  async (t) => {
    const house = await movingHouse(t)
    await house.fill('local', ...NAMES)
    const run = await house.start('local', 'team-vault')
    const claim = (after?: string) =>
      transaction(house, async (tx) => {
        const name = () => ({ id: v7(), ref: `strongroom/acme/${v7()}` })
        const claims = await tx.claimCopies(run, { claimSeconds: 60, limit: 5, name, after })
        await tx.releaseClaims(claims.map(({ pending }) => pending.id))
        return claims.map(({ copy }) => copy.id)
      })
    const first = await claim()
    const second = await claim(first.at(-1))
    t.equal(first.length, 5)
    t.equal(second.length, 5)
    t.ok(second.every((id) => id > first.at(-1)!))
    t.strictSame(await claim(), first, 'they were there to be taken')
    t.equal((await claim(second.at(-1))).length, 2)
  },
)

t.test('copies that had to be left behind are moved in the same run, when all the others have', async (t) => {
  const house = await movingHouse(t, {
    tuning: { relocationBatch: 2, relocationLanes: 1, copyGraceSeconds: 1 },
  })
  await house.fill('local', ...NAMES)
  // The first put is refused for longer than its copy is kept hold of: the copy is given back, and others are taken.
  let first: unknown
  house.team.trouble.onCall = (call, ref) => {
    if (call === 'put' && ref === (first ??= ref)) throw new StoreError('throttled', 'wait')
  }
  t.match(await house.migrate('local', 'team-vault'), { state: 'done', moved: NAMES.length, failed: 0 })
  t.strictSame(
    await house.whereabouts(),
    NAMES.map((name) => `${name}@1 team-vault current`),
  )
})

t.test('what somebody claims while another looks is claimed by one of them', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', 'a', 'b')
  const run = await house.start('local', 'team-vault')
  const [client, release] = await clientOf(t, house)
  // Its look ends, and lets go of what it found; then another claims one, before it has named its own.
  const looking = new Proxy(client, {
    get: (target, name) =>
      name !== 'query'
        ? Reflect.get(target, name)
        : async (query: unknown, values?: unknown[]) => {
            const answer = await target.query(query as string, values)
            if (String(query).includes('for key share of c')) {
              await target.query('rollback')
              t.equal((await claimed(house, run)).length, 1)
              await target.query('begin')
            }
            return answer
          },
  })
  await client.query('begin')
  const claims = await claimCopies(looking, run, {
    claimSeconds: 60,
    limit: 2,
    name: () => ({ id: v7(), ref: `strongroom/acme/${v7()}` }),
  })
  await client.query('commit')
  release()
  t.match(
    claims.map(({ credential }) => credential),
    ['b'],
  )
  t.equal(await house.count('pending'), 2)
})

t.test('the next few copies are found without a look at all the others', async (t) => {
  const house = await movingHouse(t)
  const COPIES = 2_000
  await house.fill('team-vault', 'first')
  const run = await house.start('team-vault', 'local')
  const [client, release] = await clientOf(t, house)
  const few = async (what: string, claimed: Relocation): Promise<void> => {
    let plan: PlanNode | undefined
    const explaining = new Proxy(client, {
      get: (target, name) =>
        name !== 'query'
          ? Reflect.get(target, name)
          : async (text: string, values?: unknown[]) => {
              if (!values) return target.query(text)
              const { rows } = await target.query(`explain (analyze, format json) ${text}`, values)
              plan = rows[0]['QUERY PLAN'][0].Plan
              return { rows: [] }
            },
    })
    await client.query('begin')
    await claimCopies(explaining, claimed, { claimSeconds: 60, limit: 20, name: () => ({ id: v7() }) })
    await client.query('rollback')
    const visited = rowsVisited(plan!)
    t.ok(plan!['Actual Rows'] === 20 && visited < COPIES, `${what}: ${visited} rows`)
  }
  const { sql } = house.ground
  /** Credentials in a workspace, each with a readable copy in these states, and one that this run has dropped. */
  const fill = async (workspace: string, states: string[]): Promise<void> => {
    await sql(
      `with c as (
         insert into credentials (id, workspace_id, name, connector, store, version, created_by)
         select gen_random_uuid(), w.id, 'db-' || n, 'c', 'team-vault', 2, 'me'
         from workspaces w, generate_series(1, ${COPIES}) n where w.name = $1 returning id
       )
       insert into copies (id, credential_id, version, store, ref, state, migration_id)
       select gen_random_uuid(), c.id, case s when 'kept' then 1 else 2 end, 'team-vault', 'ref-' || c.id || s, s,
         case s when 'dropped' then $3::uuid end
       from c, unnest($2::text[] || array['dropped']) as s`,
      [workspace, states, run.id],
    )
  }
  const tables = ['copies', 'credentials', 'store_migration_members', 'store_migration_stays']
  for (const table of tables) await sql(`alter table ${table} set (autovacuum_enabled = off)`)

  await fill(house.vault.workspace, ['current'])
  await few('in tables that nobody has counted yet', run)

  await sql("insert into workspaces (id, name) values (gen_random_uuid(), 'globex')")
  await fill('globex', ['current', 'kept'])
  await sql('analyze')
  await few('where there are more to come than are wanted', run)
  await few('where others keep versions too', { ...run, workspaces: [house.vault.workspace] })
  release()
})

t.test('who lets go of what he claimed waits for nobody who holds a copy of it', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', ...NAMES.slice(0, 2))
  const run = await house.start('local', 'team-vault')
  const [held, free] = (await claimed(house, run, { limit: 2 })).map(({ pendingId }) => pendingId)
  const purge = await anotherSession(t, house.ground)
  await purge.query('begin')
  await purge.query('select from copies where id = $1 for update', [held])
  await transaction(house, (tx) => tx.releaseClaims([held!, free!]))
  await purge.query('rollback')
  const states = await house.ground.sql(
    'select id, state from copies where id = any ($1) order by id = $2 desc',
    [[held, free], held],
  )
  t.strictSame(states, [
    { id: held, state: 'pending' },
    { id: free, state: 'dropped' },
  ])
})

t.test('copies that were sealed under two keys are not switched to', async (t) => {
  const house = await movingHouse(t)
  await house.fill('local', 'a', 'b')
  const run = await house.start('local', 'team-vault')
  const carried = await claimed(house, run, { limit: 2 })
  const keyIds = [house.vault.sealer.sealingKeyId, 'another']
  const sealed = carried.map((one, index) => ({ ...one, sealed: { keyId: keyIds[index]!, token: 'sealed' } }))
  await t.rejects(
    transaction(house, (tx) => tx.switchCopies(run, sealed)),
    { name: 'SealingKeyChanged' },
  )
  t.equal(await house.count('pending'), 2)
})

t.test(
  'while others hold what is left, nobody waits for the run, and statements may take long',
  async (t) => {
    // Here a request's statement is cut after 0.6 s.
    const house = await movingHouse(t, { tuning: { deadlineMs: 100 } })
    await house.fill('local', 'a')
    const run = await house.start('local', 'team-vault')
    const session = await anotherSession(t, house.ground)
    const [one] = await claimed(house, run)
    await session.query('begin')
    await session.query('select from store_migrations where id = $1 for update', [run.id])
    const working = house.work()
    await sleep(200)
    t.equal(await lockWaits(house.ground), 0, 'the run is not locked to see that it is not done')

    await session.query('lock table copies')
    await sleep(900)
    await session.query('commit')
    await transaction(house, (tx) => tx.releaseClaims([one!.pendingId]))
    await working
    t.match(await house.read(run), { state: 'done', moved: 1 })
  },
)

interface PlanNode {
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  'Rows Removed by Join Filter'?: number
  Plans?: PlanNode[]
}

/** How many rows the nodes of a plan have looked at, all together. */
function rowsVisited(node: PlanNode): number {
  const removed = (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Join Filter'] ?? 0)
  const below = (node.Plans ?? []).reduce((sum, one) => sum + rowsVisited(one), 0)
  return below + (node['Actual Rows'] + removed) * node['Actual Loops']
}

/** A connection of its own, and what gives it back. */
async function clientOf(t: Test, { vault }: House): Promise<[Client, () => void]> {
  const connections = vault.connect(1)
  t.teardown(() => connections.close())
  const got = Promise.withResolvers<Client>()
  const released = Promise.withResolvers<undefined>()
  const used = connections.run(performance.now() + 30_000, (client) => {
    got.resolve(client)
    return released.promise
  })
  t.teardown(() => used)
  return [await got.promise, () => released.resolve(undefined)]
}
