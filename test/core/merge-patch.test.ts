import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { mergePatch } from '../../src/core/json-value.ts'

// RFC 7396, appendix A: original, patch, result.
const TABLE: [string, string, string][] = [
  ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
  ['{"a":"b"}', '{"a":null}', '{}'],
  ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
  ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
  ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
  ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
  ['["a","b"]', '["c","d"]', '["c","d"]'],
  ['{"a":"b"}', '["c"]', '["c"]'],
  ['{"a":"foo"}', 'null', 'null'],
  ['{"a":"foo"}', '"bar"', '"bar"'],
  ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
  ['[1,2]', '{"a":"b","c":null}', '{"a":"b"}'],
  ['{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
]

t.test('every line of the table in RFC 7396 comes out, members in their order', async (t) => {
  for (const [original, patch, result] of TABLE) {
    t.equal(JSON.stringify(mergePatch(JSON.parse(original), JSON.parse(patch))), result)
  }
})

t.test('patching leaves both arguments as they were, and a second time changes nothing', async () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), fc.json({ maxDepth: 4 }), (targetText, patchText) => {
      const [target, patch] = [JSON.parse(targetText), JSON.parse(patchText)]
      const before = JSON.stringify([target, patch])
      const once = mergePatch(target, patch)
      assert.equal(JSON.stringify([target, patch]), before)
      assert.equal(JSON.stringify(mergePatch(once, patch)), JSON.stringify(once))
    }),
  )
})

t.test('a member that is named like a part of a prototype is a member', async (t) => {
  const patch = JSON.parse(
    '{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}},"toString":{"a":1}}',
  )
  const merged = mergePatch({}, patch) as object
  t.equal(JSON.stringify(merged), JSON.stringify(patch))
  t.equal(Object.getPrototypeOf(merged), Object.prototype)
  t.equal(({} as Record<string, unknown>)['admin'], undefined)
  t.equal(
    JSON.stringify(mergePatch(patch, JSON.parse('{"__proto__":null,"constructor":null}'))),
    '{"toString":{"a":1}}',
  )
})

t.test('a patch deeper than any body is refused before it overflows', async (t) => {
  const deep = JSON.parse('{"a":'.repeat(100_000) + '1' + '}'.repeat(100_000))
  t.throws(() => mergePatch({}, deep), { code: 'invalid_request' })
  const allowed = '{"a":'.repeat(72) + '1' + '}'.repeat(72)
  t.equal(JSON.stringify(mergePatch(1, JSON.parse(allowed))), allowed)
})
