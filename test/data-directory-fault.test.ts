import { existsSync, rmSync } from 'node:fs'
import t from 'tap'
import { dataDirectoryFault } from '../src/data-directory-fault.ts'

type Files = Parameters<typeof t.testdir>[0]

const place = JSON.stringify({ socketDirectory: '/x/postgres/socket' })
const lock = 'first-start.lock'
const mine = 'hunter2'

const refused: [what: string, files: Files, named: string][] = [
  ["somebody's file", { 'notes.txt': mine }, 'notes.txt'],
  ["somebody's file beside what a start left", { begun: '', keys: mine, 'notes.txt': mine }, 'notes.txt'],
  ["somebody's folder", { '.git': {} }, '.git'],
  ['a key that no start made', { keys: mine }, 'keys'],
  ['an older key that no start put aside', { 'keys.before-1': mine }, 'keys.before-1'],
  ["another program's database", { postgres: { cluster: {} } }, 'postgres'],
  ["another program's database.json", { 'database.json': '{}' }, 'database.json'],
  ['a token that no start made', { 'admin.token': mine }, 'admin.token'],
]

for (const [what, files, named] of refused) {
  t.test(`a directory with ${what} is not new`, async (t) => {
    const fault = dataDirectoryFault(t.testdir(files), false) ?? ''
    t.ok(fault.includes(` holds ${named}, which no start left there`), fault)
    t.notOk(fault.includes(mine))
  })
}

const accepted: [what: string, files: Files][] = [
  ['nothing but what a file system of its own has', { 'lost+found': {} }],
  ['nothing', {}],
  ['a lock that was being taken', { [`${lock}.0123456789abcdef`]: '' }],
  ['a lock', { [lock]: '{}', [`${lock}.0123456789abcdef.stale`]: '{}' }],
  ['the first mark', { begun: '' }],
  ['a key', { begun: '', keys: '', 'keys.before-1796000000000': '' }],
  ['half a database', { begun: '', keys: mine, postgres: { 'making-1234': {} }, 'database.json.new': '' }],
  ['all but the last mark', { begun: '', keys: mine, 'database.json': place, 'admin.token': mine }],
  ['what an older version left with its lock', { [lock]: '{}', keys: mine }],
  ['what an older version left with its database', { keys: mine, 'database.json': place }],
]

for (const [what, files] of accepted) {
  t.test(`a directory with ${what} is begun`, async (t) => {
    t.equal(dataDirectoryFault(t.testdir(files), false), undefined)
  })
}

t.test('a directory that is not there is new, and is not made by looking', async (t) => {
  const directory = t.testdir({})
  rmSync(directory, { recursive: true })
  t.equal(dataDirectoryFault(directory, false), undefined)
  t.notOk(existsSync(directory))
})
