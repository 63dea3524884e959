import { execFile } from 'node:child_process'
import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { STORE_KINDS } from '../src/store-kinds.ts'
import { memberFaults } from '../src/store-schema.ts'
import { parseStoresFile } from '../src/stores-file.ts'
import { COMPILED } from './cli/run-strongroom.ts'

const isSdk = (url: string): boolean =>
  /\/node_modules\/(node-vault|@aws-sdk|@smithy|@google-cloud|google-|@grpc|@azure|@kubernetes)/.test(url)

const root = join(import.meta.dirname, '..')
const folder = join(root, 'providers')
// Beside the kinds lie modules that one of them needs.
const providers = Object.keys(STORE_KINDS).filter((name) => existsSync(join(folder, `${name}.ts`)))

t.test('every kind in providers may be named by a stores file, but for memory', async (t) => {
  const exported = await Promise.all(
    globSync('*.ts', { cwd: folder }).map(async (file) => {
      const module = (await import(join(folder, file))) as Record<string, { provider?: string }>
      return Object.values(module).flatMap(({ provider }) => provider ?? [])
    }),
  )
  t.same(exported.flat().toSorted(), [...providers, 'memory'].toSorted())
})

for (const provider of providers) {
  t.test(
    `${provider} is judged by a schema that is closed and knows no name that every store has`,
    async (t) => {
      const kind = await STORE_KINDS[provider]!.load()
      t.equal(kind.provider, provider)
      t.doesNotThrow(() => memberFaults({}, kind, ''))
      const common = ['provider', 'prefix', 'links', 'limits', 'versions_kept', 'cache_seconds']
      t.notOk(common.some((name) => Object.hasOwn(kind.settings.properties, name)))
      for (const name of kind.settings.required ?? [])
        t.ok(Object.hasOwn(kind.settings.properties, name), name)
      for (const name of STORE_KINDS[provider]!.place)
        t.ok(Object.hasOwn(kind.settings.properties, name), name)
      t.same(openObjects(kind.settings.properties), [])
      t.ok(!kind.segment || kind.segment.test('strongroom'))
      t.ok('strongroom'.length <= (kind.prefixLengthMax ?? 10))
      const loading = `await import('./providers/${provider}.ts')`
      t.same((await modulesLoaded(loading, {})).filter(isSdk), [], 'its SDK is loaded when a store is opened')
    },
  )
}

t.test('the documents name every kind, and no other', async (t) => {
  const document = (path: string): string => readFileSync(join(root, path), 'utf8')
  const rows = [...document('providers/README.md').matchAll(/^\| `([a-z0-9-]+)` \|/gm)].map(
    ([, name]) => name!,
  )
  t.same(rows.toSorted(), [...Object.keys(STORE_KINDS), 'memory'].toSorted())
  for (const name of Object.keys(STORE_KINDS)) t.match(document('docs/stores.md'), `\`${name}\``)
})

t.test('the stores files among the examples are accepted where their files exist', async (t) => {
  const token = join(t.testdir({ token: 'hunter2' }), 'token')
  const examples = globSync('docs/examples/*stores.json', { cwd: root })
  t.equal(examples.length, 2)
  for (const path of examples) {
    const text = readFileSync(join(root, path), 'utf8').replaceAll(/(_file": )"[^"]*"/g, `$1"${token}"`)
    const named = Object.values((JSON.parse(text) as { stores: Record<string, { provider: string }> }).stores)
    if (!named.every(({ provider }) => providers.includes(provider))) continue
    t.notOk('faults' in (await parseStoresFile(Buffer.from(text), STORE_KINDS, 2)), path)
  }
})

t.test('an object that takes anything is found', async (t) => {
  const form = { type: 'object', properties: { role: { type: 'string' } } }
  t.same(openObjects({ auth: { oneOf: [form] } }), ['/auth/oneOf/0'])
  t.same(openObjects({ auth: { oneOf: [{ ...form, additionalProperties: false }] } }), [])
})

t.test('no SDK and no provider is loaded before a store asks for it', async (t) => {
  const file = join(t.testdir({}), 'stores.json')
  writeFileSync(file, '{ "default": "local", "stores": {} }')
  const source = "await (await import('./src/config.ts')).readConfig(); await import('./src/open-stores.ts')"
  const none = await modulesLoaded(source, {})
  t.ok(none.length > 200, 'modules were seen')
  t.same(
    none.filter((url) => isSdk(url) || url.includes('/providers/')),
    [],
  )
  t.notOk(none.some((url) => url.endsWith('/src/stores-file.ts')))
  const empty = await modulesLoaded(source, { STRONGROOM_STORES_FILE: file })
  t.ok(empty.some((url) => url.endsWith('/src/stores-file.ts')))
  t.same(
    empty.filter((url) => isSdk(url) || url.includes('/providers/')),
    [],
  )
})

/** Where a schema takes members that it does not name: somebody could write a secret there. */
function openObjects(schema: object, at = ''): string[] {
  return Object.entries(schema).flatMap(([name, below]): string[] => {
    if (typeof below !== 'object' || below === null) return []
    const { type, properties, additionalProperties, unevaluatedProperties } = below as Record<string, unknown>
    const takesMembers = type === 'object' || (type !== undefined && typeof properties === 'object')
    const open = takesMembers && additionalProperties !== false && unevaluatedProperties !== false
    return [...(open ? [`${at}/${name}`] : []), ...openObjects(below, `${at}/${name}`)]
  })
}

/** What a process has loaded that runs `source` and could then serve. */
async function modulesLoaded(source: string, env: Record<string, string>): Promise<string[]> {
  const watching = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context) } })
    await import('./src/server.ts')
    ${source}
    process.stdout.write(JSON.stringify(loaded))`
  const run = promisify(execFile)
  const options = { cwd: root, env: { ...COMPILED, ...env }, maxBuffer: 2 ** 24 }
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', watching], options)
  return JSON.parse(stdout) as string[]
}
