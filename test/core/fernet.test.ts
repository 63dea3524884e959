import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { inspect } from 'node:util'
import { createCipheriv, createHmac } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { FernetError, FernetKey } from '../../src/core/fernet.ts'

interface Vector {
  desc?: string
  token: string
  now: string
  iv?: number[]
  src?: string
  ttl_sec?: number
  secret: string
}

/** As much of the npm package `fernet` as is used here; it is only trusted as a second implementation. */
interface OtherFernet {
  Secret: new (text: string) => object
  Token: new (options: object) => { encode(message: string): string; decode(): string }
}

// Loaded here and nowhere in the service: it is slow and extends String.prototype.
const other = createRequire(import.meta.url)('fernet') as OtherFernet
const vectorsFolder = new URL('../../../shared/data/fernet-spec/', import.meta.url)
const skip = existsSync(vectorsFolder) ? false : 'the vectors of the Fernet specification are not here'
const NOW = 1_800_000_000

function vectors(name: string): Vector[] {
  return JSON.parse(readFileSync(new URL(`${name}.json`, vectorsFolder), 'utf8'))
}

function unixSeconds(time: string): number {
  return Date.parse(time) / 1000
}

/** The canonical spelling, so that what is refused is refused for its content. */
function tokenText(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_')
}

function faultOf(act: () => unknown): string {
  try {
    act()
    return 'none'
  } catch (error) {
    if (!(error instanceof FernetError)) throw error
    return error.code
  }
}

t.test('every "generate" vector of the specification comes out letter by letter', { skip }, async (t) => {
  for (const vector of vectors('generate')) {
    const key = FernetKey.parse(vector.secret)
    t.equal(key.seal(vector.src!, unixSeconds(vector.now), Buffer.from(vector.iv!)), vector.token)
  }
})

t.test('every "verify" vector of the specification opens within its time', { skip }, async (t) => {
  for (const vector of vectors('verify')) {
    const age = { now: unixSeconds(vector.now), ttlSeconds: vector.ttl_sec! }
    t.equal(FernetKey.parse(vector.secret).open(vector.token, age).toString(), vector.src)
  }
})

t.test('every "invalid" vector of the specification is refused for its own reason', { skip }, async (t) => {
  const codes: Record<string, string> = {
    'incorrect mac': 'wrong_signature',
    'too short': 'malformed',
    'invalid base64': 'malformed',
    'payload size not multiple of block size': 'malformed',
    'payload padding error': 'bad_padding',
    'far-future TS (unacceptable clock skew)': 'from_future',
    'expired TTL': 'too_old',
    'incorrect IV (causes padding error)': 'bad_padding',
  }
  const all = vectors('invalid')
  t.equal(all.length, Object.keys(codes).length)
  for (const vector of all) {
    const age = { now: unixSeconds(vector.now), ttlSeconds: vector.ttl_sec! }
    const key = FernetKey.parse(vector.secret)
    const name = vector.desc!
    t.equal(
      faultOf(() => key.open(vector.token, age)),
      codes[name],
      name,
    )
  }
})

t.test('without an age the timestamp is not judged', async (t) => {
  const { key } = FernetKey.generate()
  for (const time of [0, NOW, 253_402_300_799]) t.equal(key.open(key.seal('x', time)).toString(), 'x')
  const token = key.seal('x', NOW)
  const fault = (now: number) => faultOf(() => key.open(token, { now, ttlSeconds: 10 }))
  t.same([NOW - 61, NOW - 60, NOW + 10, NOW + 11].map(fault), ['from_future', 'none', 'none', 'too_old'])
})

t.test('the npm package fernet opens what we seal, and we open what it seals', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.string({ unit: 'binary' }),
      (raw, text) => {
        const keyText = `${Buffer.from(raw).toString('base64url')}=`
        const key = FernetKey.parse(keyText)
        const secret = new other.Secret(keyText)
        const ours = new other.Token({ secret, token: key.seal(text, NOW), ttl: 0 })
        assert.equal(ours.decode(), text)
        const theirs = new other.Token({ secret, time: new Date(NOW * 1000) }).encode(text)
        assert.equal(key.open(theirs).toString(), text)
      },
    ),
    { numRuns: 60 },
  )
})

t.test('no two tokens have the same IV, however many are sealed', async (t) => {
  const { key } = FernetKey.generate()
  const ivs = Array.from({ length: 1000 }, () =>
    Buffer.from(key.seal('x', NOW), 'base64url').toString('hex', 9, 25),
  )
  t.equal(new Set(ivs).size, 1000)
})

t.test('what is sealed does not stay in the memory that buffers share', async (t) => {
  const { key } = FernetKey.generate()
  const value = 'a marked value '.repeat(8)
  const kept = Buffer.from(value)
  const shared = Buffer.from(kept.buffer)
  t.ok(shared.includes(value), 'this is that memory')
  kept.fill(0)
  t.ok(key.seal(value, NOW))
  t.notOk(shared.includes('a marked value'))
})

t.test('a signed token opens only if its last block ends as PKCS #7 pads', async (t) => {
  const raw = Buffer.alloc(32, 7)
  const key = FernetKey.parse(tokenText(raw))
  const signed = (content: Buffer): string => {
    const iv = Buffer.alloc(16)
    const cipher = createCipheriv('aes-128-cbc', raw.subarray(16), iv)
    const head = Buffer.concat([Buffer.from([0x80]), Buffer.alloc(8), iv])
    const token = Buffer.concat([head, cipher.setAutoPadding(false).update(content)])
    const signature = createHmac('sha256', raw.subarray(0, 16)).update(token).digest()
    return tokenText(Buffer.concat([token, signature]))
  }
  const ending = (...bytes: number[]) =>
    Buffer.concat([Buffer.alloc(32 - bytes.length, 'a'), Buffer.from(bytes)])
  for (const right of [
    ending(1),
    ending(2, 2),
    Buffer.concat([Buffer.alloc(16, 'a'), Buffer.alloc(16, 16)]),
  ]) {
    t.equal(key.open(signed(right)).toString(), 'a'.repeat(32 - right.at(-1)!))
  }
  const wrong = [ending(0), ending(1, 2), ending(2, 3, 3), Buffer.alloc(32, 17), Buffer.alloc(32, 255)]
  for (const bytes of wrong) {
    t.equal(
      faultOf(() => key.open(signed(bytes))),
      'bad_padding',
    )
  }
})

t.test('a token with any one bit flipped does not open', async (t) => {
  const { key } = FernetKey.generate()
  const token = key.seal('a value that is longer than a block', NOW)
  const bytes = Buffer.from(token, 'base64url')
  t.equal(tokenText(bytes), token)
  let refused = 0
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3]! ^= 1 << (bit & 7)
    if (faultOf(() => key.open(tokenText(flipped))) !== 'none') refused++
  }
  t.equal(refused, bytes.length * 8)
})

t.test('a token with any character changed, added or left out does not open', async (t) => {
  const { key } = FernetKey.generate()
  const token = key.seal('value', NOW)
  const spellings = new Set<string>([`${token}=`, `${token}\n`, ` ${token}`, token.replace(/=+$/, ''), ''])
  for (let at = 0; at < token.length; at++) {
    spellings.add(token.slice(0, at) + token.slice(at + 1))
    for (const character of 'AZaz09-_+/=. \0é') {
      spellings.add(token.slice(0, at) + character + token.slice(at + 1))
      spellings.add(token.slice(0, at) + character + token.slice(at))
    }
  }
  spellings.delete(token)
  for (const spelling of spellings) {
    if (faultOf(() => key.open(spelling)) === 'none') t.fail('a changed token opened')
  }
  t.ok(spellings.size > 1000)
})

t.test('a token of another version is malformed even when its signature is right', async (t) => {
  const raw = Buffer.alloc(32, 7)
  const key = FernetKey.parse(`${raw.toString('base64url')}=`)
  const bytes = Buffer.from(key.seal('value', NOW), 'base64url')
  bytes[0] = 0x81
  createHmac('sha256', raw.subarray(0, 16))
    .update(bytes.subarray(0, -32))
    .digest()
    .copy(bytes, bytes.length - 32)
  const token = tokenText(bytes)
  t.equal(
    faultOf(() => key.open(token)),
    'malformed',
  )
})

t.test('a token of another key has the wrong signature', async (t) => {
  const token = FernetKey.generate().key.seal('value', NOW)
  t.equal(
    faultOf(() => FernetKey.generate().key.open(token)),
    'wrong_signature',
  )
})

t.test('only the one spelling of a key is read', async (t) => {
  const text = 'cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4='
  t.equal(FernetKey.parse(text).id, FernetKey.parse(text).id)
  const wrong = [
    '',
    text.slice(0, -1),
    `${text}=`,
    ` ${text}`,
    `${text}\n`,
    text.replace('_', '/'),
    text.replace('-', '+'),
    // The last character's low two bits say nothing, so these four decode to the same bytes.
    text.replace('4=', '5='),
    text.replace('4=', '6='),
    text.replace('4=', '7='),
    Buffer.alloc(31).toString('base64url'),
    Buffer.alloc(33).toString('base64url'),
  ]
  for (const spelling of wrong) {
    t.equal(
      faultOf(() => FernetKey.parse(spelling)),
      'malformed_key',
    )
  }
})

t.test('the id of a key is the documented fingerprint', async (t) => {
  // printf 'strongroom key id\n' and 32 zero bytes through sha256sum.
  t.equal(FernetKey.parse(`${'A'.repeat(43)}=`).id, 'acbc1ae5f646a4b7e6646bb690fc1c5a')
})

t.test('a generated key can be read again from its text', async (t) => {
  const { key, text } = FernetKey.generate()
  const again = FernetKey.parse(text.reveal())
  t.equal(again.id, key.id)
  t.equal(again.open(key.seal('value', NOW)).toString(), 'value')
})

t.test('neither a key nor a refusal prints more than the id or the code', async (t) => {
  const { key, text } = FernetKey.generate()
  t.equal(JSON.stringify({ key }), JSON.stringify({ key: { id: key.id } }))
  t.equal(inspect(key, { depth: 9, showHidden: true }), `FernetKey { id: '${key.id}' }`)
  const token = key.seal('value', NOW)
  try {
    FernetKey.generate().key.open(token)
    t.fail('the token opened')
  } catch (error) {
    const printed = inspect(error, { depth: 9, showHidden: true })
    t.notMatch(printed, token.slice(0, 12))
    t.notMatch(printed, text.reveal().slice(0, 12))
  }
})

t.test('a time that is not whole seconds is not sealed in', async (t) => {
  const { key } = FernetKey.generate()
  for (const time of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
    t.throws(() => key.seal('x', time), RangeError)
})
