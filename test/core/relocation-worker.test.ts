import t from 'tap'
import type { Ledger } from '../../src/core/ledger.ts'
import type { Carrier } from '../../src/core/relocation-carrier.ts'
import { RelocationWorker } from '../../src/core/relocation-worker.ts'

t.test('who asks for work while another is just finding none is not sent away with him', async (t) => {
  const looks: PromiseWithResolvers<undefined>[] = []
  const runningRelocation = (): Promise<undefined> => {
    looks.push(Promise.withResolvers())
    return looks.at(-1)!.promise
  }
  const worker = new RelocationWorker({ runningRelocation } as unknown as Ledger, {} as Carrier, {
    batch: 1,
    lanes: 1,
    claimSeconds: 1,
    giveUpMs: 1000,
  })
  const first = worker.work()
  // His run begins after the first look, and the one look answers both.
  const second = worker.work()
  looks[0]!.resolve(undefined)
  await new Promise(setImmediate)
  t.equal(looks.length, 2)
  looks[1]!.resolve(undefined)
  await Promise.all([first, second])

  const third = worker.work()
  looks[2]!.resolve(undefined)
  await third
  t.equal(looks.length, 3, 'one look is enough where nobody else asks')
})
