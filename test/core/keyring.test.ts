import t from 'tap'
import { FernetKey } from '../../src/core/fernet.ts'
import { Keyring, KeyringError, parseKeyLines } from '../../src/core/keyring.ts'

const [a, b] = [0, 1].map((byte) => `${Buffer.alloc(32, byte).toString('base64url')}=`) as [string, string]

t.test('a keyring keeps the order in which its keys were configured', async (t) => {
  const ring = Keyring.parse([b, a])
  const ids = [b, a].map((text) => FernetKey.parse(text).id)
  t.same(ring.ids(), ids)
  t.equal(ring.first.id, ids[0])
  t.same(
    ring.keys.map((key) => key.id),
    ids,
  )
  t.equal(ring.get(ids[1]!), ring.keys[1])
  t.ok(ring.has(ids[1]!))
  t.notOk(ring.has('0'.repeat(32)))
  t.equal(ring.get('0'.repeat(32)), undefined)
})

t.test('a list that is no keyring is refused by position and never by text', async (t) => {
  const broken = `${a.slice(0, -2)}B=`
  const cases: [string[], string, number | undefined][] = [
    [[], 'no_key', undefined],
    [[a, broken], 'malformed_key', 2],
    [[a, b, a], 'duplicate_key', 3],
  ]
  for (const [texts, code, position] of cases) {
    try {
      Keyring.parse(texts)
      t.fail('a faulty list became a keyring')
    } catch (error) {
      if (!(error instanceof KeyringError)) throw error
      t.equal(error.code, code)
      t.equal(error.position, position)
      t.notMatch(`${error.stack} ${JSON.stringify(error)}`, a.slice(0, 20))
    }
  }
})

t.test('keys are read by comma or one a line, and comments and blanks are none', async (t) => {
  t.same(parseKeyLines(`${a},${b}`), [a, b])
  t.same(parseKeyLines(`# new, since Monday\n${a}\r\n\n  ${b} # old\n,\n`), [a, b])
  t.same(parseKeyLines(' \n# nothing\n'), [])
})
