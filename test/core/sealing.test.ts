import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { VaultError } from '../../src/core/errors.ts'
import { type FernetError, FernetKey } from '../../src/core/fernet.ts'
import { Keyring } from '../../src/core/keyring.ts'
import { open, seal, type Place } from '../../src/core/sealing.ts'
import { Secret } from '../../src/core/secret.ts'

const NOW = 1_800_000_000
const texts = [1, 2, 3].map((byte) => `${Buffer.alloc(32, byte).toString('base64url')}=`)
const ring = Keyring.parse(texts)
const strangeKey = FernetKey.generate().key

const slug = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/)
const place: fc.Arbitrary<Place> = fc.record({
  workspace: slug,
  credentialId: fc.uuid(),
  version: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  copyId: fc.uuid(),
})
const here: Place = { workspace: 'acme', credentialId: 'c-1', version: 12, copyId: 'k-1' }

function refusal(act: () => unknown): VaultError {
  try {
    act()
  } catch (error) {
    if (error instanceof VaultError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

t.test('what was opened is wiped where it lay', async (t) => {
  const [key] = Keyring.parse(texts).keys
  let lay: Buffer | undefined
  const opened = key!.open.bind(key)
  key!.open = (token) => (lay = opened(token))
  const alone = { get: () => key, keys: [key] } as unknown as Keyring
  t.equal(open(alone, key!.id, here, seal(key!, here, new Secret('"a value"'), NOW)).reveal(), '"a value"')
  t.ok(lay!.length > 0 && lay!.every((byte) => byte === 0))
})

t.test('any key of the ring opens, whichever the row names', async () => {
  const names = [...ring.ids(), strangeKey.id, '']
  fc.assert(
    fc.property(
      place,
      fc.json(),
      fc.constantFrom(...ring.keys),
      fc.constantFrom(...names),
      (at, json, key, name) => {
        assert.equal(open(ring, name, at, seal(key, at, new Secret(json), NOW)).reveal(), json)
      },
    ),
  )
})

t.test('a token sealed for another place does not open', async () => {
  fc.assert(
    fc.property(
      place,
      place,
      fc.constantFrom('workspace', 'credentialId', 'version', 'copyId'),
      (at, away, part) => {
        fc.pre(at[part] !== away[part])
        const token = seal(ring.first, { ...at, [part]: away[part] }, new Secret('{}'), NOW)
        assert.equal(refusal(() => open(ring, ring.first.id, at, token)).code, 'copy_unreadable')
      },
    ),
  )
})

t.test('a place whose parts only run together as another does not open', async (t) => {
  const value = new Secret('1')
  for (const near of [
    { version: 1 },
    { version: 121 },
    { copyId: 'k-' },
    { copyId: 'k-11' },
    { workspace: 'acm' },
  ]) {
    const token = seal(ring.first, { ...here, ...near }, value, NOW)
    t.equal(refusal(() => open(ring, ring.first.id, here, token)).code, 'copy_unreadable')
  }
  for (const part of ['a/b', 'a\nb', '']) {
    t.throws(() => seal(ring.first, { ...here, credentialId: part }, value, NOW), TypeError)
  }
})

t.test('what no key opens is unreadable, and the refusal holds no text of it', async (t) => {
  const strange = seal(strangeKey, here, new Secret('"hidden-value"'), NOW)
  const sealed = seal(ring.first, here, new Secret('"hidden-value"'), NOW)
  const cut = sealed.slice(0, -8)
  for (const [token, code] of [
    [strange, 'wrong_signature'],
    [cut, 'malformed'],
    ['', 'malformed'],
  ] as const) {
    const error = refusal(() => open(ring, ring.first.id, here, token))
    t.equal(error.code, 'copy_unreadable')
    t.equal((error.cause as FernetError).code, code)
    t.notMatch(inspect(error, { depth: 9, showHidden: true }), /gAAAA|hidden-value/)
  }
})

t.test('the key that signed decides why a token does not open, not the ones tried after it', async (t) => {
  // From the Fernet specification: signed rightly, padded wrongly.
  const text = 'cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4='
  const token =
    'gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw=='
  const wide = Keyring.parse([text, ...texts])
  t.equal((refusal(() => open(wide, wide.first.id, here, token)).cause as FernetError).code, 'bad_padding')
})

t.test('the sealed text is the documented one, so any Fernet library reads it', async (t) => {
  const token = seal(ring.first, here, new Secret('{"a":"é"}'), NOW)
  t.equal(ring.first.open(token).toString(), 'acme/c-1/12/k-1\n{"a":"é"}')
})
