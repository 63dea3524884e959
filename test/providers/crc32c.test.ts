import t from 'tap'
import { crc32c } from '../../providers/crc32c.ts'

t.test('the vectors of RFC 3720 come out', async (t) => {
  const upward = Uint8Array.from({ length: 32 }, (_, at) => at)
  const vectors: [Uint8Array, number][] = [
    [new Uint8Array(0), 0],
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [upward, 0x46dd794e],
    [upward.toReversed(), 0x113fdb5c],
    [Buffer.from('123456789'), 0xe3069283],
  ]
  for (const [bytes, sum] of vectors) t.equal(crc32c(bytes), sum)
})
