import t from 'tap'
import type { Trouble } from './secret-store.ts'
import { conforms, FAULT_OF } from './secret-store.ts'
import { openTroubled } from './troubled-store.ts'

conforms(t, {
  name: 'memory',
  troubles: Object.keys(FAULT_OF) as Trouble[],
  make: () => openTroubled(),
})
