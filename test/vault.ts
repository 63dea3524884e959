import pg from 'pg'
import type { Test } from 'tap'
import { v7 } from 'uuid'
import { Acts } from '../src/core/acts.ts'
import { makeAdministrator } from '../src/core/administrator.ts'
import type { AuditEvent } from '../src/core/audit.ts'
import { ROOT_STREAM } from '../src/core/audit-verify.ts'
import { AuditTrail } from '../src/core/audit-trail.ts'
import { Keys } from '../src/core/keys.ts'
import type { Call, Caller, PresentedToken } from '../src/core/calls.ts'
import { Copies } from '../src/core/copies.ts'
import type { CredentialInput } from '../src/core/credentials.ts'
import { Credentials } from '../src/core/credentials.ts'
import { ExternalSweep } from '../src/core/external-sweep.ts'
import type { Grant } from '../src/core/grants.ts'
import { Identities } from '../src/core/identities.ts'
import { Keyring } from '../src/core/keyring.ts'
import type { LeaseRequest } from '../src/core/lease-grants.ts'
import { LateEvents } from '../src/core/late-events.ts'
import { LeaseGrants } from '../src/core/lease-grants.ts'
import { Leases } from '../src/core/leases.ts'
import type { LedgerHome } from '../src/core/records.ts'
import { Carrier } from '../src/core/relocation-carrier.ts'
import { RelocationWorker } from '../src/core/relocation-worker.ts'
import { Relocations } from '../src/core/relocations.ts'
import { Roles } from '../src/core/roles.ts'
import { Sealer } from '../src/core/sealer.ts'
import { Secret } from '../src/core/secret.ts'
import { StoreSet } from '../src/core/store-set.ts'
import type { Store } from '../src/core/stores.ts'
import { Sweep } from '../src/core/sweep.ts'
import { parseToken } from '../src/core/token.ts'
import { Values } from '../src/core/values.ts'
import { Workspaces } from '../src/core/workspaces.ts'
import { Connections } from '../src/postgres/connections.ts'
import { registerProcess } from '../src/postgres/key-register.ts'
import { LEASE_SETTINGS } from '../src/postgres/lease-sql.ts'
import { PostgresLedger } from '../src/postgres/ledger.ts'
import { checkDatabase } from '../src/postgres/start-checks.ts'
import { Writers } from '../src/postgres/writers.ts'
import type { TestGround } from './ground.ts'

/** What a test may set; the rest is as in service, but faster where somebody waits. */
export interface VaultTuning {
  /** For leases; all else has time enough on a busy machine. */
  deadlineMs: number
  /** How much longer than the deadline the database may take for a statement. */
  statementSlackMs: number
  lanes: number
  lineMax: number
  batchMax: number
  judgementMsMax: number
  settleEveryMs: number
  versionsKept: number
  recoverySeconds: number
  copyGraceSeconds: number
  leaseRetentionSeconds: number
  sweepBatch: number
  sweepRestMs: (busyMs: number) => number
  relocationBatch: number
  relocationPointBatch: number
  relocationLanes: number
  relocationGiveUpMs: number
  /** Makes the ids of leases. */
  newId: () => string
  /** Its own for each test where tests share a database. */
  workspace: string
  /** The external stores. */
  stores: readonly Store[]
  /** Where the lease statements go, if not straight to the database. */
  leaseUrl?: Secret
}

const TUNING: VaultTuning = {
  deadlineMs: 5000,
  statementSlackMs: 500,
  lanes: 2,
  lineMax: 4096,
  batchMax: 256,
  judgementMsMax: 500,
  settleEveryMs: 50,
  versionsKept: 10,
  recoverySeconds: 7 * 24 * 3600,
  copyGraceSeconds: 60,
  leaseRetentionSeconds: 3600,
  sweepBatch: 500,
  sweepRestMs: () => 0,
  relocationBatch: 8,
  relocationPointBatch: 500,
  relocationLanes: 4,
  relocationGiveUpMs: 60_000,
  newId: v7,
  workspace: 'acme',
  stores: [],
}

/** One process's services, without HTTP. */
export type Vault = Awaited<ReturnType<typeof openVault>>

/** Somebody who may use the vault. */
export interface Someone {
  name: string
  caller: Caller
  token: PresentedToken
}

/** Everything by default: narrow it by `identityWith`. */
export const ALL: Grant = { actions: ['credential:*', 'lease:*'], workspaces: ['*'] }

/**
 * Builds what one process would, and closes it after the test. Call it again for another process on the same database.
 * Its workspace is there.
 */
export async function openVault(t: Test, ground: TestGround, tuned: Partial<VaultTuning> = {}) {
  const tuning = { ...TUNING, ...tuned }
  const connect = (max: number, settings: string[] = [], databaseUrl = ground.databaseUrl) =>
    new Connections({
      databaseUrl,
      max,
      settings,
      statementTimeoutMs: tuning.deadlineMs + tuning.statementSlackMs,
      onError: () => {},
    })
  const readers = connect(4)
  const upkeep = connect(2)
  const writers = new Writers(connect(4), v7)
  const leaseWriters = new Writers(connect(tuning.lanes, LEASE_SETTINGS, tuning.leaseUrl), v7)
  t.teardown(() => Promise.all([readers, upkeep, writers, leaseWriters].map((each) => each.close())))

  await checkDatabase(upkeep, true)
  const keyring = Keyring.parse(ground.keys.map((key) => key.reveal()))
  const sealing = await registerProcess(upkeep, { id: v7(), name: 'test', keyIds: keyring.ids() })
  const ledger = new PostgresLedger({ readers, upkeep, writers, leaseWriters, newId: v7 })
  const sealer = new Sealer(keyring, sealing, () => {})
  const lateEvents = new LateEvents(ledger, () => {})
  const onUnrecorded = lateEvents.note.bind(lateEvents)
  const acts = new Acts(ledger, sealer, { onPrivilege: () => {}, onUnrecorded })
  const { workspace, copyGraceSeconds } = tuning
  const stores = new StoreSet(tuning.stores, 'local', tuning.versionsKept)
  const copies = new Copies(ledger, sealer, stores, v7)
  const values = new Values(acts, sealer, { newId: v7, copies, stores })
  const away: LedgerHome[] = []
  const undeleted: { store: string; reason: string }[] = []
  const externalSweep = new ExternalSweep(ledger, stores, {
    copyGraceSeconds,
    batch: tuning.sweepBatch,
    lanes: 4,
    deleteMs: 30_000,
    onAway: (home) => away.push(home),
    onFailed: (store, reason) => undeleted.push({ store, reason }),
  })
  const relocationWorker = new RelocationWorker(ledger, new Carrier(copies, sealer, stores, v7), {
    batch: tuning.relocationBatch,
    pointBatch: tuning.relocationPointBatch,
    lanes: tuning.relocationLanes,
    claimSeconds: copyGraceSeconds,
    giveUpMs: tuning.relocationGiveUpMs,
  })
  t.teardown(() => relocationWorker.stop())
  const granted: { credentialId: string; tokenId: string }[] = []
  const leaseGrants = new LeaseGrants(ledger, copies, {
    ...tuning,
    settleTriesMax: 100,
    onGranted: (one) => granted.push(one),
    onSettleError: () => {},
  })
  t.teardown(() => leaseGrants.close())
  const call = (deadlineMs = 10_000): Call => ({
    requestId: v7(),
    address: '192.0.2.1',
    operation: 'test',
    deadlineAt: performance.now() + deadlineMs,
  })
  const whoShows = async (text: Secret): Promise<Caller> =>
    (await ledger.authenticate(parseToken(text.reveal())!, call().deadlineAt))!

  const administrator = await makeAdministrator(ledger, call(), 'admin')
  const admin = await whoShows(administrator.token)
  const workspaces = new Workspaces(acts, stores)
  await workspaces.put(call(), admin, workspace, undefined)
  const roles = new Roles(acts)
  const identities = new Identities(acts)
  const credentials = new Credentials(acts, values)
  const connector = 'source-postgres'

  return {
    acts,
    admin,
    away,
    auditTrail: new AuditTrail(acts, ledger),
    call,
    connect,
    credentials,
    granted,
    ground,
    identities,
    keys: new Keys(acts),
    lateEvents,
    leaseGrants,
    leases: new Leases(acts, ledger, stores),
    ledger,
    relocations: new Relocations({ acts, copies, stores, work: () => relocationWorker.work() }),
    relocationWorker,
    roles,
    sealer,
    sweep: new Sweep(ledger, externalSweep, {
      ...tuning,
      batch: tuning.sweepBatch,
      restMs: tuning.sweepRestMs,
    }),
    stores,
    undeleted,
    values,
    workspace,
    workspaces,

    /** Where the streams of the lease statements stand. */
    leaseHeads: () => leaseWriters.heads().filter((head) => head.stream !== ROOT_STREAM),
    /** Makes an identity `name` whose only role, of the same name, has these grants; and a token for it. */
    async identityWith(grants: Grant[] = [ALL], name = someName()): Promise<Someone> {
      await roles.put(call(), admin, name, grants)
      await identities.put(call(), admin, name, [name])
      const { token } = await identities.issueToken(call(), admin, name)
      const caller = await whoShows(token)
      return { name, caller, token: caller.token }
    },
    /** Makes a credential; its value is a JSON text. */
    create: (
      by: Someone,
      name: string,
      value = '{"password":"one"}',
      labels: Record<string, string> = {},
      more: Partial<CredentialInput> = {},
    ) =>
      credentials.create(call(), by.caller, workspace, name, {
        connector,
        content: { value: new Secret(value) },
        labels,
        ...more,
      }),
    update: (by: Someone, name: string, value: string, ifMatch?: number) =>
      values.put(call(), by.caller, workspace, name, new Secret(value), ifMatch),
    lease: (by: Someone, credential: string, more: Partial<LeaseRequest> = {}) =>
      leaseGrants.lease(call(tuning.deadlineMs), by.token, { workspace, credential, ...more }),
    /** The lease as its own worker sees it. */
    leaseState: async (by: Someone, id: string) =>
      (await new Leases(acts, ledger, stores).read(call(), by.caller, id)).state,
  }
}

/** Audit events as the table has them, oldest first, without asking the service. */
export async function eventsIn(ground: TestGround, where: string): Promise<AuditEvent[]> {
  const rows = await ground.sql(
    `select id, stream, sequence::integer, recorded_at::text as "recordedAt", identity, action, operation, outcome,
       code, workspace, credential, version, lease, run_id as "runId", reason, address, request_id as "requestId",
       mark, detail, encode(hash, 'hex') as hash
     from audit_events where ${where} order by id`,
  )
  return rows as AuditEvent[]
}

/** A name that nobody else has. */
export const someName = (): string => `n-${v7().slice(-12)}`

/** A session of somebody else, as the schema's owner: for locks that hold up the service. */
export async function anotherSession(t: Test, ground: TestGround): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: ground.ownerUrl.reveal() })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** How many statements in this database wait for a lock. */
export async function lockWaits(ground: TestGround): Promise<number> {
  const waits = await ground.sql(
    "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
  )
  return waits.length
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
