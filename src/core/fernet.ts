import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createSecretKey,
  randomBytes,
  timingSafeEqual,
  type KeyObject,
} from 'node:crypto'
import { randomDraws } from './random.ts'
import { Secret } from './secret.ts'

/** Why a key or a Fernet token is refused. The set is closed. */
export type FernetFault =
  'malformed_key' | 'malformed' | 'wrong_signature' | 'too_old' | 'from_future' | 'bad_padding'

const FAULT_TEXTS: Record<FernetFault, string> = {
  malformed_key: 'This is not the text of a Fernet key',
  malformed: 'This is not a Fernet token',
  wrong_signature: 'The Fernet token was not made with this key',
  too_old: 'The Fernet token is too old',
  from_future: 'The Fernet token is from the future',
  bad_padding: 'The content of the Fernet token is not padded as it should be',
}

/** A key or a token is refused. Carries the code and a fixed sentence, never a piece of what was read. */
export class FernetError extends Error {
  readonly code: FernetFault

  constructor(code: FernetFault) {
    super(FAULT_TEXTS[code])
    this.name = 'FernetError'
    this.code = code
  }
}

/**
 * By whose clock a token's timestamp is judged, and how old it may be. The service never judges it: this is here for the
 * specification's vectors, some of which are about the clock.
 */
export interface FernetAge {
  /** Unix time in whole seconds. */
  now: number
  ttlSeconds: number
}

const KEY_BYTES = 32
const IV_BYTES = 16
const BLOCK_BYTES = 16
const VERSION = 0x80
const TIMESTAMP_AT = 1
const IV_AT = 9
const CONTENT_AT = IV_AT + IV_BYTES
const SIGNATURE_BYTES = 32
const SHORTEST_BYTES = CONTENT_AT + BLOCK_BYTES + SIGNATURE_BYTES
const CLOCK_SKEW_SECONDS = 60
const PADDINGS = ['', '==', '=']
const drawIv = randomDraws(IV_BYTES)

/**
 * One Fernet key. Prints as its id only: the bytes are in key objects behind private fields.
 *
 * @see https://github.com/fernet/spec/blob/master/Spec.md
 */
export class FernetKey {
  /** The key's fingerprint, 32 hex digits, which may be written down and shown. */
  readonly id: string
  readonly #signing: KeyObject
  readonly #encryption: KeyObject

  private constructor(bytes: Buffer) {
    this.id = createHash('sha256').update('strongroom key id\n').update(bytes).digest('hex').slice(0, 32)
    this.#signing = createSecretKey(bytes.subarray(0, 16))
    this.#encryption = createSecretKey(bytes.subarray(16))
  }

  /**
   * Reads a key's text: base64url of 32 bytes with its padding, and only the spelling that encoding gives.
   *
   * @throws FernetError `malformed_key`
   */
  static parse(text: string): FernetKey {
    const bytes = Buffer.from(text, 'base64url')
    try {
      if (bytes.length !== KEY_BYTES || encode(bytes) !== text) throw new FernetError('malformed_key')
      return new FernetKey(bytes)
    } finally {
      bytes.fill(0)
    }
  }

  /** Makes a new key and the text that it can be read from again. */
  static generate(): { key: FernetKey; text: Secret } {
    const bytes = randomBytes(KEY_BYTES)
    const made = { key: new FernetKey(bytes), text: new Secret(encode(bytes)) }
    bytes.fill(0)
    return made
  }

  /**
   * Seals `plaintext` into a token.
   *
   * @param now Unix time in whole seconds, written into the token in clear text.
   * @param iv 16 bytes, for the vectors of the specification only; random otherwise.
   * @see Fernet spec, section "Generating"
   */
  seal(plaintext: Buffer | string, now: number, iv: Buffer = drawIv()): string {
    if (!Number.isSafeInteger(now) || now < 0) throw new RangeError('The time is not in whole seconds')
    const cipher = createCipheriv('aes-128-cbc', this.#encryption, iv).setAutoPadding(false)
    const padded = withPadding(plaintext)
    const content = cipher.update(padded)
    padded.fill(0)
    const signedBytes = CONTENT_AT + content.length
    const token = Buffer.allocUnsafe(signedBytes + SIGNATURE_BYTES)
    token[0] = VERSION
    token.writeBigUInt64BE(BigInt(now), TIMESTAMP_AT)
    iv.copy(token, IV_AT)
    content.copy(token, CONTENT_AT)
    this.#sign(token.subarray(0, signedBytes)).copy(token, signedBytes)
    return encode(token)
  }

  /**
   * Opens a token. Nothing is decrypted before the signature is verified.
   *
   * @returns the plaintext, in memory of its own that the caller wipes
   * @param age For the vectors of the specification only: without it, as everywhere in the service, no timestamp is judged.
   * @throws FernetError
   * @see Fernet spec, section "Verifying"
   */
  open(token: string, age?: FernetAge): Buffer {
    const bytes = decode(token)
    const signedBytes = bytes.length - SIGNATURE_BYTES
    const signed = bytes.subarray(0, signedBytes)
    if (!timingSafeEqual(this.#sign(signed), bytes.subarray(signedBytes))) {
      throw new FernetError('wrong_signature')
    }
    if (age !== undefined) judgeAge(bytes, age)
    const decipher = createDecipheriv('aes-128-cbc', this.#encryption, bytes.subarray(IV_AT, CONTENT_AT))
    decipher.setAutoPadding(false)
    return withoutPadding(decipher.update(bytes.subarray(CONTENT_AT, signedBytes)))
  }

  toJSON(): { id: string } {
    return { id: this.id }
  }

  #sign(bytes: Buffer): Buffer {
    // By way of a string, since a buffer that OpenSSL's answer is put into costs more than one from Node's pool.
    return Buffer.from(createHmac('sha256', this.#signing).update(bytes).digest('binary'), 'binary')
  }
}

/** The only spelling we write and read: base64url with padding. */
function encode(bytes: Buffer): string {
  return bytes.toString('base64url') + PADDINGS[bytes.length % 3]
}

function decode(token: string): Buffer {
  // Buffer.from drops what it does not understand, so only encoding back shows that all of it was read.
  const bytes = Buffer.from(token, 'base64url')
  const wellFormed =
    bytes.length >= SHORTEST_BYTES &&
    (bytes.length - SHORTEST_BYTES) % BLOCK_BYTES === 0 &&
    bytes[0] === VERSION &&
    encode(bytes) === token
  if (!wellFormed) throw new FernetError('malformed')
  return bytes
}

function judgeAge(bytes: Buffer, age: FernetAge): void {
  const sealedAt = Number(bytes.readBigUInt64BE(TIMESTAMP_AT))
  if (sealedAt + age.ttlSeconds < age.now) throw new FernetError('too_old')
  if (sealedAt > age.now + CLOCK_SKEW_SECONDS) throw new FernetError('from_future')
}

// The padding is ours: with OpenSSL's, the last block comes by itself, and there are three buffers to make and to wipe.
function withPadding(plaintext: Buffer | string): Buffer {
  const length = Buffer.byteLength(plaintext)
  const padding = BLOCK_BYTES - (length % BLOCK_BYTES)
  const padded = Buffer.allocUnsafe(length + padding)
  if (typeof plaintext === 'string') padded.write(plaintext, 'utf8')
  else plaintext.copy(padded)
  return padded.fill(padding, length)
}

/** What was padded with PKCS #7, as a part of `padded`: whole blocks, at least one. @see RFC 5652, section 6.3 */
function withoutPadding(padded: Buffer): Buffer {
  const length = padded[padded.length - 1]!
  const end = padded.length - length
  const wellPadded =
    length >= 1 && length <= BLOCK_BYTES && padded.subarray(end).every((byte) => byte === length)
  if (wellPadded) return padded.subarray(0, end)
  padded.fill(0)
  throw new FernetError('bad_padding')
}
