import t from 'tap'
import { relocationView } from '../../src/cli/relocation-progress.ts'
import type { Relocation } from '../../src/cli/relocation-client.ts'
import { sameRoute } from '../../src/cli/relocation-client.ts'
import { Pace } from '../../src/cli/run-progress.ts'
import { mintToken } from '../../src/core/token.ts'
import { loopback, runStrongroom, type Seen } from './run-strongroom.ts'

const ID = '0190a1b2-0000-7000-8000-000000000009'
const running: Relocation = {
  id: ID,
  state: 'running',
  heading: 'over',
  from: 'local',
  to: 'team-vault',
  total: 1000,
  moved: 100,
  moved_over: 100,
  skipped: 0,
  failed: 0,
  throttled: 0,
  started_at: '2030-01-01T00:00:00.000Z',
  failures: [],
  stays: [],
}
const finished_at = '2030-01-01T00:01:40.000Z'
const took = { duration_seconds: 100, rate_per_second: 9.5, finished_at }
const plan = { from: 'local', to: 'team-vault', copies: 1000, bytes: 2048, groups: [], stays: [] }
const ORDER = ['migrate-store', '--from', 'local', '--to', 'team-vault']
const token = mintToken().text.reveal()

/** A service whose only store migration is `run`, as often as one looks; it has just begun where it is asked to. */
async function serving(
  run: () => { status: number; body?: unknown },
  { there = [] as object[], planned = plan as object } = {},
) {
  const at = await loopback(({ method, url, body }: Seen) => {
    if (method === 'POST' && url.endsWith('/store-migrations')) {
      const dry = (JSON.parse(body) as { dry_run?: boolean }).dry_run
      return dry ? { status: 200, body: { plan: planned } } : { status: 202, body: running }
    }
    if (url.includes('?limit=')) return { status: 200, body: { items: there, next: null } }
    return run()
  })
  return { ...at, env: { STRONGROOM_ADMIN_URL: at.url, STRONGROOM_TOKEN: token } }
}
const linesOf = (out: string) =>
  out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

t.test(
  'of more than 100 failures the first are listed, the others counted, and the exit code is 1',
  async (t) => {
    const failures = [{ workspace: 'acme', credential: 'orders-db', version: 3, code: 'store_rejected' }]
    const failed = {
      ...running,
      state: 'failed',
      moved: 899,
      failed: 101,
      throttled: 7,
      failures,
      ...took,
    }
    const { env, close } = await serving(() => ({ status: 200, body: failed }))
    t.teardown(close)
    const { code, out, err } = await runStrongroom([...ORDER, '--yes'], env)
    t.equal(code, 1)
    t.match(
      err,
      /could not be moved:\n {2}acme\/orders-db version 3: store_rejected\n {2}and 100 more: audit events/,
    )
    t.match(err, `--resume ${ID}; --rollback ${ID} undoes it`)
    const report = { state: 'failed', moved: 899, failed: 101, throttled: 7, failures }
    t.match(linesOf(out).at(-1), { ...report, ...took })
  },
)

t.test('what stays is listed with its reason, and is no failure', async (t) => {
  const stays = [{ workspace: 'acme', credential: 'big', version: 1, code: 'too_large' }]
  const done = { ...running, state: 'done', moved: 999, skipped: 1, stays, ...took }
  const planned = {
    ...plan,
    stays: [
      { reason: 'link', copies: 2 },
      { reason: 'too_large', copies: 1 },
    ],
  }
  const { env, close } = await serving(() => ({ status: 200, body: done }), { planned })
  t.teardown(close)
  const { code, err } = await runStrongroom([...ORDER, '--yes'], env)
  t.equal(code, 0)
  t.match(err, '2 copies stay: links: somebody else keeps those, and they are read where they lie (link).\n')
  t.match(err, '1 copies stay: larger than team-vault takes (too_large).\n')
  t.match(err, 'Done in 1 min 40 s: 999 copies moved, 1 stay, 0 failed (9.5/s).\n')
  t.match(err, 'These stay where they are:\n  acme/big version 1: too_large\n')
})

for (const [state, heading, where] of [
  ['finalized', 'closing', 'These are still in local:'],
  ['rolled_back', 'back', 'These are still in team-vault:'],
  ['cancelled', 'over', 'These could not be moved, or stay:'],
] as const) {
  t.test(`of one that is ${state}, whatever failed or stays is listed, and the exit code is 1`, async (t) => {
    const failures = [{ workspace: 'acme', credential: 'orders-db', version: 3, code: 'store_rejected' }]
    const stays = [{ workspace: 'acme', credential: 'big', version: 1, code: 'too_large' }]
    const ended = { ...running, state, heading, failed: 1, failures, skipped: 1, stays, finished_at }
    const { env, close } = await serving(() => ({ status: 200, body: ended }))
    t.teardown(close)
    const asked = { finalized: '--finalize', rolled_back: '--rollback', cancelled: '--cancel' }[state]
    const { code, err } = await runStrongroom(['migrate-store', asked, ID], env)
    t.equal(code, 1)
    t.match(err, `${where}\n  acme/orders-db version 3: store_rejected\n  acme/big version 1: too_large\n`)
  })
}

t.test('what stays at the end of a rollback is listed, and is no failure by itself', async (t) => {
  const stays = [{ workspace: 'acme', credential: 'big', version: 2, code: 'too_large' }]
  const rollback = { moved: 100, duration_seconds: 4, rate_per_second: 25 }
  const back = { state: 'rolled_back', heading: 'back', moved: 0, skipped: 1, stays, rollback, ...took }
  const { env, close } = await serving(() => ({ status: 200, body: { ...running, ...back } }))
  t.teardown(close)
  const { code, out, err } = await runStrongroom(['migrate-store', '--follow', ID], env)
  t.equal(code, 0)
  t.match(err, /^Rolled back in 4 s \(25\/s\): .* from local again\.\nThese are still in team-vault:\n/)
  t.match(err, '  acme/big version 2: too_large\n')
  t.match(linesOf(out).at(-1), { moved: 0, moved_over: 100, rollback, ...took }, 'both ways are told')
})

t.test('a rollback that has not ended is not undone by the same command again', async (t) => {
  const there = [{ ...running, state: 'failed', heading: 'back', failed: 1, finished_at }]
  const { env, seen, close } = await serving(() => ({ status: 500 }), { there })
  t.teardown(close)
  const says = `was being rolled back, and that has not ended: --rollback ${ID} goes on with it, --resume ${ID} moves over again\n`
  const { code, err } = await runStrongroom([...ORDER, '--yes'], env)
  t.equal(code, 1)
  t.match(err, `strongroom: the store migration ${ID} from local to team-vault ${says}`)
  t.notOk(
    seen.some(({ method }) => method === 'POST'),
    'nothing was asked for',
  )
  const dry = await runStrongroom([...ORDER, '--dry-run'], env)
  t.match(dry, { code: 0, err: says })
  t.strictSame(linesOf(dry.out), [{ plan }])
})

t.test(
  'a plan says that what is too large out of an external store is seen only when it is read',
  async (t) => {
    const { bytes: _, ...unknown } = { ...plan, from: 'aws-eu' }
    const { env, close } = await serving(() => ({ status: 500 }), { planned: unknown })
    t.teardown(close)
    const { err } = await runStrongroom([...ORDER, '--dry-run'], env)
    t.match(
      err,
      'Only aws-eu knows how long its values are: those that team-vault does not take will stay too',
    )
  },
)

t.test('a service that is away for a moment does not end the looking', async (t) => {
  let looks = 0
  const unavailable = { status: 503, body: { code: 'unavailable', detail: 'Not now' } }
  const done = { ...running, state: 'done', moved: 1000, ...took }
  const { env, close } = await serving(() => (looks++ < 1 ? unavailable : { status: 200, body: done }))
  t.teardown(close)
  const { code, err } = await runStrongroom([...ORDER, '--yes'], env)
  t.match({ code, err }, { code: 0, err: /Done in 1 min 40 s: 1000 copies moved/ })
})

t.test('one that runs already is named, to be followed, and nothing is planned', async (t) => {
  const { env, seen, close } = await serving(() => ({ status: 500 }), { there: [running] })
  t.teardown(close)
  const { code, err } = await runStrongroom([...ORDER, '--yes'], env)
  const says = `already_running: from local to team-vault; follow it with strongroom migrate-store --follow ${ID}`
  t.match({ code, err }, { code: 1, err: says })
  t.notOk(seen.some(({ method }) => method === 'POST'))
})

t.test('the workspaces are part of the order', async (t) => {
  const done = { ...running, state: 'done', finished_at }
  const { env, seen, close } = await serving(() => ({ status: 200, body: done }))
  t.teardown(close)
  await runStrongroom([...ORDER, '--workspace', 'acme', '--workspace', 'globex', '--yes'], env)
  const route = { from: 'local', to: 'team-vault', workspaces: ['acme', 'globex'] }
  const orders = seen.filter(({ method }) => method === 'POST').map(({ body }) => JSON.parse(body))
  t.strictSame(orders, [{ ...route, dry_run: true }, route])
})

t.test('a service that is not there is 69, and without a token it is 78', async (t) => {
  const away = { STRONGROOM_ADMIN_URL: 'http://127.0.0.1:1', STRONGROOM_TOKEN: token }
  t.equal((await runStrongroom([...ORDER, '--yes'], away)).code, 69)
  t.equal((await runStrongroom(['migrate-store', '--rollback', ID], away)).code, 69)
  const nobody = { STRONGROOM_ADMIN_URL: 'http://127.0.0.1:1', STRONGROOM_DATA_DIR: t.testdir({}) }
  t.equal((await runStrongroom([...ORDER, '--dry-run'], nobody)).code, 78)
})

for (const [args, says] of [
  [['--from', 'local'], /takes --from and --to, or one of/],
  [[], /takes --from and --to, or one of/],
  [['--from', 'local', '--to', '../x', '--yes'], /take the names of stores/],
  [['--from', 'a', '--to', 'b', '--workspace', 'A', '--yes'], /name of a workspace/],
  [['--from', 'a', '--to', 'b', '--dry-run', '--yes'], /only one of --dry-run and --yes/],
  [['--follow', '../keys'], /takes the id of a store migration/],
  [['--follow', ID, '--cancel', ID], /stands alone/],
  [['--rollback', ID, '--yes'], /stands alone/],
  [['now'], /more arguments/],
] as const) {
  t.test(`migrate-store ${args.join(' ')} is wrong usage`, async (t) => {
    const { code, out, err } = await runStrongroom(['migrate-store', ...args])
    t.match({ code, out, err }, { code: 2, out: '', err: says })
  })
}

t.test('routes are the same whatever the order of their workspaces', async (t) => {
  const route = { from: 'local', to: 'team-vault' }
  t.ok(sameRoute({ ...route, workspaces: ['a', 'b'] }, { ...route, workspaces: ['b', 'a'] }))
  t.notOk(sameRoute({ ...route, workspaces: ['a'] }, route))
  t.notOk(sameRoute({ from: 'team-vault', to: 'local' }, route))
})

t.test('going back, what is done is what is no longer moved', async (t) => {
  const pace = new Pace(relocationView)
  const back: Relocation = { ...running, heading: 'back', moved: 1000 }
  pace.lineOf(back, 0)
  const later = { ...back, moved: 800, rollback: { moved: 200 } }
  t.match(pace.lineOf(later, 2000), { moved: 800, rate_per_second: 100, left_seconds: 8 })
})

t.test('the bar says how often a store asked for patience', async (t) => {
  const view = relocationView
  t.equal(
    view.notes({ ...running, failed: 2, skipped: 3, throttled: 4 }),
    '2 failed, 3 stay, throttled 4 times',
  )
  t.equal(view.notes(running), '0 failed')
})
