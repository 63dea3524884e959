import t from 'tap'
import { command as upgrade } from '../../src/cli/db-upgrade.ts'
import { command as init } from '../../src/cli/init.ts'
import { FernetKey } from '../../src/core/fernet.ts'
import { runStrongroom } from './run-strongroom.ts'

const commands = [
  'serve',
  'demo',
  'init',
  'db-upgrade',
  'keygen',
  'audit',
  'rotate-keys',
  'migrate-store',
  'sweep',
  'lease',
  'put',
]

t.test('the help names every command and every exit code', async (t) => {
  const { code, out, err } = await runStrongroom(['--help'])
  t.equal(code, 0)
  t.equal(err, '')
  for (const name of commands) t.match(out, new RegExp(`^  ${name} `, 'm'))
  for (const exit of [0, 1, 2, 69, 78, 130]) t.match(out, new RegExp(`\\b${exit} [a-z]`))
})

for (const name of commands) {
  t.test(`${name} has a help of its own`, async (t) => {
    const { code, out, err } = await runStrongroom([name, '--help'])
    t.match({ code, out, err }, { code: 0, out: new RegExp(`^strongroom ${name}`), err: '' })
    t.ok(out.split('\n').every((line) => line.length <= 110))
  })
}

const misused: [args: string[], says: RegExp][] = [
  [[], /no command is named/],
  [['rotate'], /there is no command rotate/],
  [['constructor'], /there is no command constructor/],
  [['keygen', '--bits', '9'], /Unknown option '--bits'/],
  [['serve', 'now'], /more arguments/],
  [['init', '--identity', 'Not A Slug'], /--identity takes/],
  [['audit'], /verify is missing/],
  [['audit', 'erase'], /only audit command is verify/],
  [['audit', 'verify', '--from', 'yesterday'], /--from takes a time/],
  [['audit', 'verify', '--heads', '/nowhere'], /--heads names a file that cannot be read/],
  [['lease'], /NAME is missing/],
  [['lease', '../x'], /NAME cannot be/],
  [['lease', 'db', '--ttl', '0'], /--ttl takes a whole number from 1 to 3600/],
  [['lease', 'db', '--version', '1.5'], /--version takes a whole number/],
  [['lease', 'db', '--version', '1000000000'], /--version takes a whole number .*999999999/],
  [['lease', 'db', '--field', 'password'], /--field takes a JSON Pointer/],
  [['put', 'db'], /--connector must name/],
  [['put', 'db', '--connector', 'c', '--label', 'team'], /--label takes/],
]

for (const [args, says] of misused) {
  t.test(`strongroom ${args.join(' ')} is wrong usage, told in one line`, async (t) => {
    const { code, out, err } = await runStrongroom(args)
    t.equal(code, 2)
    t.equal(out, '')
    t.match(err, says)
    t.equal(err.trimEnd().split('\n').length, 1)
  })
}

t.test('a value as an argument is refused and not repeated', async (t) => {
  const { code, err } = await runStrongroom(['put', 'db', 'hunter2', '--connector', 'c'])
  t.equal(code, 2)
  t.notMatch(err, /hunter2/)
})

t.test('keygen prints a key that opens what it seals, and its id apart', async (t) => {
  const { code, out, err } = await runStrongroom(['keygen'])
  t.equal(code, 0)
  t.match(out, /^[\w-]{43}=\n$/)
  const key = FernetKey.parse(out.trim())
  t.equal(err, `key id ${key.id}\n`)
  t.not((await runStrongroom(['keygen'])).out, out)
})

t.test('every fault of the configuration is a line, and the exit code is 78', async (t) => {
  const env = { STRONGROOM_MODE: 'production', STRONGROOM_LISTEN: 'hunter2', STRONGROOM_TYPO: '1' }
  const { code, out, err } = await runStrongroom(['serve'], env)
  t.equal(code, 78)
  t.equal(out, '')
  const names = err
    .trimEnd()
    .split('\n')
    .map((line) => /^strongroom: (STRONGROOM_\w+): /.exec(line)?.[1])
  const faulty = ['DATABASE_URL', 'KEYS', 'LISTEN', 'TYPO'].map((name) => `STRONGROOM_${name}`)
  t.same(names.sort(), faulty)
  t.notMatch(err, /hunter2/)
})

t.test(
  'the commands that open the database need its owner, and their help names all that they need',
  async (t) => {
    for (const [name, { help }] of [
      ['init', init],
      ['db-upgrade', upgrade],
    ] as const) {
      const { code, err } = await runStrongroom([name])
      t.equal(code, 78)
      t.match(err, /STRONGROOM_DATABASE_OWNER_URL: is not set/)
      for (const [, variable] of err.matchAll(/(STRONGROOM_\w+): is not set/g))
        t.match(help, new RegExp(`\\b${variable}\\b`))
    }
  },
)
