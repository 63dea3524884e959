import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { equalValues, isDeeperThan } from '../../src/core/json-value.ts'

t.test('a scalar has depth 0, and no depth overflows', async (t) => {
  const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
  for (const text of ['0', 'null', '""', '[]', nested(64), `{"a":${nested(63)},"b":1}`])
    t.notOk(isDeeperThan(JSON.parse(text), 64), text)
  for (const text of [nested(65), `{"a":${nested(64)}}`, nested(100_000)])
    t.ok(isDeeperThan(JSON.parse(text), 64), text.slice(0, 100))
  t.ok(isDeeperThan([], 0))
  t.notOk(isDeeperThan('', 0))
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
