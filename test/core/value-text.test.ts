import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { equalValues, MAX_VALUE_BYTES, valueText } from '../../src/core/json-value.ts'

const TOO_DEEP = { code: 'invalid_request', errors: [{ pointer: '/value' }] }

function nested(depth: number): string {
  return '['.repeat(depth) + ']'.repeat(depth)
}

t.test('a value is at most 32 KiB as compact UTF-8', async (t) => {
  const fits = 'é'.repeat((MAX_VALUE_BYTES - 2) / 2)
  t.equal(Buffer.byteLength(valueText(fits).reveal()), MAX_VALUE_BYTES)
  for (const value of [`${fits}a`, { [fits]: 1 }, Array(20_000).fill(1)]) {
    t.throws(() => valueText(value), { code: 'value_too_large' })
  }
})

t.test('a value nests at most 64 deep, where a scalar has depth 0', async (t) => {
  for (const text of ['0', 'null', '""', '[]', nested(64), `{"a":${nested(63)},"b":1}`]) {
    t.equal(valueText(JSON.parse(text)).reveal(), text)
  }
  for (const text of [nested(65), `{"a":${nested(64)}}`, nested(100_000)]) {
    t.throws(() => valueText(JSON.parse(text)), TOO_DEEP)
  }
  t.throws(() => valueText(undefined), TOO_DEEP)
})

t.test('a value prints as a secret and keeps the order of its members', async (t) => {
  const text = valueText(JSON.parse(' { "b" : 1.0, "a" : [ ] } '))
  t.equal(`${text}`, '[secret]')
  t.equal(text.reveal(), '{"b":1,"a":[]}')
})

t.test('values are equal if and only if they are the same JSON, the order of members aside', async (t) => {
  const model = (value: unknown): string =>
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === 'object' && part !== null && !Array.isArray(part)
        ? { sorted: Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)) }
        : part,
    )
  const small = fc.jsonValue({ maxDepth: 3, stringUnit: fc.constantFrom('a', 'b') })
  fc.assert(
    fc.property(small, small, (a, b) => {
      fc.pre(!JSON.stringify([a, b]).includes('__proto__'))
      assert.equal(equalValues(a, b), model(a) === model(b))
      assert.ok(equalValues(a, structuredClone(a)))
    }),
  )
  t.ok(equalValues(JSON.parse('{"a":1,"b":{"c":[2],"d":3}}'), JSON.parse('{"b":{"d":3,"c":[2]},"a":1}')))
  for (const [a, b] of [
    [{}, []],
    [null, {}],
    [{ a: null }, {}],
    [{ a: 1 }, { b: 1 }],
    [{ toString: 1 }, { a: 1 }],
    // What the second inherits under this name is an object without members, too.
    [JSON.parse('{"__proto__":{}}'), { a: {} }],
    [
      [1, 2],
      [2, 1],
    ],
    [0, ''],
    ['1', 1],
    [false, null],
  ]) {
    t.notOk(equalValues(a, b))
    t.notOk(equalValues(b, a))
  }
})
