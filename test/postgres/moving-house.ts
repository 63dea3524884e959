import type { Test } from 'tap'
import { v7 } from 'uuid'
import type { LedgerTransaction } from '../../src/core/ledger-transaction.ts'
import type { Carried, Claiming, Relocation, Route } from '../../src/core/relocation.ts'
import type { Secret } from '../../src/core/secret.ts'
import { freshGround } from '../ground.ts'
import type { Troubled, TroubledOptions } from '../troubled-store.ts'
import { troubledStore } from '../troubled-store.ts'
import type { Someone, Vault, VaultTuning } from '../vault.ts'
import { openVault, sleep } from '../vault.ts'

/** What a house is opened with. */
export interface HouseOptions {
  tuning?: Partial<VaultTuning>
  /** In the ring behind the first one. */
  moreKeys?: Secret[]
  team?: TroubledOptions
  aws?: TroubledOptions
}

const QUICK = { retriesMax: 0, breakerRestMs: 50 }

/** A ledger with the stores `team-vault` and `aws-eu` beside `local`, and with store migrations that go on when told to. */
export async function movingHouse(t: Test, options: HouseOptions = {}) {
  const ground = await freshGround(t)
  ground.keys.push(...(options.moreKeys ?? []))
  const team = await troubledStore(t, { tuning: QUICK, ...options.team })
  const aws = await troubledStore(t, { name: 'aws-eu', tuning: QUICK, ...options.aws })
  const vault = await openVault(t, ground, { stores: [team.store, aws.store], ...options.tuning })
  const worker = await vault.identityWith()
  const { relocations, admin, call, workspace } = vault
  const change = (what: 'cancel' | 'resume' | 'rollback' | 'finalize' | 'read') => (run: Relocation) =>
    relocations[what](call(), admin, run.id)
  const read = change('read')
  const work = () => vault.relocationWorker.work()
  /** Is answered when it has ended, however long that takes. */
  const toItsEnd = (what: 'rollback' | 'finalize') => async (run: Relocation) => {
    await change(what)(run)
    await work()
    return read(run)
  }
  const start = (from: string, to: string, workspaces?: string[]): Promise<Relocation> =>
    relocations.start(call(), admin, { from, to, workspaces })
  /** One more process on the same database, with the same stores. */
  const another = () =>
    openVault(t, ground, { stores: [team.store, aws.store], workspace: 'others', ...options.tuning })

  return {
    ground,
    vault,
    worker,
    team,
    aws,
    start,
    work,
    another,
    read,
    cancel: change('cancel'),
    resume: change('resume'),
    /** Is answered within a second or so, ended or not. */
    beginRollback: change('rollback'),
    rollback: toItsEnd('rollback'),
    finalize: toItsEnd('finalize'),
    plan: (route: Route) => relocations.plan(call(), admin, route),
    /** Starts one, and works until its end. */
    async migrate(from: string, to: string, workspaces?: string[]): Promise<Relocation> {
      const run = await start(from, to, workspaces)
      await work()
      return read(run)
    },
    /** Makes credentials that lie in a store, each with its own name as its value. */
    async fill(store: string, ...names: string[]): Promise<void> {
      await Promise.all(names.map((name) => vault.create(worker, name, `"${name}"`, {}, { store })))
    },
    /** What a lease answers now. */
    value: async (credential: string, version?: number): Promise<string> =>
      (await vault.lease(worker, credential, { version })).value.reveal(),
    update: (name: string, value: string) => vault.update(worker, name, value),
    delete: (name: string, purge = false) =>
      vault.credentials.delete(call(), worker.caller, workspace, name, purge),
    restore: (name: string) => vault.credentials.restore(call(), worker.caller, workspace, name),
    /** Where each readable copy lies, as `name@version store state`. */
    async whereabouts(): Promise<string[]> {
      const rows = await ground.sql(
        `select c.name || '@' || k.version || ' ' || k.store || ' ' || k.state as line
         from copies k join credentials c on c.id = k.credential_id
         where k.state in ('current', 'kept') order by c.name, k.version`,
      )
      return rows.map(({ line }) => line)
    },
    /** How many copies there are in this state. */
    async count(state: string): Promise<number> {
      return (await ground.sql('select from copies where state = $1', [state])).length
    },
    /** Time passes, and the sweep comes twice, a copy grace apart. */
    async sweepTwice(): Promise<void> {
      for (let sweep = 0; sweep < 2; sweep++) {
        await ground.sql(
          `update copies set named_at = named_at - interval '1 hour', dropped_at = dropped_at - interval '1 hour',
             attempted_at = attempted_at - interval '1 hour', deleted_at = deleted_at - interval '1 hour'`,
        )
        await vault.sweep.run()
      }
    },
  }
}

/** Such a house. */
export type House = Awaited<ReturnType<typeof movingHouse>>

/** Does this as a process of its own would. */
export const transaction = <T>({ vault }: House, act: (tx: LedgerTransaction) => Promise<T>): Promise<T> =>
  vault.ledger.transaction(vault.call(), undefined, act)

/** Takes copies to move, by hand, as if they had been carried to `team-vault`. */
export async function claimed(
  house: House,
  run: Relocation,
  claiming: Partial<Claiming> = {},
): Promise<Carried[]> {
  const name = () => ({ id: v7(), ref: `strongroom/acme/${v7()}` })
  const claims = await transaction(house, (tx) =>
    tx.claimCopies(run, { claimSeconds: 60, limit: 1, name, ...claiming }),
  )
  return claims.map(({ copy, pending }) => ({ copyId: copy.id, pendingId: pending.id }))
}

/** Leases these credentials, one after the other, until it is stopped; then it says what was not as it should be. */
export function leaseLoop(vault: Vault, by: Someone, values: Record<string, string>) {
  let [stopped, leases] = [false, 0]
  const faults: string[] = []
  const looping = (async () => {
    while (!stopped) {
      for (const [name, value] of Object.entries(values)) {
        const leased = await vault.lease(by, name).then(
          (granted) => granted.value.reveal(),
          (error) => `${error.code} ${error.message}`,
        )
        leases++
        if (leased !== value) faults.push(`${name}: ${leased}`)
      }
      await sleep(1)
    }
  })()
  return async () => {
    stopped = true
    await looping
    return { faults, leases }
  }
}

/** Every ref of these stores that the ledger does not name as readable or as a source. */
export async function unknownRefs({ ground }: House, ...stores: Troubled[]): Promise<string[]> {
  const rows = await ground.sql("select ref from copies where state in ('current', 'kept', 'source')")
  const named = new Set(rows.map(({ ref }) => ref))
  return stores.flatMap(({ kept }) => [...kept.keys()].filter((ref) => !named.has(ref)))
}
