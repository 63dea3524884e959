import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { VaultError } from '../../src/core/errors.ts'
import { parseStrictJson } from '../../src/http/strict-json.ts'

function parse(text: string): unknown {
  return parseStrictJson(Buffer.from(text))
}

/** The pointer of the refusal, or undefined where nothing is refused. */
function refusedAt(act: () => unknown): string | undefined {
  try {
    act()
    return undefined
  } catch (error) {
    if (!(error instanceof VaultError)) throw error
    assert.equal(error.code, 'invalid_request')
    return error.errors![0]!.pointer
  }
}

function nested(depth: number): string {
  return '['.repeat(depth) + ']'.repeat(depth)
}

t.test('any JSON document that breaks no rule is accepted and comes back as it was', async () => {
  fc.assert(
    fc.property(
      fc.json({ maxDepth: 5, noUnicodeString: false }),
      fc.integer({ min: 0, max: 4 }),
      (text, indent) => {
        fc.pre(!text.includes('-0') && !text.includes('__proto__') && text.isWellFormed())
        const spaced = JSON.stringify(JSON.parse(text), null, indent)
        const value = parse(spaced)
        assert.equal(JSON.stringify(value, null, indent), spaced)
        assert.deepEqual(value, JSON.parse(text))
      },
    ),
    { numRuns: 500 },
  )
})

/** A JSON text put together member by member, with whether it breaks a rule. */
interface Written {
  text: string
  faulty: boolean
}
const name = fc.constantFrom(
  '"a"',
  '"\\u0061"',
  '"b"',
  '"value"',
  '"v\\u0061lue"',
  '":\\""',
  '"{\\\\"',
  '"__proto__"',
)
const leaf = fc.constantFrom(
  { text: '1', faulty: false },
  { text: '-1.50e+2', faulty: false },
  { text: '"\\\\"', faulty: false },
  { text: '"\\":[{1e999"', faulty: false },
  { text: '"\\ud83d\\ude00"', faulty: false },
  { text: 'true', faulty: false },
  { text: '-0', faulty: true },
  { text: '1e400', faulty: true },
  { text: '"\\ud800"', faulty: true },
)
const { written } = fc.letrec<{ written: Written; object: Written; array: Written }>((tie) => ({
  written: fc.oneof({ depthSize: 'small', withCrossShrink: true }, leaf, tie('object'), tie('array')),
  object: fc.array(fc.tuple(name, tie('written')), { maxLength: 3 }).map((members) => {
    const names = members.map(([name]) => JSON.parse(name))
    return {
      text: `{ ${members.map(([name, { text }]) => `${name} :${text}`).join(' , ')}}`,
      faulty:
        new Set(names).size < names.length ||
        names.includes('__proto__') ||
        members.some(([, { faulty }]) => faulty),
    }
  }),
  array: fc.array(tie('written'), { maxLength: 3 }).map((items) => ({
    text: `[${items.map(({ text }) => text).join(',\n')}]`,
    faulty: items.some(({ faulty }) => faulty),
  })),
}))

t.test('a document is refused if and only if a rule is broken somewhere in it', async (t) => {
  let refused = 0
  fc.assert(
    fc.property(written, ({ text, faulty }) => {
      if (faulty) refused++
      assert.equal(refusedAt(() => parse(text)) !== undefined, faulty)
    }),
    { numRuns: 3000 },
  )
  t.ok(refused > 300 && refused < 2900)
})

t.test('a refusal points at the member value if and only if the fault lies under it', async () => {
  fc.assert(
    fc.property(written, ({ text, faulty }) => {
      fc.pre(faulty)
      assert.equal(
        refusedAt(() => parse(`{"name":"n","value":${text},"labels":{"value":1}}`)),
        '/value',
      )
      assert.equal(
        refusedAt(() => parse(`{"value":{"a":1},"labels":${text},"store":"s"}`)),
        '',
      )
      assert.equal(
        refusedAt(() => parse(`[{"value":${text}}]`)),
        '',
      )
    }),
  )
})

t.test('a number is kept if and only if its decimal value and its sign survive', async (t) => {
  const exact = [
    '0',
    '1',
    '-1',
    '1.0',
    '1e2',
    '1E+2',
    '0.1',
    '0.10',
    '-0.1',
    '0.0',
    '0e5',
    '0e999999999999999999999',
  ]
  exact.push(
    '100000000000000000000',
    '9007199254740991',
    '9007199254740992.0',
    '5e-324',
    '1.7976931348623157e308',
  )
  const lossy = [
    '-0',
    '-0.0',
    '-0e1',
    '12345678901234567890',
    '9007199254740993',
    '1e400',
    '-1e400',
    '1e-400',
  ]
  lossy.push(
    '0.1000000000000000055511151231257827',
    '1e99999999999999999999',
    '1e-99999999999999999999',
    '2e-324',
  )
  lossy.push('0.30000000000000004440', '1.79769313486231570000000001e308')
  for (const source of exact) t.same(parse(`{"n":${source}}`), { n: Number(source) }, source)
  for (const source of lossy) {
    t.equal(
      refusedAt(() => parse(`{"n":${source}}`)),
      '',
      source,
    )
    t.equal(
      refusedAt(() => parse(source)),
      '',
      source,
    )
  }
})

t.test('every number that JavaScript writes is exact', async () => {
  fc.assert(
    fc.property(fc.double({ noDefaultInfinity: true, noNaN: true }), (number) => {
      assert.equal(parse(JSON.stringify(number)), number === 0 ? 0 : number)
      const parsed = parse((number === 0 ? 1 : number).toExponential())
      assert.equal(parsed, number === 0 ? 1 : number)
    }),
  )
})

t.test('equal member names are refused even with equal values, spelled differently or hidden', async (t) => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"a":1,"b":2,"a":3}',
    '{"a":1,"\\u0061":1}',
    '{"a":{"b":1,"c":2},"a":{"b":1,"c":2}}',
    '{"a":[],"a":[]}',
    '[{"a":"x","a":"x"}]',
    '{"":1,"":1}',
  ]) {
    t.equal(
      refusedAt(() => parse(text)),
      '',
      text,
    )
  }
  t.equal(
    refusedAt(() => parse('{"value":1,"value":1}')),
    '',
  )
  t.same(parse('{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}'), { a: { a: { a: 1 } }, b: [{ a: 1 }, { a: 1 }] })
  t.same(parse('{"v\\u0061lue":{"a":1,"b":2}}'), { value: { a: 1, b: 2 } })
})

t.test(
  'depth bombs are refused and do not overflow, also where a later member would replace them',
  async (t) => {
    const bomb = '['.repeat(200_000) + ']'.repeat(200_000)
    t.equal(
      refusedAt(() => parse(bomb)),
      '',
    )
    t.equal(
      refusedAt(() => parse(`{"value":${bomb},"value":1}`)),
      '/value',
    )
    t.equal(
      refusedAt(() => parse(`{"a":`.repeat(200_000) + '1' + '}'.repeat(200_000))),
      '',
    )
    t.same(parse(nested(72)), JSON.parse(nested(72)))
    t.equal(
      refusedAt(() => parse(nested(73))),
      '',
    )
  },
)

t.test('what is not UTF-8 or not JSON is refused', async (t) => {
  for (const bytes of [
    Buffer.from([0x22, 0xff, 0x22]),
    Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]),
    Buffer.from([0x22, 0xc3]),
    Buffer.from('\ufeff{}'),
    Buffer.from('\ufeff{}', 'utf16le'),
    ...[
      '',
      ' ',
      '{',
      '{a:1}',
      "{'a':1}",
      '[1,]',
      '01',
      '1.',
      '.5',
      '+1',
      'NaN',
      '1 2',
      '"\n"',
      '"\\x"',
      '// c\n1',
    ].map((text) => Buffer.from(text)),
  ]) {
    t.equal(
      refusedAt(() => parseStrictJson(bytes)),
      '',
    )
  }
})

t.test('no refusal repeats what was sent', async (t) => {
  for (const text of [
    '{"hidden-name": hidden}',
    '{"hidden-name":"\\ud800"}',
    '{"hidden":1e400}',
    '{"hidden":1,"hidden":1}',
  ]) {
    try {
      parse(text)
      t.fail('nothing was refused')
    } catch (error) {
      t.notMatch(inspect(error, { depth: 9, showHidden: true }), /hidden["-]|1e400/)
    }
  }
})

t.test('a megabyte of quotes, backslashes or digits is read in linear time', async (t) => {
  const million = 1_000_000
  const texts = [
    `"${'\\"'.repeat(million / 2)}"`,
    `"${'\\\\'.repeat(million / 2)}"`,
    `[${'"",'.repeat(million / 4)}1]`,
  ]
  const start = performance.now()
  for (const text of texts) t.equal(typeof parse(text) === 'undefined', false)
  for (const digits of [
    '9'.repeat(million),
    `0.${'0'.repeat(million)}1`,
    `1${'0'.repeat(million)}e-${million}`,
  ]) {
    refusedAt(() => parse(digits))
  }
  t.ok(performance.now() - start < 3000)
})
