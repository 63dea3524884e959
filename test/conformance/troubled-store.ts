import { setTimeout } from 'node:timers/promises'
import { memory } from '../../providers/memory.ts'
import type { LinkReader, SecretStore } from '../../src/core/secret-store.ts'
import { StoreError } from '../../src/core/secret-store.ts'
import type { StoreUnderTest, Trouble } from './secret-store.ts'
import { FAULT_OF } from './secret-store.ts'

/** A store as its users see it. */
export type WholeStore = SecretStore & LinkReader

const TIMEOUT_MS = 50

/** The store with some of its calls done otherwise. */
export function altered(store: WholeStore, changes: Partial<WholeStore>): WholeStore {
  return {
    put: (ref, value, owner) => store.put(ref, value, owner),
    get: (ref) => store.get(ref),
    read: (locator) => store.read(locator),
    delete: (ref, forGood) => store.delete(ref, forGood),
    check: () => store.check(),
    close: () => store.close(),
    ...changes,
  }
}

/** The store in memory with troubles that it does not have by itself; `change` may do it harm. */
export async function openTroubled(
  change: (store: WholeStore, trouble: () => Trouble | undefined) => WholeStore = (store) => store,
): Promise<StoreUnderTest> {
  const kept = new Map<string, string>()
  const inMemory = await memory.open({ kept }, { prefix: 'strongroom', timeoutMs: TIMEOUT_MS })
  let trouble: Trouble | undefined
  const meet = async (): Promise<void> => {
    if (trouble === 'hang' || trouble === 'drip') await setTimeout(TIMEOUT_MS)
    if (trouble) throw new StoreError(FAULT_OF[trouble], trouble)
  }
  const troubled = altered(inMemory, {
    put: async (ref, value) => meet().then(() => inMemory.put(ref, value)),
    get: async (ref) => meet().then(() => inMemory.get(ref)),
    read: async (locator) => meet().then(() => inMemory.read(locator)),
    delete: async (ref) => meet().then(() => inMemory.delete(ref)),
    check: meet,
  })
  return {
    store: change(troubled, () => trouble),
    prefix: 'strongroom',
    timeoutMs: TIMEOUT_MS,
    slackMs: 500,
    valueBytesMax: memory.valueBytesMax,
    suffer: async (next) => void (trouble = next),
    recover: async () => void (trouble = undefined),
    plant: async (locator, text) => void kept.set(locator, text),
    close: async () => {},
  }
}
