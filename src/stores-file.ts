import { VaultError } from './core/errors.ts'
import { isObject } from './core/json-value.ts'
import { isSlug } from './core/names.ts'
import type { StoreKind } from './core/secret-store.ts'
import { parseStrictJson } from './http/strict-json.ts'
import type { KnownKind, StoreKinds } from './store-kinds.ts'
import { memberFaults } from './store-schema.ts'

/** What a store may be asked for at once and in a second, and for how long. */
export interface StoreLimits {
  concurrency: number
  /** As many as there are, when left out. */
  readsPerSecond?: number | undefined
  writesPerSecond?: number | undefined
  /** The longest that a call may take. */
  timeoutMs: number
}

/** One store of the file, judged, with all that was left out. */
export interface StoreSettings {
  name: string
  kind: StoreKind
  /** What only this kind has, as the file says it. */
  settings: Record<string, unknown>
  prefix: string
  /** Prefixes that end in `/`, by workspace; without a prototype, so that any slug may be looked up. */
  links: Readonly<Record<string, readonly string[]>>
  limits: StoreLimits
  versionsKept: number
  cacheSeconds: number
}

/** The external stores, in the file's order. */
export interface StoresFile {
  /** Where a credential goes whose request and workspace name no store. */
  byDefault: string
  stores: readonly StoreSettings[]
}

/** One store as the file has it. */
interface Entry {
  name: string
  at: string
  members: Record<string, unknown>
  known?: KnownKind
  kind?: StoreKind
}

const CONCURRENCY = 32
const VERSIONS_KEPT = 10
const CACHE_SECONDS = 300
const PREFIX = 'strongroom'
const TIMEOUT_SECONDS = 1.5
// Where the deadline is short, what is left of it is for the ledger.
const TIMEOUT_SHARE_OF_DEADLINE = 0.75

/**
 * Reads a stores file. Every fault begins with the pointer to its place and repeats nothing but names: of the schema, of
 * stores and of workspaces.
 *
 * @returns the stores only where there is no fault
 */
export async function parseStoresFile(
  bytes: Buffer,
  kinds: StoreKinds,
  deadlineSeconds: number,
): Promise<{ file: StoresFile } | { faults: string[] }> {
  const { file, fault } = parseObject(bytes)
  if (!file) return { faults: [fault] }
  const { default: byDefault = 'local', stores = {}, ...rest } = file
  const faults: string[] = []
  if (Object.keys(rest).length > 0) faults.push('has members beside default and stores')
  if (!isObject(stores)) return { faults: [...faults, '/stores must be an object'] }

  const entries: Entry[] = []
  for (const [name, members] of Object.entries(stores)) {
    const at = `/stores/${name}`
    if (!isSlug(name)) faults.push('/stores has a name that is no slug')
    else if (name === 'local') faults.push(`${at} always exists and has no settings`)
    else if (!isObject(members)) faults.push(`${at} must be an object`)
    else entries.push(await entryOf(name, at, members, kinds))
  }
  for (const entry of entries) {
    const { at, members, kind } = entry
    if (!kind && typeof members['provider'] === 'string')
      faults.push(`${at}/provider must be ${Object.keys(kinds).join(' or ')}`)
    faults.push(...memberFaults(members, kind, at), ...formFaults(entry, deadlineSeconds))
    faults.push(...placeFaults(entry, entries), ...linkFaults(entry, entries))
  }
  if (byDefault !== 'local' && !(typeof byDefault === 'string' && Object.hasOwn(stores, byDefault)))
    faults.push('/default must be the name of a store in the file, or local')
  if (faults.length > 0) return { faults: [...new Set(faults)] }
  return {
    file: {
      byDefault: String(byDefault),
      stores: entries.map((entry) => settingsOf(entry, deadlineSeconds)),
    },
  }
}

function parseObject(
  bytes: Buffer,
): { file: Record<string, unknown>; fault?: undefined } | { file?: undefined; fault: string } {
  try {
    const file = parseStrictJson(bytes)
    return isObject(file) ? { file } : { fault: 'names a file that is not a JSON object' }
  } catch (error) {
    if (!(error instanceof VaultError)) throw error
    const [first] = error.errors ?? []
    const why = first?.detail.replace('The body', 'It') ?? 'It cannot be read'
    return { fault: `names a file that is not a JSON object as it must be: ${why}` }
  }
}

async function entryOf(
  name: string,
  at: string,
  members: Record<string, unknown>,
  kinds: StoreKinds,
): Promise<Entry> {
  const { provider } = members
  const known = typeof provider === 'string' && Object.hasOwn(kinds, provider) ? kinds[provider] : undefined
  return { name, at, members, ...(known && { known, kind: await known.load() }) }
}

function formFaults({ at, members, kind }: Entry, deadlineSeconds: number): string[] {
  const faults: string[] = []
  const timeout = isObject(members['limits']) ? members['limits']['timeout_seconds'] : undefined
  if (typeof timeout === 'number' && timeout >= deadlineSeconds)
    faults.push(`${at}/limits/timeout_seconds must be below STRONGROOM_DEADLINE_SECONDS`)
  // A separator inside a segment could let a link mean the name of a copy.
  if (!fits(prefixOf(members), kind))
    faults.push(`${at}/prefix has a segment that this kind of store cannot have`)
  return faults
}

/** Two stores that are one place must be told apart by their prefixes. */
function placeFaults(entry: Entry, entries: Entry[]): string[] {
  const place = placeOf(entry)
  const others = place === undefined ? [] : entries.slice(0, entries.indexOf(entry))
  return others
    .filter((other) => placeOf(other) === place)
    .filter((other) => overlap(prefixOf(other.members), prefixOf(entry.members)))
    .map(({ name }) => `${entry.at}/prefix overlaps that of the store ${name}, which is the same place`)
}

/** Whoever may lease a link must not reach a copy by it, in whatever store that lies. */
function linkFaults({ at, members, kind }: Entry, entries: Entry[]): string[] {
  return linksOf(members).flatMap(([workspace, prefixes]) =>
    prefixes.flatMap((prefix, index) => {
      const place = `${at}/links/${workspace}/${index}`
      const own = entries.find((each) => overlap(prefixOf(each.members), prefix))
      const faults: string[] = []
      if (own) faults.push(`${place} overlaps the prefix of the store ${own.name}, whose copies are no links`)
      if (!fits(prefix, kind)) faults.push(`${place} has a segment that this kind of store cannot have`)
      return faults
    }),
  )
}

function settingsOf({ name, members, known, kind }: Entry, deadlineSeconds: number): StoreSettings {
  const limits = (members['limits'] ?? {}) as Record<string, number | undefined>
  const readsPerSecond = limits['reads_per_second'] ?? known!.readsPerSecond
  const writesPerSecond = limits['writes_per_second'] ?? known!.writesPerSecond
  const timeoutSeconds =
    limits['timeout_seconds'] ?? Math.min(TIMEOUT_SECONDS, deadlineSeconds * TIMEOUT_SHARE_OF_DEADLINE)
  return {
    name,
    kind: kind!,
    settings: ownSettings(members, kind!),
    prefix: prefixOf(members),
    links: Object.assign(Object.create(null), Object.fromEntries(linksOf(members))) as StoreSettings['links'],
    limits: {
      concurrency: limits['concurrency'] ?? CONCURRENCY,
      ...(readsPerSecond !== undefined && { readsPerSecond }),
      ...(writesPerSecond !== undefined && { writesPerSecond }),
      timeoutMs: Math.round(timeoutSeconds * 1000),
    },
    versionsKept: (members['versions_kept'] as number | undefined) ?? VERSIONS_KEPT,
    cacheSeconds: (members['cache_seconds'] as number | undefined) ?? CACHE_SECONDS,
  }
}

/** Undefined where the kind is not known. */
function placeOf({ members, known }: Entry): string | undefined {
  return known && JSON.stringify([members['provider'], ...known.place.map((name) => members[name] ?? null)])
}

function ownSettings(members: Record<string, unknown>, kind: StoreKind): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(members).filter(([name]) => Object.hasOwn(kind.settings.properties, name)),
  )
}

/** Of what has another form the schema has said so already. */
function prefixOf(members: Record<string, unknown>): string {
  const { prefix = PREFIX } = members
  return typeof prefix === 'string' ? prefix : PREFIX
}

function linksOf(members: Record<string, unknown>): [workspace: string, prefixes: string[]][] {
  const { links } = members
  if (!isObject(links)) return []
  return Object.entries(links)
    .filter(([workspace]) => isSlug(workspace))
    .map(([workspace, prefixes]) => [
      workspace,
      Array.isArray(prefixes) ? prefixes.map((prefix) => (typeof prefix === 'string' ? prefix : '')) : [],
    ])
}

function fits(prefix: string, kind: StoreKind | undefined): boolean {
  const segments = prefix.split('/').filter((segment) => segment !== '')
  return segments.every((segment) => kind?.segment?.test(segment) ?? true)
}

/** Whether one lies in the other, for a store to which letters are all one size. */
function overlap(prefix: string, other: string): boolean {
  const [one, two] = [prefix, other].map((each) => each.toLowerCase().replace(/\/*$/, '/')) as [
    string,
    string,
  ]
  return one.startsWith(two) || two.startsWith(one)
}
