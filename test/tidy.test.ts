import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Rule } from './tidy-rules.ts'
import * as rules from './tidy-rules.ts'

// "Rooms" of ARCHITECTURE.md and "Rules" of CONTRIBUTING.md as a test: who imports whom, and what stands where.

/** Who may call `Secret.reveal()`, and why there. */
const REVEALS: Record<string, string> = {
  'src/cli/demo-transcript.ts': 'strikes out whatever the transcript would show of it',
  'src/cli/demo.ts': 'makes a database role with the password, and puts it into the connector configuration',
  'src/cli/init.ts': 'prints the administrator token, once, to the one who asked for it',
  'src/cli/keys-file.ts': 'writes a new key into the keys file, for the service to read',
  'src/cli/keygen.ts': 'prints the new key: its only work',
  'src/cli/put.ts': 'writes the value into the body of the request',
  'src/cli/service-client.ts': 'writes the token into the authorization header, and the body onto the wire',
  'src/config-forms.ts': 'judges the form of the database URL',
  'src/config.ts': 'reads the keys and judges the form of the token',
  'src/core/links.ts': 'reads a linked secret as JSON, and takes its member',
  'src/core/reseal.ts':
    'compares what was sealed anew with what was there, and says only whether they are equal',
  'src/core/sealing.ts': 'encrypts it',
  'src/core/values.ts': 'patches, measures and compares values as JSON',
  'src/data-directory.ts': 'writes the first key and the first token into files that only their owner reads',
  'src/guarded-store.ts': 'hands the value to the provider that keeps it',
  'src/http/lease-grants.ts': 'writes the value into the answer to the lease',
  'src/http/tokens.ts': 'writes a new token into the answer, the only time that it is shown',
  'src/key-file.ts': 'keeps the text of the keys, to know when their file has changed',
  'src/postgres/connections.ts': 'hands the database URL to the driver',
  'src/postgres/upgrade.ts': 'hands the database URLs to the driver',
  'src/sealed-cache.ts': 'encrypts what was read from a store',
  'src/wire.ts': 'makes the keyring out of the keys',
}

/** SQL beside `src/postgres`, and why. */
const SQL: Record<string, string> = {
  'src/cli/demo.ts': 'plays the worker and the operator, and shows what they type into psql',
}

const root = join(import.meta.dirname, '..')
const files = globSync('{src,providers,test,scripts,migrations,bin}/**/*.{ts,js,mjs,cjs,sql}', { cwd: root })
  .toSorted()
  .map((path) => rules.parse(path, readFileSync(join(root, path), 'utf8')))

const pages = globSync('{*.md,{docs,providers}/**/*.md}', { cwd: root })
const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>
}

const RULES: Record<string, Rule> = {
  'core imports nobody, rooms import core only, and what crosses lies directly in src': rules.rooms,
  'what ships imports only what package.json asks for': rules.onlyDeclared(Object.keys(dependencies)),
  'an import names its file whole': rules.wholeNames,
  'no file only passes on what others export': rules.noBarrels,
  'files and folders are kebab-case, and say what they hold': rules.names,
  'no file has more than 300 lines': rules.short,
  'nothing but request.caller decorates Fastify': rules.plainFastify,
  'SQL stands in src/postgres and migrations only': rules.onlySql(Object.keys(SQL)),
  'only src/config.ts reads the environment': rules.onlyEnvironment,
  'a secret is revealed only where the list says why': rules.onlyReveals(Object.keys(REVEALS)),
  'every export in src and providers has a doc comment': rules.documented,
  'a number that a module names is in upper case': rules.numbers,
  'a page that is named is in the repository': rules.onlyPages(pages),
  'nothing prints past the log and nothing is left for later': rules.finished,
}

for (const [name, rule] of Object.entries(RULES)) {
  t.test(name, async (t) => {
    const faults = files.flatMap((file) => rules.faultsOf(file, [rule]))
    for (const fault of faults) t.fail(fault, { diagnostic: false })
    t.ok(files.length > 100, 'all files were looked at')
  })
}

t.test('whoever is on a list of exceptions still needs to be', async (t) => {
  const withFault = (rule: Rule): string[] =>
    files.filter((file) => rules.faultsOf(file, [rule]).length > 0).map(({ path }) => path)
  const revealing = withFault(rules.onlyReveals([]))
  for (const path of Object.keys(REVEALS)) t.ok(revealing.includes(path), `${path} reveals a secret`)
  const asking = withFault(rules.onlySql([]))
  for (const path of Object.keys(SQL)) t.ok(asking.includes(path), `${path} has SQL`)
})

t.test('what the service does not load is no runtime dependency', async (t) => {
  const shipped = files.filter(({ path }) => /^(src|providers|bin)\//.test(path))
  for (const name of Object.keys(dependencies)) {
    const named = new RegExp(`'${name}(/[^']+)?'`)
    t.ok(
      shipped.some(({ text }) => named.test(text)),
      name,
    )
  }
})

/** For each rule what it must refuse and what it must let be: path, text. */
const SAMPLES: { rule: Rule; refused: [string, string][]; good: [string, string][] }[] = [
  {
    rule: rules.rooms,
    refused: [
      ['src/core/a.ts', "import { b } from '../postgres/b.ts'"],
      ['src/core/a.ts', "import type { B } from '../log.ts'"],
      ['src/core/a.ts', "import { readFile } from 'node:fs/promises'"],
      ['src/core/a.ts', "import { v7 } from 'uuid'"],
      ['src/postgres/a.ts', "export { b } from '../http/b.ts'"],
      ['src/http/a.ts', "const b = await import('../cli/b.ts')"],
      ['src/cli/a.ts', "type B = import('../config.ts').Config"],
      ['src/cli/a.ts', "import fastify from 'fastify'"],
      ['src/wire.ts', "import pg from 'pg'"],
      ['src/wire.ts', "import { fromTokenFile } from '@aws-sdk/credential-providers'"],
      ['providers/a.ts', "import { b } from '../src/log.ts'"],
    ],
    good: [
      ['src/core/a.ts', "import { createHash } from 'node:crypto'\nimport { b } from './b.ts'"],
      ['src/postgres/a.ts', "import pg from 'pg'\nimport { b } from '../core/b.ts'"],
      ['src/wire.ts', "import { b } from './core/b.ts'\nimport { c } from './http/c.ts'"],
      ['providers/a.ts', "import { b } from '../src/core/secret-store.ts'"],
      ['test/a.test.ts', "import pg from 'pg'"],
    ],
  },
  {
    rule: rules.onlyDeclared(['pg', '@azure/identity']),
    refused: [
      ['providers/a.ts', "import type * as gax from 'google-gax'"],
      ['src/postgres/a.ts', "import cursor from 'pg-cursor'"],
    ],
    good: [
      [
        'src/postgres/a.ts',
        "import pg from 'pg'\nimport { b } from 'pg/b'\nimport 'node:fs'\nimport './c.ts'",
      ],
      ['test/a.ts', "import ts from 'typescript'"],
    ],
  },
  {
    rule: rules.wholeNames,
    refused: [
      ['src/a.ts', "import { b } from './b'"],
      ['test/a.ts', "const b = await import('./b.js')"],
    ],
    good: [['src/a.ts', "import { b } from './b.ts'"]],
  },
  {
    rule: rules.noBarrels,
    refused: [
      ['src/core/index.ts', 'export const a = 1'],
      ['src/core/a.ts', "export * from './b.ts'\nexport const c = 1"],
      ['src/core/a.ts', "import './c.ts'\nexport { b } from './b.ts'"],
    ],
    good: [['src/core/a.ts', "export { b } from './b.ts'\nexport const c = 1"]],
  },
  {
    rule: rules.names,
    refused: [
      ['src/core/leaseGrants.ts', ''],
      ['src/core_things/a.ts', ''],
      ['src/utils/text.ts', ''],
      ['src/core/utils.ts', ''],
      ['src/core/plain.js', ''],
      ['migrations/ledger.sql', ''],
    ],
    good: [
      ['src/core/lease-grants.ts', ''],
      ['test/peers/fernet.peer.test.ts', ''],
      ['migrations/0001_ledger.sql', ''],
      ['bin/strongroom.js', ''],
    ],
  },
  {
    rule: rules.short,
    refused: [['src/a.ts', '\n'.repeat(300) + 'a']],
    good: [['src/a.ts', 'a\n'.repeat(300)]],
  },
  {
    rule: rules.plainFastify,
    refused: [
      ['src/http/a.ts', "app.decorate('caller', null)"],
      ['src/http/a.ts', "app.decorateRequest('vault', null)"],
      ['src/http/a.ts', "app.decorateReply('caller', null)"],
      ['src/http/a.ts', "import autoload from '@fastify/autoload'"],
    ],
    good: [['src/http/a.ts', "app.decorateRequest('caller', null)"]],
  },
  {
    rule: rules.onlySql(['src/cli/allowed.ts']),
    refused: [
      ['src/core/a.ts', "ask('select id from leases')"],
      ['src/http/a.ts', 'ask(`delete from leases\n  where id = ${id}`)'],
      ['src/a.ts', "ask('INSERT INTO leases VALUES (1)')"],
    ],
    good: [
      ['src/postgres/a.ts', "ask('select id from leases')"],
      ['src/cli/allowed.ts', "ask('select id from leases')"],
      ['src/core/a.ts', "// select what is from elsewhere\nsay('updates are welcome')"],
    ],
  },
  {
    rule: rules.onlyEnvironment,
    refused: [
      ['src/log.ts', 'const level = process.env.LEVEL'],
      ['src/log.ts', "const level = process['env']"],
      ['src/log.ts', "import { env } from 'node:process'"],
    ],
    good: [['src/config.ts', 'const level = process.env.LEVEL']],
  },
  {
    rule: rules.onlyReveals(['src/core/sealing.ts']),
    refused: [
      ['src/log.ts', 'write(secret.reveal())'],
      ['providers/a.ts', 'secrets.map((secret) => secret?.reveal())'],
    ],
    good: [['src/core/sealing.ts', 'seal(secret.reveal())']],
  },
  {
    rule: rules.documented,
    refused: [
      ['src/a.ts', 'export const a = 1'],
      ['src/a.ts', '// Not a doc comment.\nexport interface A {}'],
      ['providers/a.ts', 'export const a = 1'],
    ],
    good: [['src/a.ts', '/** One. */\nexport const a = 1\nconst b = 2']],
  },
  {
    rule: rules.numbers,
    refused: [['src/a.ts', 'const copiesMax = 1_000']],
    good: [['src/a.ts', 'const COPIES_MAX = 1_000\nlet made = 0\nfunction f() { const most = 2 }']],
  },
  {
    rule: rules.onlyPages(['README.md', 'docs/api.md']),
    refused: [
      ['src/a.ts', `// PLAN${'.md'} section 3.`],
      ['src/a.ts', `// docs/plan${'.md'}, "Errors".`],
    ],
    good: [
      ['src/a.ts', "// README.md and docs/api.md.\nsay('see ../docs/api.md, https://example.org/Spec.md')"],
    ],
  },
  {
    rule: rules.finished,
    refused: [
      ['test/a.ts', 'console.log(1)'],
      ['src/a.ts', `// ${'TO' + 'DO'}: say more`],
    ],
    good: [['src/a.ts', "say('console.log(1)')"]],
  },
]

t.test('each rule refuses what it is there for, and only that', async (t) => {
  t.equal(SAMPLES.length, Object.keys(RULES).length)
  for (const { rule, refused, good } of SAMPLES) {
    for (const [path, text] of refused)
      t.equal(rules.faultsOf(rules.parse(path, text), [rule]).length, 1, text)
    for (const [path, text] of good) t.same(rules.faultsOf(rules.parse(path, text), [rule]), [], text)
  }
  const file = rules.parse('src/log.ts', '// One line.\nsecret.reveal()')
  t.same(rules.faultsOf(file, [rules.onlyReveals([])])[0]?.split(' ')[0], 'src/log.ts:2')
})
