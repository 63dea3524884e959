import { hostname } from 'node:os'
import { giveWay, repeat } from './background.ts'
import type { Config } from './config.ts'
import { Acts } from './core/acts.ts'
import { makeAdministrator } from './core/administrator.ts'
import { AuditTrail } from './core/audit-trail.ts'
import { Keys } from './core/keys.ts'
import { Copies } from './core/copies.ts'
import { Credentials } from './core/credentials.ts'
import { ExternalSweep } from './core/external-sweep.ts'
import { FailedAuthentications } from './core/failed-authentications.ts'
import { Health } from './core/health.ts'
import { Identities } from './core/identities.ts'
import { Keyring } from './core/keyring.ts'
import { LastUse } from './core/last-use.ts'
import { LateEvents } from './core/late-events.ts'
import { LeaseGrants } from './core/lease-grants.ts'
import { Leases } from './core/leases.ts'
import { Measures } from './core/measures.ts'
import { Carrier } from './core/relocation-carrier.ts'
import { RelocationWorker } from './core/relocation-worker.ts'
import { Relocations } from './core/relocations.ts'
import { Roles } from './core/roles.ts'
import { RotationWorker } from './core/rotation-worker.ts'
import { Rotations } from './core/rotations.ts'
import { Sealer } from './core/sealer.ts'
import type { Secret } from './core/secret.ts'
import { ownCall } from './core/calls.ts'
import { StoreReport } from './core/store-report.ts'
import { StoreSet } from './core/store-set.ts'
import { Sweep } from './core/sweep.ts'
import { Tally } from './core/tally.ts'
import { Values } from './core/values.ts'
import { Workspaces } from './core/workspaces.ts'
import { buildAdminApp } from './http/admin-app.ts'
import { buildServiceApp } from './http/service-app.ts'
import { newId } from './ids.ts'
import { KeyFile } from './key-file.ts'
import type { Logger } from './log.ts'
import { checkHealth } from './postgres/health-check.ts'
import { registerProcess } from './postgres/key-register.ts'
import { PostgresLedger } from './postgres/ledger.ts'
import { openPools } from './postgres/pools.ts'
import { checkDatabase, checkStoresKnown } from './postgres/start-checks.ts'
import { Metrics } from './metrics.ts'
import type { OpenedStores } from './opened-stores.ts'
import { checkStores, ONLY_LOCAL } from './opened-stores.ts'
import { ResealThread } from './reseal-thread.ts'
import { RingKeeper } from './ring-keeper.ts'
import type { Tuning } from './tuning.ts'
import { TUNING } from './tuning.ts'

/** A service that is ready to listen. */
export type Strongroom = Awaited<ReturnType<typeof wire>>

/**
 * The composition root: builds everything by hand, checks the database and the keys, and starts what runs by itself.
 *
 * @param ground Where the database is, the variable that says so where it is another than usual, the ring's keys, the first
 *   one first, and the file that they come from.
 * @param opened The external stores, which are closed with the rest.
 * @param told Told of copies that the sweep could not have deleted.
 * @throws StartRefused
 */
export async function wire(
  config: Pick<Config, 'mode' | 'deadlineSeconds' | 'rateLimit' | 'trustedProxies' | 'tls'>,
  ground: { databaseUrl: Secret; urlVariable?: string; keys: readonly Secret[]; keysFile?: string },
  log: Logger,
  tuned: Partial<Tuning> = {},
  opened: OpenedStores = ONLY_LOCAL,
  told: { onUndeleted?: (store: string, reason: string) => void } = {},
) {
  const tuning = { ...TUNING, ...tuned }
  const keyring = Keyring.parse(ground.keys.map((key) => key.reveal()))
  const pools = openPools({
    databaseUrl: ground.databaseUrl,
    deadlineSeconds: config.deadlineSeconds,
    leaseLanes: tuning.leaseLanes,
    rotationLanes: tuning.rotationLanes,
    newId,
    onError: (error) => log.warn({ err: error }, 'a database connection broke'),
  })
  const { readers, upkeep, writers, leaseWriters } = pools

  const registration = { id: newId(), name: `${hostname()}:${process.pid}`, keyIds: keyring.ids() }
  let sealingKeyId: string
  try {
    await checkDatabase(upkeep, config.mode === 'production', ground.urlVariable)
    const names = opened.external.map(({ name }) => name)
    if (!opened.leftAlone) await checkStoresKnown(upkeep, names)
    sealingKeyId = await registerProcess(upkeep, registration)
  } catch (error) {
    await opened.close()
    await pools.close()
    throw error
  }

  const ledger = new PostgresLedger({ readers, upkeep, writers, leaseWriters, newId })
  let resealThread = new ResealThread(ground.keys.map((key) => key.reveal()))
  const sealer = new Sealer(keyring, sealingKeyId, () => void ringKeeper.tick().catch(onTickError))
  const onTickError = (err: unknown): void => log.warn({ err }, 'this process could not be registered')
  const ringKeeper = new RingKeeper(
    {
      connections: upkeep,
      sealer,
      keyFile: ground.keysFile === undefined ? undefined : new KeyFile(ground.keysFile, ground.keys),
      log,
      onRing: (keyTexts) => {
        void resealThread.close()
        resealThread = new ResealThread(keyTexts)
      },
    },
    registration,
  )
  const stores = new StoreSet(opened.external, opened.byDefault, tuning.versionsKept)
  const copies = new Copies(ledger, sealer, stores, newId)
  const lateEvents = new LateEvents(ledger, (err) => log.warn({ err }, 'a call that failed has no event'))
  const acts = new Acts(ledger, sealer, {
    onPrivilege: ({ identity, detail }, { operation }) =>
      log.warn({ operation, identity, detail }, 'privilege granted'),
    onUnrecorded: lateEvents.note.bind(lateEvents),
  })
  const values = new Values(acts, sealer, { newId, copies, stores })
  const lastUse = new LastUse(ledger)
  const leaseGrants = new LeaseGrants(ledger, copies, {
    newId,
    lanes: tuning.leaseLanes,
    lineMax: tuning.leaseLineMax,
    batchMax: tuning.leaseBatchMax,
    judgementMsMax: tuning.judgementMsMax,
    settleEveryMs: tuning.settleEveryMs,
    settleTriesMax: 60,
    onGranted: ({ credentialId, tokenId }) => lastUse.noteLease(credentialId, tokenId),
    onSettleError: (error) => log.warn({ err: error }, 'leases without a value could not be marked yet'),
  })
  const copyGraceSeconds = Math.max(tuning.copyGraceSeconds, opened.longestCallSeconds * 10)
  const externalSweep = new ExternalSweep(ledger, stores, {
    copyGraceSeconds,
    batch: 64,
    lanes: 8,
    deleteMs: opened.longestCallSeconds * 1000,
    onAway: (home) => log.warn({ home }, 'nothing external is deleted: see strongroom sweep --adopt'),
    onFailed: (store, reason) => {
      log.warn({ store, reason }, 'a store did not delete a copy yet')
      told.onUndeleted?.(store, reason)
    },
  })
  const sweep = new Sweep(ledger, externalSweep, {
    ...tuning,
    copyGraceSeconds,
    batch: 500,
    // It must keep up with the leases that end.
    restMs: giveWay(() => leaseGrants.granted, 1),
  })
  const failures = new FailedAuthentications(ledger, (error) =>
    log.warn({ err: error }, 'a failed authentication could not be recorded'),
  )
  const knowsKey = (id: string): boolean => sealer.unknownKeyId === undefined && sealer.keyring.has(id)
  const rotationWorker = new RotationWorker(ledger, {
    newId,
    batch: tuning.rotationBatch,
    lanes: tuning.rotationLanes,
    reseal: (toKeyId, copies) => resealThread.reseal(toKeyId, copies),
    knowsKey: (id) => sealer.keyring.has(id),
    restMs: giveWay(() => leaseGrants.granted, 3),
  })
  const carrier = new Carrier(copies, sealer, stores, newId)
  const relocationWorker = new RelocationWorker(ledger, carrier, {
    batch: tuning.relocationBatch,
    lanes: tuning.relocationLanes,
    claimSeconds: copyGraceSeconds,
    giveUpMs: tuning.relocationGiveUpMs,
  })
  const onUnhealthy = (err: unknown): void =>
    log.warn({ err }, 'the database could not be asked for its health')
  const health = new Health(
    () => checkHealth(readers, knowsKey, () => stores.health, onUnhealthy),
    tuning.healthMaxAgeMs,
  )

  const requests = new Tally()
  const formRefusals = new Tally()
  const metrics = new Metrics({
    measures: new Measures(acts, stores),
    requests,
    formRefusals,
    leases: leaseGrants,
    failedAuthentications: () => failures.count,
  })

  const deps = {
    authenticate: async (...of: Parameters<typeof ledger.authenticate>) => {
      const caller = await ledger.authenticate(...of)
      if (caller) lastUse.noteToken(caller.token.id)
      return caller
    },
    onAuthenticationFailed: (call: Parameters<typeof failures.note>[0]) => failures.note(call),
    onAnswered: (operation: string, status: number) => requests.add(operation, String(status)),
    onFormRefused: (operation: string) => formRefusals.add(operation),
    credentials: new Credentials(acts, values),
    values,
    leases: new Leases(acts, ledger, stores),
    leaseGrants,
    workspaces: new Workspaces(acts, stores),
    roles: new Roles(acts),
    identities: new Identities(acts),
    keys: new Keys(acts),
    rotations: new Rotations(acts, sealer),
    storeReport: new StoreReport(acts, stores),
    relocations: new Relocations({ acts, copies, stores, work: () => relocationWorker.work() }),
    auditTrail: new AuditTrail(acts, ledger),
    health: () => health.report(),
    metrics,
    log,
    deadlineSeconds: config.deadlineSeconds,
    unreadMsMax: tuning.unreadMsMax,
    rateLimit: config.rateLimit,
    trustedProxies: config.trustedProxies,
    tls: listenerTls(config.tls),
  }
  const serviceApp = buildServiceApp(deps)
  const adminApp = buildAdminApp(deps)

  // Until it is answered each is taken for reachable.
  void checkStores(stores.external)
  const logHeads = (): void => log.info({ heads: ledger.heads() }, 'audit heads')
  const every = [
    repeat(
      tuning.sweepEveryMs,
      async () => void (await sweep.run(tuning.externalSweepMs)),
      (err) => log.error({ err }, 'the sweep failed'),
    ),
    repeat(
      tuning.headsEveryMs,
      async () => logHeads(),
      () => {},
    ),
    repeat(tuning.aliveEveryMs, () => ringKeeper.tick(), onTickError),
    repeat(
      tuning.rotationEveryMs,
      () => rotationWorker.work(),
      (err) => log.error({ err }, 'a rotation could not go on yet'),
    ),
    repeat(
      tuning.relocationEveryMs,
      () => relocationWorker.work(),
      (err) => log.error({ err }, 'a store migration could not go on yet'),
    ),
    repeat(
      tuning.storeCheckEveryMs,
      () => checkStores(stores.external),
      () => {},
    ),
    repeat(
      tuning.lastUseEveryMs,
      () => lateEvents.flush().then(() => lastUse.flush()),
      (err) => log.warn({ err }, 'events of calls that failed and last use could not be written yet'),
    ),
  ]

  return {
    serviceApp,
    adminApp,
    ledger,
    sweep,
    /** Makes an identity that administers, with a token for a year. */
    makeAdministrator: (identity: string) => makeAdministrator(ledger, ownCall('init', 10_000), identity),
    /** Ends what runs by itself, then the connections. Requests in flight are answered first. */
    async close(): Promise<void> {
      // Before anything is waited for, and once more when all is done: a database that hangs may take longer than we are given.
      logHeads()
      pools.hurry()
      rotationWorker.stop()
      relocationWorker.stop()
      sweep.stop()
      await Promise.all([serviceApp.close(), adminApp.close(), ...every.map((stop) => stop())])
      leaseGrants.close()
      for (const flushed of await Promise.allSettled([lastUse.flush(), lateEvents.flush()]))
        if (flushed.status === 'rejected')
          log.error({ err: flushed.reason }, 'what was not written yet is lost')
      logHeads()
      await resealThread.close()
      await ringKeeper.leave().catch(() => {})
      await opened.close()
      await pools.close()
    },
  }
}

/** Where a proxy speaks TLS, the listener does not. With a client CA it takes only callers that show a certificate. */
function listenerTls(tls: Config['tls']): { cert: Buffer; key: Buffer; ca?: Buffer } | undefined {
  if (!tls || tls === 'proxy') return undefined
  return { cert: tls.cert, key: tls.key, ...(tls.clientCa && { ca: tls.clientCa }) }
}
