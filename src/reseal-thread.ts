import { parentPort, Worker, workerData } from 'node:worker_threads'
import { Keyring } from './core/keyring.ts'
import type { Resealed, Resealing } from './core/reseal.ts'
import { reseal } from './core/reseal.ts'

interface Order {
  id: number
  toKeyId: string
  copies: readonly Resealing[]
}

interface Answer {
  id: number
  resealed?: Resealed[]
}

/** Seals for rotations in a thread of its own, so that leases do not wait for it. Started at the first batch. */
export class ResealThread {
  readonly #keyTexts: readonly string[]
  #worker: Worker | undefined
  #orders = 0
  readonly #waiting = new Map<
    number,
    { resolve: (resealed: Resealed[]) => void; reject: (error: Error) => void }
  >()

  /** @param keyTexts The ring that the thread opens and seals with. */
  constructor(keyTexts: readonly string[]) {
    this.#keyTexts = keyTexts
  }

  /** @throws Error where the thread ended */
  reseal(toKeyId: string, copies: readonly Resealing[]): Promise<Resealed[]> {
    const id = this.#orders++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#running().postMessage({ id, toKeyId, copies } satisfies Order)
    })
  }

  async close(): Promise<void> {
    const worker = this.#worker
    this.#end(worker, new Error('The reseal thread was closed'))
    await worker?.terminate()
  }

  #running(): Worker {
    if (this.#worker) return this.#worker
    const worker = new Worker(new URL(import.meta.url), { workerData: { keyTexts: this.#keyTexts }, env: {} })
    worker.unref()
    worker.on('message', ({ id, resealed }: Answer) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (resealed) waiting?.resolve(resealed)
      else waiting?.reject(new Error('The reseal thread could not seal a batch'))
    })
    worker.on('error', (error) => this.#end(worker, error as Error))
    worker.on('exit', () => this.#end(worker, new Error('The reseal thread ended')))
    this.#worker = worker
    return worker
  }

  /** A thread that was replaced already takes nothing from the one that runs. */
  #end(worker: Worker | undefined, error: Error): void {
    if (worker !== this.#worker) return
    this.#worker = undefined
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}

if (parentPort) {
  const port = parentPort
  const { keyTexts } = workerData as { keyTexts: string[] }
  const keyring = Keyring.parse(keyTexts)
  port.on('message', ({ id, toKeyId, copies }: Order) => {
    try {
      port.postMessage({ id, resealed: reseal(keyring, toKeyId, copies) } satisfies Answer)
    } catch {
      // The error's text stays here: it could quote what it was working on.
      port.postMessage({ id } satisfies Answer)
    }
  })
}
