import { createHash } from 'node:crypto'
import { runInNewContext } from 'node:vm'
import { getHeapSnapshot, setFlagsFromString } from 'node:v8'
import t from 'tap'
import { mintToken, parseToken } from '../../src/core/token.ts'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** A second spelling of the checksum, to make tokens whose only fault is elsewhere. */
function withChecksum(signed: string): string {
  let rest = BigInt(createHash('sha256').update(signed).digest().readUIntBE(0, 6))
  let digits = ''
  while (digits.length < 6) {
    digits = ALPHABET[Number(rest % 62n)]! + digits
    rest /= 62n
  }
  return `${signed}_${digits}`
}

function base62(number: bigint): string {
  let rest = number
  let digits = ''
  while (digits.length < 43) {
    digits = ALPHABET[Number(rest % 62n)]! + digits
    rest /= 62n
  }
  return digits
}

t.test(
  'a minted token is read back with its id and the digest of its text before the checksum',
  async (t) => {
    for (let round = 0; round < 200; round++) {
      const minted = mintToken()
      const text = minted.text.reveal()
      t.match(text, /^srt_[0-9A-Za-z]{16}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/)
      t.same(minted.digest, createHash('sha256').update(text.slice(0, -7)).digest())
      t.same(parseToken(text), { id: minted.id, digest: minted.digest })
    }
  },
)

t.test('no two tokens share an id or a secret, and every digit comes up', async (t) => {
  const tokens = Array.from({ length: 500 }, () => mintToken().text.reveal().split('_'))
  t.equal(new Set(tokens.map((parts) => parts[1])).size, 500)
  t.equal(new Set(tokens.map((parts) => parts[2])).size, 500)
  t.equal(new Set(tokens.map((parts) => parts[1]).join('')).size, 62)
})

t.test('no digit of an id comes up more often than another', async (t) => {
  // Taking a random byte modulo 62 would give the first 8 digits a quarter more: 5,000 where 4,129 are due.
  const ids = Array.from({ length: 2000 }, () => mintToken().id).join('')
  t.ok(ids.replace(/[^0-7]/g, '').length < 4560)
})

t.test('every change of one character is noticed', async (t) => {
  const text = mintToken().text.reveal()
  const unnoticed: number[] = []
  for (let at = 0; at < text.length; at++) {
    for (const character of `${ALPHABET}_-. é\n`) {
      const typed = text.slice(0, at) + character + text.slice(at + 1)
      if (typed !== text && parseToken(typed) !== undefined) unnoticed.push(at)
    }
    if (parseToken(text.slice(0, at) + text.slice(at + 1)) !== undefined) unnoticed.push(at)
  }
  t.same(unnoticed, [])
})

t.test('two neighbours changing places are noticed', async (t) => {
  const text = mintToken().text.reveal()
  for (let at = 0; at + 1 < text.length; at++) {
    const typed = text.slice(0, at) + text[at + 1] + text[at] + text.slice(at + 2)
    if (typed !== text) t.equal(parseToken(typed), undefined)
  }
})

t.test('what surrounds a token is part of it', async (t) => {
  const text = mintToken().text.reveal()
  for (const typed of [
    '',
    'srt_',
    ` ${text}`,
    `${text} `,
    `${text}\n`,
    `Bearer ${text}`,
    text.toUpperCase(),
  ]) {
    t.equal(parseToken(typed), undefined)
  }
})

t.test('a secret of more than 256 bits is no token though its checksum is right', async (t) => {
  const id = 'A'.repeat(16)
  t.ok(parseToken(withChecksum(`srt_${id}_${base62(0n)}`)))
  t.ok(parseToken(withChecksum(`srt_${id}_${base62(2n ** 256n - 1n)}`)))
  t.equal(parseToken(withChecksum(`srt_${id}_${base62(2n ** 256n)}`)), undefined)
  t.equal(parseToken(withChecksum(`srt_${id}_${'z'.repeat(43)}`)), undefined)
})

t.test('whoever keeps the id of a token does not keep its secret in memory with it', async (t) => {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  // As it comes from a socket: one text, of which the token is a part. What is looked for is kept as bytes only.
  const shown = () => {
    const header = Buffer.from(`Bearer ${mintToken().text.reveal()}`).toString('latin1')
    return { header, secret: Buffer.from(header).subarray(28, 71) }
  }
  const [dropped, alive] = [Array.from({ length: 5 }, shown), shown()]
  const secrets = dropped.map(({ secret }) => secret)
  const ids = dropped.map(({ header }) => parseToken(header.slice(7))!.id)
  dropped.length = 0
  // What a regular expression was tried on last is kept by V8 until the next one is.
  t.ok(/x/.test('x'))
  collectGarbage()
  const heap = Buffer.concat(await getHeapSnapshot().toArray())
  t.ok(heap.includes(alive.secret), 'what is in memory is found')
  t.ok(ids.every((id) => heap.includes(id)))
  t.equal(secrets.filter((secret) => heap.includes(secret)).length, 0)
  t.ok(alive.header)
})
