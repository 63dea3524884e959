import t from 'tap'
import { FernetKey } from '../../src/core/fernet.ts'
import { Keyring } from '../../src/core/keyring.ts'
import { Sealer } from '../../src/core/sealer.ts'
import { seal } from '../../src/core/sealing.ts'
import { Secret } from '../../src/core/secret.ts'

const [known, later] = [FernetKey.generate(), FernetKey.generate()]
const place = { workspace: 'acme', credentialId: 'c-1', version: 1, copyId: 'k-1' }
const copyUnder = (key: FernetKey, keyId = key.id) => ({
  id: place.copyId,
  credentialId: place.credentialId,
  version: place.version,
  store: 'local',
  keyId,
  sealed: seal(key, place, new Secret('"x"'), 1),
})

function sealerWithOneKey() {
  const met: string[] = []
  const sealer = new Sealer(Keyring.parse([known.text.reveal()]), known.key.id, (id) => met.push(id))
  return { sealer, met }
}

t.test(
  'a copy under a key that came meanwhile is unavailable, not unreadable, until the ring has the key',
  async (t) => {
    const { sealer, met } = sealerWithOneKey()
    const copy = copyUnder(later.key)
    t.throws(() => sealer.open('acme', copy), { code: 'unavailable', retryAfterSeconds: 1 })
    t.throws(() => sealer.open('acme', copy), { code: 'unavailable' })
    t.strictSame(met, [later.key.id], 'the ring is read again, and not once for each lease')
    t.equal(sealer.unknownKeyId, later.key.id)
    sealer.useKeyring(Keyring.parse([later.text.reveal(), known.text.reveal()]), later.key.id)
    t.equal(sealer.unknownKeyId, undefined)
    t.equal(sealer.open('acme', copy).reveal(), '"x"')
  },
)

t.test('a copy that no known key opens is unreadable, and the process stays ready', async (t) => {
  const { sealer, met } = sealerWithOneKey()
  t.throws(() => sealer.open('acme', copyUnder(later.key, known.key.id)), { code: 'copy_unreadable' })
  t.throws(() => sealer.open('globex', copyUnder(known.key)), { code: 'copy_unreadable' })
  t.strictSame(met, [])
  t.equal(sealer.unknownKeyId, undefined)
})

t.test('a copy whose row names a key wrongly opens with the one that it was sealed under', async (t) => {
  const { sealer, met } = sealerWithOneKey()
  t.equal(sealer.open('acme', copyUnder(known.key, later.key.id)).reveal(), '"x"')
  t.strictSame(met, [])
})

t.test('nothing is sealed under a key that the ring does not have', async (t) => {
  const { sealer, met } = sealerWithOneKey()
  t.throws(() => sealer.sealUnder(later.key.id), { code: 'unavailable' })
  t.equal(sealer.sealingKeyId, known.key.id)
  t.strictSame(met, [later.key.id])
})
