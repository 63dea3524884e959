import type { KeyFile } from './key-file.ts'
import type { Sealer } from './core/sealer.ts'
import { StartRefused } from './core/start-refused.ts'
import type { Logger } from './log.ts'
import type { Connections } from './postgres/connections.ts'
import type { ProcessRegistration } from './postgres/key-register.ts'
import { forgetProcess, keepProcessAlive, registerProcess } from './postgres/key-register.ts'

/** What the ring is kept in step with. */
export interface RingKeeperDeps {
  connections: Connections
  sealer: Sealer
  /** Where the keys come from a file: it is read again when it changes. */
  keyFile: KeyFile | undefined
  log: Logger
  /** Told of each ring that came into force, by its keys' texts. */
  onRing: (keyTexts: readonly string[]) => void
}

/** Keeps this process's ring what the keys' file says, and the ledger told of it. */
export class RingKeeper {
  readonly #deps: RingKeeperDeps
  readonly #process: Pick<ProcessRegistration, 'id' | 'name'>
  #refused = ''

  constructor(deps: RingKeeperDeps, process: Pick<ProcessRegistration, 'id' | 'name'>) {
    this.#deps = deps
    this.#process = process
  }

  /** Reads the file again, says that the process lives, and seals under the key that the ledger names. */
  async tick(): Promise<void> {
    await this.#reload()
    const { connections, sealer } = this.#deps
    const sealing = await keepProcessAlive(connections, { ...this.#process, keyIds: sealer.keyring.ids() })
    if (sealing !== sealer.sealingKeyId) sealer.sealUnder(sealing)
    if (sealer.unknownKeyId !== undefined) await this.#reconsider()
  }

  /** The process ends: it no longer counts among those that know a key. */
  async leave(): Promise<void> {
    await forgetProcess(this.#deps.connections, this.#process.id)
  }

  /** The key that this process did not know may be needed no more: a rotation went back. */
  async #reconsider(): Promise<void> {
    const { connections, sealer } = this.#deps
    try {
      const keyIds = sealer.keyring.ids()
      const sealing = await registerProcess(connections, { ...this.#process, keyIds })
      sealer.useKeyring(sealer.keyring, sealing)
    } catch (error) {
      if (!(error instanceof StartRefused)) throw error
    }
  }

  /** A broken file, or one that lacks a key that the ledger still names, leaves the old ring in force. */
  async #reload(): Promise<void> {
    const { connections, sealer, keyFile, log, onRing } = this.#deps
    try {
      const changed = await keyFile?.changed()
      if (!changed) return
      const { keyring, keyTexts, accept } = changed
      // Registered before it is used: from then on no rotation is refused for want of this process.
      const sealing = await registerProcess(connections, { ...this.#process, keyIds: keyring.ids() })
      sealer.useKeyring(keyring, sealing)
      accept()
      onRing(keyTexts)
      this.#refused = ''
      log.info({ key_ids: keyring.ids() }, 'the keys were read again')
    } catch (error) {
      this.#refuse(error)
    }
  }

  /** Logged once for each reason, not once a second. */
  #refuse(error: unknown): void {
    const faults = error instanceof StartRefused ? error.faults : [(error as Error).message]
    const reason = faults.join('; ')
    if (reason === this.#refused) return
    this.#refused = reason
    this.#deps.log.error({ faults }, 'the changed keys are refused, and the old ones stay in force')
  }
}
