import t from 'tap'
import { FernetKey } from '../../src/core/fernet.ts'
import { Keyring } from '../../src/core/keyring.ts'
import type { Resealing } from '../../src/core/reseal.ts'
import { reseal } from '../../src/core/reseal.ts'
import { open, type Place, seal } from '../../src/core/sealing.ts'
import { Secret } from '../../src/core/secret.ts'

const [old, next] = [FernetKey.generate(), FernetKey.generate()]
const ring = Keyring.parse([next.text.reveal(), old.text.reveal()])
const place: Place = { workspace: 'acme', credentialId: 'c-1', version: 2, copyId: 'old-copy' }
const newPlace = { ...place, copyId: 'new-copy' }
const sealed = (value: string, key = old.key, at = place) => seal(key, at, new Secret(value), 1)
const copyOf = (token: string): Resealing => ({
  keyId: old.key.id,
  sealed: token,
  place,
  newCopyId: 'new-copy',
})

/** A ring whose new key seals as it is told. */
function ringWith(sealing: (text: string, now: number) => string): Keyring {
  const broken = { id: next.key.id, seal: sealing, open: (token: string) => next.key.open(token) }
  const keys = [broken, old.key]
  return { keys, get: (id: string) => keys.find((key) => key.id === id) } as unknown as Keyring
}

t.test(
  'what was sealed under the old key opens under the new one, in the place of the new copy',
  async (t) => {
    for (const value of ['{"password":"ä\\n"}', '""', 'null']) {
      const [one] = reseal(ring, next.key.id, [copyOf(sealed(value))]) as { sealed: string }[]
      const alone = Keyring.parse([next.text.reveal()])
      t.equal(open(alone, next.key.id, newPlace, one!.sealed).reveal(), value)
      t.throws(() => open(alone, next.key.id, place, one!.sealed), { code: 'copy_unreadable' })
    }
  },
)

t.test('a copy that cannot be opened is told apart from those beside it, which are moved', async (t) => {
  const strange = FernetKey.generate().key
  const unreadable = [
    sealed('"x"', strange),
    sealed('"x"', old.key, { ...place, version: 3 }),
    sealed('"x"').slice(0, -8),
    'no token',
    '',
  ]
  const copies = [sealed('"first"'), ...unreadable, sealed('"last"')].map(copyOf)
  const resealed = reseal(ring, next.key.id, copies)
  t.equal(resealed.length, copies.length)
  t.strictSame(
    resealed.map((one) => ('code' in one ? one.code : 'sealed')),
    ['sealed', ...unreadable.map(() => 'copy_unreadable'), 'sealed'],
  )
  t.equal(
    open(ring, next.key.id, newPlace, (resealed.at(-1) as { sealed: string }).sealed).reveal(),
    '"last"',
  )
})

t.test('a new token that does not open to the same value is not used', async (t) => {
  const faults: Record<string, (text: string, now: number) => string> = {
    'another value': (text, now) => next.key.seal(`${text} `, now),
    'another place': (text, now) => next.key.seal(text.replace('new-copy', 'old-copy'), now),
    'a torn token': (text, now) => next.key.seal(text, now).slice(0, -4),
    'no token': () => '',
  }
  for (const [what, sealing] of Object.entries(faults)) {
    t.strictSame(
      reseal(ringWith(sealing), next.key.id, [copyOf(sealed('"x"'))]),
      [{ code: 'copy_unreadable' }],
      what,
    )
  }
})

t.test('what is no fault of the copy is not blamed on it', async (t) => {
  const broken = ringWith(() => {
    throw new RangeError('out of memory')
  })
  t.throws(() => reseal(broken, next.key.id, [copyOf(sealed('"x"'))]), RangeError)
})
