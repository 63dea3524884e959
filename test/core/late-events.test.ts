import t from 'tap'
import type { AuditEntry } from '../../src/core/audit.ts'
import { ownCall } from '../../src/core/calls.ts'
import { VaultError } from '../../src/core/errors.ts'
import { LateEvents } from '../../src/core/late-events.ts'
import type { Ledger } from '../../src/core/ledger.ts'
import { OutcomeUnknown } from '../../src/core/ledger.ts'

/** A ledger that records, unless `trouble` throws. */
function recording() {
  const recorded: string[] = []
  const errors: string[] = []
  const state = { trouble: (_action: string): void => {} }
  const transaction = async (_call: unknown, _caller: unknown, act: (tx: unknown) => Promise<void>) => {
    await act({
      record: ({ action }: AuditEntry) => {
        state.trouble(action)
        recorded.push(action)
      },
    })
  }
  const ledger = { transaction } as unknown as Ledger
  const late = new LateEvents(ledger, (error) => errors.push((error as Error).message))
  const note = (action: string) => late.note({ action, outcome: 'failed' }, ownCall('test', 0))
  return { late, note, recorded, errors, state }
}

t.test('while the ledger does not answer events wait, and keep their order', async (t) => {
  const { late, note, recorded, errors, state } = recording()
  for (const action of ['one', 'two', 'three']) note(action)
  state.trouble = (action) => {
    if (action === 'two') throw new VaultError('unavailable', 'not yet')
  }
  await t.rejects(late.flush(), { code: 'unavailable' })
  t.same(recorded, ['one'])
  await t.rejects(late.flush(), { code: 'unavailable' })
  note('four')
  state.trouble = () => {}
  await late.flush()
  t.same(recorded, ['one', 'two', 'three', 'four'])
  t.same(errors, [])
})

t.test('an event of unknown outcome, or that no ledger takes, holds up no other', async (t) => {
  const { late, note, recorded, errors, state } = recording()
  for (const action of ['one', 'two', 'three']) note(action)
  state.trouble = (action) => {
    if (action === 'one') throw new OutcomeUnknown(undefined)
    if (action === 'two') throw new Error('no such column')
  }
  await late.flush()
  t.same(recorded, ['three'])
  t.same(errors, ['Whether the ledger committed is not known', 'no such column'])
})

t.test('at most 1,000 wait, and those that came too late are counted', async (t) => {
  const { late, note, recorded, errors } = recording()
  for (let n = 0; n < 1_003; n++) note(`${n}`)
  await late.flush()
  t.equal(recorded.length, 1_000)
  t.equal(recorded.at(-1), '999')
  t.same(errors, ['3 calls that failed have no event'])
  await late.flush()
  t.equal(errors.length, 1, 'once')
})
