import t from 'tap'
import { FernetKey } from '../../src/core/fernet.ts'
import { upgradeDatabase } from '../../src/postgres/upgrade.ts'
import { deletesNothingUntilAdopted, originalLedger } from '../copied-ledger.ts'
import type { MachineCluster } from './machine-postgres.ts'
import { machinePostgres, startMachineCluster } from './machine-postgres.ts'

const bin = machinePostgres()
const skip = bin === undefined && 'this machine has no PostgreSQL from 15 on with server and pg_dump'

for (const where of ['another cluster', 'another database of the same cluster']) {
  t.test(
    `a ledger restored by pg_restore into ${where} deletes nothing external until it is adopted`,
    { skip },
    async (t) => {
      const cluster = startMachineCluster(t, bin!)
      const ground = await cluster.ground('original', [FernetKey.generate().text])
      await upgradeDatabase(ground.ownerUrl, ground.databaseUrl)
      const first = await originalLedger(t, ground)

      const there: MachineCluster = where === 'another cluster' ? startMachineCluster(t, bin!) : cluster
      const restored = await there.ground('restored', ground.keys)
      const dump = cluster.tool('pg_dump', ['--format=custom', 'original'])
      there.tool('pg_restore', ['--dbname=restored', '--exit-on-error'], dump)
      await deletesNothingUntilAdopted(t, first, restored)
    },
  )
}
