import { hash, randomBytes } from 'node:crypto'
import { Secret } from './secret.ts'

/** A new token: what is kept of it (`id`, `digest`) and what is shown once. */
export interface MintedToken {
  id: string
  /** `srt_<id>_<secret>_<checksum>` */
  text: Secret
  /** SHA-256 of the text before the checksum. */
  digest: Buffer
}

/** What the ledger needs to know a shown token by. */
export interface ParsedToken {
  id: string
  digest: Buffer
}

// In ASCII order, so that comparing two texts of one length compares their numbers.
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ID_LENGTH = 16
const SECRET_BYTES = 32
const SECRET_LENGTH = 43
const CHECKSUM_LENGTH = 6
const SECRET_LARGEST = base62(2n ** 256n - 1n, SECRET_LENGTH)
const TOKEN_ID = /^[0-9A-Za-z]{16}$/
const TOKEN = /^srt_([0-9A-Za-z]{16})_([0-9A-Za-z]{43})_[0-9A-Za-z]{6}$/
const SIGNED_LENGTH = 'srt_'.length + ID_LENGTH + 1 + SECRET_LENGTH

/** Makes a token with 256 random bits. */
export function mintToken(): MintedToken {
  const id = randomBase62(ID_LENGTH)
  const bytes = randomBytes(SECRET_BYTES)
  const signed = `srt_${id}_${base62(BigInt(`0x${bytes.toString('hex')}`), SECRET_LENGTH)}`
  bytes.fill(0)
  const digest = digestOf(signed)
  return { id, text: new Secret(`${signed}_${checksum(digest)}`), digest }
}

/** Reads a token, or answers undefined for what cannot be one: a slip of the pen costs no query. */
export function parseToken(text: string): ParsedToken | undefined {
  const parts = TOKEN.exec(text)
  if (parts === null || parts[2]! > SECRET_LARGEST) return undefined
  const digest = digestOf(text.slice(0, SIGNED_LENGTH))
  return text.endsWith(checksum(digest)) ? { id: copied(parts[1]!), digest } : undefined
}

/** Whether this could be the id of a token: text that PostgreSQL could not read must not reach it. */
export function isTokenId(id: string): boolean {
  return TOKEN_ID.test(id)
}

// V8 makes a part of a text as a view of it: whoever remembered the id would keep the whole token in memory.
function copied(id: string): string {
  return Buffer.from(id, 'latin1').toString('latin1')
}

function digestOf(signed: string): Buffer {
  return hash('sha256', signed, 'buffer')
}

// The digest's first six bytes, as far as six digits hold them: whoever has the text can make it anyway.
function checksum(digest: Buffer): string {
  let rest = digest.readUIntBE(0, 6)
  let digits = ''
  for (let place = 0; place < CHECKSUM_LENGTH; place++) {
    digits = ALPHABET[rest % 62]! + digits
    rest = Math.floor(rest / 62)
  }
  return digits
}

function base62(number: bigint, length: number): string {
  let rest = number
  let digits = ''
  for (let place = 0; place < length; place++) {
    digits = ALPHABET[Number(rest % 62n)]! + digits
    rest /= 62n
  }
  return digits
}

function randomBase62(length: number): string {
  let digits = ''
  while (digits.length < length) {
    for (const byte of randomBytes(length)) {
      // 248 is the largest multiple of 62 in a byte: what lies above would favour the first digits.
      if (byte < 248 && digits.length < length) digits += ALPHABET[byte % 62]!
    }
  }
  return digits
}
