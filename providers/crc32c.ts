const POLYNOMIAL_REFLECTED = 0x82f63b78

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL_REFLECTED : rest >>> 1
  return rest
})

/**
 * CRC32C (Castagnoli) as an unsigned number. The `crc32` of node:zlib has another polynomial.
 *
 * @see RFC 3720, appendix B.4, for vectors
 */
export function crc32c(bytes: Uint8Array): number {
  let sum = 0xffffffff
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 0xff]! ^ (sum >>> 8)
  return (sum ^ 0xffffffff) >>> 0
}
