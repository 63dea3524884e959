import type { AuditEntry } from './audit.ts'
import type { Ledger, RotationStep } from './ledger.ts'
import type { Resealed, Resealing } from './reseal.ts'
import { rest } from './rest.ts'
import { ownCall, STEP_MS } from './calls.ts'

/** How a process works on rotations. */
export interface RotationWorkerOptions {
  newId: () => string
  /** Copies in one transaction. */
  batch: number
  /** Transactions at once: while one waits for the disk, the other seals. */
  lanes: number
  /** Seals away from the thread that leases. */
  reseal: (toKeyId: string, copies: readonly Resealing[]) => Promise<Resealed[]>
  /** Whether this process has the key. */
  knowsKey: (id: string) => boolean
  /** Milliseconds to rest after a batch that took `busyMs`: so that leases come first. */
  restMs: (busyMs: number) => number
}

/**
 * The work of a rotation. It holds no cursor that another needs: each process takes the next few rows until the ledger
 * says zero, and any of them may die.
 */
export class RotationWorker {
  readonly #ledger: Ledger
  readonly #options: RotationWorkerOptions
  #stopped = false

  constructor(ledger: Ledger, options: RotationWorkerOptions) {
    this.#ledger = ledger
    this.#options = options
  }

  stop(): void {
    this.#stopped = true
  }

  /** Works on the rotation that runs, if one does, until its end. */
  async work(): Promise<void> {
    const { lanes, knowsKey } = this.#options
    while (!this.#stopped) {
      const rotation = await this.#ledger.runningRotation()
      if (!rotation || !knowsKey(rotation.toKey)) return
      const passes = await Promise.all(Array.from({ length: lanes }, () => this.#pass(rotation)))
      if (this.#stopped || passes.includes('unfit')) return
      const ended = await this.#finish(rotation)
      if (ended) return
      // What is left is locked by others, or was sealed meanwhile: not worth a busy loop.
      await rest(LOCKED_REST_MS)
    }
  }

  /** Once through all copies under other keys, in the order of (key, id). Who meets a key that he lacks is unfit. */
  async #pass(rotation: { id: string; toKey: string }): Promise<'through' | 'unfit'> {
    let after: { keyId: string; id: string } | undefined
    while (!this.#stopped) {
      const beganAt = performance.now()
      const step = await this.#move(rotation, after)
      if (step === 'unfit') return step
      if (!step) return 'through'
      await this.#recordFailures(rotation.id, step)
      after = step.last
      const restMs = this.#options.restMs(performance.now() - beganAt)
      if (restMs > 0) await rest(restMs)
    }
    return 'through'
  }

  async #move(
    rotation: { id: string; toKey: string },
    after: { keyId: string; id: string } | undefined,
  ): Promise<RotationStep | 'unfit' | undefined> {
    const { newId, batch, reseal, knowsKey } = this.#options
    try {
      return await this.#ledger.moveCopies(rotation, after, batch, async (copies) => {
        // Others have the key, or they could not have sealed: to call their copies unreadable would fail the rotation.
        if (!copies.every(({ keyId }) => knowsKey(keyId))) throw new KeyLacking()
        const withIds = copies.map((copy) => ({ ...copy, newCopyId: newId() }))
        const resealed = await reseal(rotation.toKey, withIds)
        return withIds.map(({ newCopyId }, index) => ({ newCopyId, ...resealed[index]! }))
      })
    } catch (error) {
      if (error instanceof KeyLacking) return 'unfit'
      throw error
    }
  }

  async #recordFailures(rotationId: string, step: RotationStep): Promise<void> {
    if (step.failures.length === 0) return
    await this.#ledger.transaction(ownCall('rotateKeys', STEP_MS), undefined, async (tx) => {
      const news = await tx.recordRotationFailures(rotationId, step.failures)
      for (const { workspace, credential, version, code } of news) {
        const detail = JSON.stringify({ rotation: rotationId })
        tx.record({
          action: 'rotation:move',
          outcome: 'failed',
          code,
          workspace,
          credential,
          version,
          detail,
        })
      }
    })
  }

  /** @returns whether the rotation has ended */
  #finish({ id, toKey }: { id: string; toKey: string }): Promise<boolean> {
    return this.#ledger.transaction(ownCall('rotateKeys', STEP_MS), undefined, async (tx) => {
      const unmoved = await tx.countUnmoved({ id, toKey })
      const rotation = await tx.rotation(id, true)
      if (rotation?.state !== 'running') return true
      if (unmoved.left > 0) return false
      const state = unmoved.failed === 0 ? 'done' : 'failed'
      await tx.endRotation(id, state)
      const { moved, skipped, failed } = rotation
      const detail = JSON.stringify({ rotation: id, state, to_key: toKey, moved, skipped, failed })
      const entry: AuditEntry = {
        action: 'rotation:end',
        outcome: state === 'done' ? 'allowed' : 'failed',
        detail,
      }
      if (state === 'failed') entry.code = 'copy_unreadable'
      tx.record(entry)
      return true
    })
  }
}

const LOCKED_REST_MS = 50

/** This process was frozen or cut off while others began to seal under a key that it does not have yet. */
class KeyLacking extends Error {
  override name = 'KeyLacking'
}
