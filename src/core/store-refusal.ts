import { StoreError } from './secret-store.ts'

/** A call that was refused before its provider was asked: it says nothing of the store, and is not tried again. */
export class StoreRefusal extends StoreError {}
