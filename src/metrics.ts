import type * as Prometheus from 'prom-client'
import type { Call, Caller } from './core/calls.ts'
import type { Measured, Measures } from './core/measures.ts'
import type { RelocationState } from './core/relocation.ts'
import type { Tally } from './core/tally.ts'

/** Where the numbers come from: what this process counted, and what the ledger says. */
export interface MetricsSources {
  measures: Measures
  /** By operation and status. */
  requests: Tally
  /** By operation. */
  formRefusals: Tally
  leases: { readonly granted: number; readonly waiting: number; readonly refusals: Tally }
  failedAuthentications: () => number
}

interface Sample {
  labels: Record<string, string>
  value: number
}

/**
 * One metric, without its prefix. Labels hold our own words, ids, codes, and the names of stores, which the operator chose:
 * never a name that a caller chose.
 */
interface Metric {
  kind: 'Counter' | 'Gauge'
  name: string
  help: string
  labelNames?: readonly string[]
  samples: (from: MetricsSources, measured: Measured) => Sample[]
}

const ROTATION_STATES = ['running', 'done', 'failed', 'cancelled']
const RELOCATION_STATES: readonly RelocationState[] = [
  'running',
  'done',
  'failed',
  'cancelled',
  'rolled_back',
  'finalized',
]

const METRICS: readonly Metric[] = [
  {
    kind: 'Counter',
    name: 'requests_total',
    help: 'Requests answered by this process; operation "none" is an unknown path.',
    labelNames: ['operation', 'status'],
    samples: ({ requests }) => samplesOf(requests, ['operation', 'status']),
  },
  {
    kind: 'Counter',
    name: 'calls_unrecorded_total',
    help: 'Calls of authenticated callers that are no audit events: whoami, and those refused for their form.',
    labelNames: ['operation', 'reason'],
    samples: ({ requests, formRefusals }) => [
      ...samplesOf(formRefusals, ['operation'], { reason: 'form' }),
      ...samplesOf(requests, ['operation', 'status'])
        .filter(({ labels }) => labels['operation'] === 'whoAmI' && labels['status'] === '200')
        .map(({ value }) => ({ labels: { operation: 'whoAmI', reason: 'whoami' }, value })),
    ],
  },
  {
    kind: 'Counter',
    name: 'authentications_failed_total',
    help: 'Requests to this process whose token opened nothing.',
    samples: ({ failedAuthentications }) => plain(failedAuthentications()),
  },
  {
    kind: 'Counter',
    name: 'leases_granted_total',
    help: 'Leases that this process granted.',
    samples: ({ leases }) => plain(leases.granted),
  },
  {
    kind: 'Counter',
    name: 'leases_refused_total',
    help: 'Leases that this process refused or could not grant, by the code of the problem.',
    labelNames: ['code'],
    samples: ({ leases }) => samplesOf(leases.refusals, ['code']),
  },
  {
    kind: 'Gauge',
    name: 'leases_waiting',
    help: 'Credentials asked for that wait in this process for the next lease statement; a batch of n counts n.',
    samples: ({ leases }) => plain(leases.waiting),
  },
  {
    kind: 'Gauge',
    name: 'copies',
    help: 'Sealed copies in the ledger, by the id of their key and whether that key seals now.',
    labelNames: ['key_id', 'sealing'],
    samples: (_from, { keys }) =>
      keys.map(({ id, sealing, copies }) => ({
        labels: { key_id: id, sealing: String(sealing) },
        value: copies,
      })),
  },
  {
    kind: 'Gauge',
    name: 'key_processes',
    help: 'Living processes that know the key.',
    labelNames: ['key_id'],
    samples: (_from, { keys }) =>
      keys.map(({ id, processes }) => ({ labels: { key_id: id }, value: processes.length })),
  },
  {
    kind: 'Gauge',
    name: 'rotation_state',
    help: 'Of the newest rotation: 1 for the state that it is in.',
    labelNames: ['state'],
    samples: (_from, { rotation }) => (rotation ? oneOf(ROTATION_STATES, rotation.state) : []),
  },
  {
    kind: 'Gauge',
    name: 'rotation_copies',
    help: 'Of the newest rotation: copies under other keys at its start, and what became of them.',
    labelNames: ['outcome'],
    samples: (_from, { rotation }) => (rotation ? outcomesOf(rotation) : []),
  },
  {
    kind: 'Gauge',
    name: 'rotation_copies_per_second',
    help: 'Of the newest rotation: copies moved for each second since its start, until its end.',
    samples: (_from, { rotation }) => (rotation ? plain(rateOf(rotation)) : []),
  },
  {
    kind: 'Gauge',
    name: 'store_reachable',
    help: 'Whether the external store answered the last call of this process, which asks each one now and then.',
    labelNames: ['store'],
    samples: (_from, { stores }) =>
      stores.map(({ name, reachable }) => ({ labels: { store: name }, value: Number(reachable) })),
  },
  {
    kind: 'Gauge',
    name: 'store_breaker',
    help: 'Of the external store in this process: 1 for the state that its breaker is in; open, calls fail at once.',
    labelNames: ['store', 'state'],
    samples: (_from, { stores }) =>
      stores.flatMap(({ name, breaker }) => oneOf(['closed', 'open', 'half_open'], breaker, { store: name })),
  },
  {
    kind: 'Gauge',
    name: 'store_copies',
    help: 'Copies in the ledger, by the store that they lie in and their state; links are none.',
    labelNames: ['store', 'state'],
    samples: (_from, { storeCopies }) =>
      storeCopies.map(({ store, state, copies }) => ({ labels: { store, state }, value: copies })),
  },
  {
    kind: 'Gauge',
    name: 'store_migration_state',
    help: 'Of the store migration that runs, else of the newest: 1 for the state that it is in.',
    labelNames: ['state'],
    samples: (_from, { relocation }) => (relocation ? oneOf(RELOCATION_STATES, relocation.state) : []),
  },
  {
    kind: 'Gauge',
    name: 'store_migration_copies',
    help: 'Of the store migration that runs, else of the newest: copies to move at its start, and what became of them.',
    labelNames: ['outcome'],
    samples: (_from, { relocation }) => (relocation ? outcomesOf(relocation) : []),
  },
]

/** The process and its ledger in numbers, in the form that Prometheus reads. */
export class Metrics {
  readonly #sources: MetricsSources
  #made: Promise<(measured: Measured) => Promise<string>> | undefined

  constructor(sources: MetricsSources) {
    this.#sources = sources
  }

  /** @throws VaultError for whoever may not see it */
  async text(call: Call, caller: Caller): Promise<string> {
    const measured = await this.#sources.measures.read(call, caller)
    // The library is loaded with the first look: until then counting costs a number.
    this.#made ??= import('prom-client').then((library) => writerOf(library, this.#sources))
    const write = await this.#made
    return write(measured)
  }
}

function writerOf(
  library: Pick<typeof Prometheus, 'Registry' | 'Counter' | 'Gauge' | 'collectDefaultMetrics'>,
  sources: MetricsSources,
): (measured: Measured) => Promise<string> {
  const registry = new library.Registry()
  library.collectDefaultMetrics({ register: registry })
  const written = METRICS.map(({ kind, name, help, labelNames = [], samples }) => {
    const options = { name: `strongroom_${name}`, help, labelNames, registers: [registry] }
    const metric = new library[kind](options)
    return (measured: Measured): void => {
      metric.reset()
      for (const { labels, value } of samples(sources, measured)) metric.inc(labels, value)
    }
  })
  return (measured) => {
    for (const write of written) write(measured)
    return registry.metrics()
  }
}

function plain(value: number): Sample[] {
  return [{ labels: {}, value }]
}

/** 1 for the one that it is, 0 for the others. */
function oneOf(states: readonly string[], is: string, more: Record<string, string> = {}): Sample[] {
  return states.map((state) => ({ labels: { ...more, state }, value: Number(state === is) }))
}

function outcomesOf(run: Record<'total' | 'moved' | 'skipped' | 'failed', number>): Sample[] {
  return (['total', 'moved', 'skipped', 'failed'] as const).map((outcome) => ({
    labels: { outcome },
    value: run[outcome],
  }))
}

function samplesOf(tally: Tally, names: readonly string[], more: Record<string, string> = {}): Sample[] {
  return tally.entries().map(({ labels, count }) => ({
    labels: { ...Object.fromEntries(names.map((name, index) => [name, labels[index]!])), ...more },
    value: count,
  }))
}

function rateOf({ moved, startedAt, finishedAt }: NonNullable<Measured['rotation']>): number {
  const seconds = ((finishedAt?.getTime() ?? Date.now()) - startedAt.getTime()) / 1000
  return moved / Math.max(seconds, 0.001)
}
