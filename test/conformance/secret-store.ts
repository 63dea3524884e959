import { inspect } from 'node:util'
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { Locator } from '../../src/core/locator.ts'
import type { LinkReader, SecretStore, StoreFault } from '../../src/core/secret-store.ts'
import { StoreError } from '../../src/core/secret-store.ts'
import { everyText } from './every-text.ts'

/** What the back end of a store can be made to do: `hang` accepts and never answers, `drip` answers a byte at a time. */
export type Trouble = 'deny' | 'throttle' | 'break' | 'hang' | 'drip' | 'refuse-connections'

/** The fault that each trouble must come out as. */
export const FAULT_OF: Record<Trouble, StoreFault> = {
  deny: 'denied',
  throttle: 'throttled',
  break: 'unavailable',
  hang: 'unavailable',
  drip: 'unavailable',
  'refuse-connections': 'unavailable',
}

/** Whether calls in this trouble end only with their time, which then should be short, and else long. */
export const endsByTime = (trouble?: Trouble): boolean => trouble === 'hang' || trouble === 'drip'

/** A store with its back end in the tester's hand. */
export interface StoreUnderTest {
  store: SecretStore & LinkReader
  prefix: string
  timeoutMs: number
  /** How long after its time a call may end; long, unless it should be seen soon that one does not. */
  slackMs?: number
  valueBytesMax: number
  /** Puts the back end into trouble until `recover`. */
  suffer(trouble: Trouble): Promise<void>
  recover(): Promise<void>
  /** Keeps a secret as somebody else would, for links. */
  plant(locator: string, text: string): Promise<void>
  close(): Promise<void>
}

/** How one kind of store is put to the test. */
export interface StoreTrial {
  /** For the tests' names. */
  name: string
  /** The troubles that its back end can be put into; each that it lacks is skipped by name. */
  troubles: readonly Trouble[]
  /** Makes a store and its back end afresh, for the test of this trouble where it is for one. */
  make(t: Test, trouble?: Trouble): Promise<StoreUnderTest>
}

/** The one suite that every store must pass. It is itself tested against broken stores in `broken-stores.test.ts`. */
export function conforms(t: Test, { name, troubles, make }: StoreTrial): void {
  void t.test(`${name}: what is put comes back exactly`, async (t) => {
    const under = await begin(t, make)
    for (const [what, value] of Object.entries(texts(under.valueBytesMax))) {
      const ref = mint(under)
      await under.store.put(ref, value, { workspace: 'acme', credential: 'orders-db' })
      t.ok((await under.store.get(ref)) === value, `${what} comes back`)
    }
  })

  void t.test(`${name}: two refs never meet`, async (t) => {
    const { store, ...under } = await begin(t, make)
    const [one, ...others] = neighbours(mint(under))
    await store.put(one!, '"one"')
    for (const other of others) await store.put(other, JSON.stringify(other))
    t.equal(await store.get(one!), '"one"')
    await store.delete(one!)
    for (const other of others)
      t.equal(await store.get(other), JSON.stringify(other), 'deleting one leaves the others')
  })

  void t.test(`${name}: put twice is the same as once`, async (t) => {
    const { store, ...under } = await begin(t, make)
    const ref = mint(under)
    await store.put(ref, '{"a":1}', { workspace: 'acme', credential: 'orders-db' })
    await store.put(ref, '{"a":1}', { workspace: 'acme', credential: 'orders-db' })
    t.equal(await store.get(ref), '{"a":1}')
    await Promise.all(Array.from({ length: 4 }, () => store.put(ref, '{"a":1}')))
    t.equal(await store.get(ref), '{"a":1}', 'also at the same moment')
  })

  void t.test(`${name}: what was never kept is not_found`, async (t) => {
    const { store, ...under } = await begin(t, make)
    await failsAs(t, 'not_found', () => store.get(mint(under)))
  })

  for (const forGood of [false, true]) {
    void t.test(`${name}: delete ${forGood ? 'for good ' : ''}may be repeated`, async (t) => {
      const { store, ...under } = await begin(t, make)
      const ref = mint(under)
      await store.delete(ref, forGood)
      await store.put(ref, '"kept"')
      t.equal(await store.get(ref), '"kept"', 'a delete before the put takes nothing away')
      await store.delete(ref, forGood)
      await failsAs(t, 'not_found', () => store.get(ref))
      await store.delete(ref, forGood)
      await store.delete(ref, !forGood)
      await failsAs(t, 'not_found', () => store.get(ref))
    })
  }

  void t.test(`${name}: check says whether a get would be accepted`, async (t) => {
    const { store } = await begin(t, make)
    await t.resolves(store.check())
  })

  for (const [trouble, fault] of Object.entries(FAULT_OF) as [Trouble, StoreFault][]) {
    const skip = troubles.includes(trouble) ? false : `this back end cannot ${trouble}`
    void t.test(`${name}: ${trouble} is ${fault}, in time, and tells nothing`, { skip }, async (t) => {
      const under = await begin(t, make, trouble)
      const { store, timeoutMs, slackMs = SLACK_MS } = under
      const kept = mint(under)
      await patiently(under, () => store.put(kept, MARKED))
      await under.plant('apps/acme/db', '{"user":"reader"}')
      await under.suffer(trouble)
      const calls: [string, () => Promise<unknown>][] = [
        ['put', () => store.put(mint(under), MARKED, { workspace: 'acme', credential: 'orders-db' })],
        ['get', () => store.get(kept)],
        ['delete', () => store.delete(kept)],
        ['check', () => store.check()],
        ['read', () => store.read(Locator.parse('apps/acme/db')!)],
      ]
      for (const [call, act] of calls)
        await failsAs(t, fault, () => endsWithin(timeoutMs + slackMs, act()), call)
      await under.recover()
      t.equal(
        await patiently(under, () => store.get(kept)),
        MARKED,
        'afterwards it works, and nothing was deleted',
      )
    })
  }

  void t.test(`${name}: a link is read as it is, with its version or none`, async (t) => {
    const { store, ...under } = await begin(t, make)
    await under.plant('apps/acme/db', '{"user":"reader","password":"p"}')
    const read = await store.read(Locator.parse('apps/acme/db')!)
    t.same(JSON.parse(read.text), { user: 'reader', password: 'p' })
    t.ok(read.version === undefined || read.version.length > 0, 'a version is a name')
    await failsAs(t, 'not_found', () => store.read(Locator.parse('apps/acme/none')!))
  })

  void t.test(`${name}: what lies under the prefix is no link`, async (t) => {
    const { store, ...under } = await begin(t, make)
    const ref = mint(under)
    await store.put(ref, MARKED)
    await failsAs(t, 'rejected', () => store.read(Locator.parse(ref)!), 'a copy')
    await under.plant(`${under.prefix}/acme/db`, MARKED)
    await failsAs(
      t,
      'rejected',
      () => store.read(Locator.parse(`${under.prefix}/acme/db`)!),
      'another secret',
    )
  })

  void t.test(`${name}: close twice is the same as once`, async (t) => {
    const { store, ...under } = await begin(t, make)
    await store.put(mint(under), '"kept"')
    await store.close()
    await t.resolves(store.close())
  })
}

/** What no error may hold. */
export const MARKED = JSON.stringify({ password: 'MARKED-d41d8cd98f00b204-MARKED' })
const MARK = 'd41d8cd98f00b204'
const BASE64_MARKS = ['', ' ', '  '].map((before) =>
  Buffer.from(`${before}${MARK}`).toString('base64').slice(4, -4),
)
/** The mark as a provider may have written it, Base64 wherever it begins. */
const MARKS = [MARK, Buffer.from(MARK).toString('hex'), ...BASE64_MARKS]
const SLACK_MS = 10_000

/** Every kind of text, none longer than `bytes`. */
export function texts(bytes: number): Record<string, string> {
  const wide = 'é€𐍈'.repeat(Math.floor((Math.min(bytes, 32_768) - 2) / 9))
  return {
    'an empty string': '""',
    null: 'null',
    'a number': '-0.5e-7',
    'an object': '{"b":1,"a":{"c":[true,null,""]}}',
    'quotes and backslashes': JSON.stringify('"\\/\b\f\n\r\t\u0001\u007f'),
    'templates and markup': JSON.stringify("${HOME} {{x}} %s %2e <a> & ' ; \u2028"),
    'leading and trailing spaces': JSON.stringify('  spaced\n\n'),
    'spaces and line breaks around': ' \t"spaced" \r\n\n',
    'wide characters': JSON.stringify('日本語 עברית 👩‍👩‍👧 \u0301'),
    // Each of which has a shorter form that a normalizer would make of it.
    'characters in two ways': JSON.stringify('\u00e9 e\u0301 \u212b \u1e9b\u0323 \ufb01'),
    'what looks like base64': JSON.stringify('aGVsbG8gd29ybGQ='),
    'a long text': JSON.stringify('x'.repeat(Math.min(bytes, 32_768) - 2)),
    'a long text of wide characters': JSON.stringify(wide),
  }
}

/** A ref such as the core mints. */
export function mint(under: { prefix: string }): string {
  return `${under.prefix}/acme/${randomUUID()}`
}

/** Refs that a store which looks at a part of them would take for one another. */
function neighbours(ref: string): string[] {
  const [prefix, uuid] = [ref.slice(0, -'acme/'.length - 36), ref.slice(-36)]
  const turned = (at: number): string =>
    `${uuid.slice(0, at)}${uuid[at] === '0' ? '1' : '0'}${uuid.slice(at + 1)}`
  const workspaces = ['acme-evil', 'acm', 'a-c-m-e']
  const others = workspaces.map((workspace) => `${prefix}${workspace}/${uuid}`)
  return [ref, ...others, `${prefix}acme/${turned(0)}`, `${prefix}acme/${turned(35)}`]
}

/** What has not ended by then fails as nothing that a store may fail with. */
async function endsWithin<T>(ms: number, call: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not ended after ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([call, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Tries again what took all its time: short as it is, a machine that does much else may use it up. */
async function patiently<T>({ timeoutMs }: StoreUnderTest, act: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    const beganAt = performance.now()
    try {
      return await act()
    } catch (error) {
      if (tries === 5 || performance.now() - beganAt < timeoutMs / 2) throw error
    }
  }
}

async function begin(t: Test, make: StoreTrial['make'], trouble?: Trouble): Promise<StoreUnderTest> {
  const under = await make(t, trouble)
  t.teardown(async () => {
    await under.recover()
    await under.store.close()
    await under.close()
  })
  return under
}

/** The call fails with this fault, and its error shows nothing of a value, ten levels deep. */
export async function failsAs(
  t: Test,
  fault: StoreFault,
  act: () => Promise<unknown>,
  what = 'the call',
): Promise<void> {
  try {
    await act()
    t.fail(`${what} succeeds, where it should fail as ${fault}`)
  } catch (error) {
    t.ok(error instanceof StoreError, `${what} fails with a StoreError`)
    t.equal((error as StoreError).fault, fault, `${what} is ${fault}`)
    const seen = inspect(error, INSPECT_ALL) + everyText(error)
    t.notOk(
      MARKS.some((mark) => seen.includes(mark)),
      `${what} shows nothing of the value`,
    )
    t.notMatch(seen, /x-vault-token|authorization|bearer /i, `${what} shows no login`)
  }
}

const INSPECT_ALL = {
  depth: 10,
  showHidden: true,
  getters: true,
  maxStringLength: null,
  maxArrayLength: null,
}
