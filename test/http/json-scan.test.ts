import assert from 'node:assert/strict'
import fc from 'fast-check'
import { splitNumber } from 'lossless-json'
import t from 'tap'
import { isExactNumber } from '../../src/http/json-scan.ts'

t.test('a short number is judged without being taken apart, and just the same', async () => {
  const digits = fc.array(fc.constantFrom(...'0000123456789'), { minLength: 1, maxLength: 10 })
  const text = fc
    .tuple(fc.boolean(), digits, fc.option(digits), fc.option(fc.integer({ min: -400, max: 400 })))
    .map(([negative, whole, part, exponent]) => {
      const before = whole.join('').replace(/^0+(?=.)/, '')
      const after = part ? `.${part.join('')}` : ''
      return `${negative ? '-' : ''}${before}${after}${exponent === null ? '' : `e${exponent}`}`
    })
  fc.assert(
    fc.property(text, (source) => {
      const number = Number(source)
      const kept = Number.isFinite(number) && !Object.is(number, -0)
      const exact =
        kept && JSON.stringify(splitNumber(source)) === JSON.stringify(splitNumber(String(number)))
      assert.equal(isExactNumber(source), exact, source)
    }),
    { numRuns: 2000 },
  )
})
