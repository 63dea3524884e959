import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { ALL, startService } from '../service.ts'

const C = '/v1/workspaces/acme/credentials'
const service = await startService(t)
const writer = service.as(await service.identity('writer', [ALL]))
const bodyOf = (valueText: string): Buffer => Buffer.from(`{"value":${valueText}}`)
await writer('PUT', `${C}/value`, { connector: 'c', value: 'first' })

/** Puts a JSON text as the value and leases it: the text that comes back, byte for byte. */
async function throughTheVault(valueText: string, name = 'value'): Promise<string> {
  const put = await writer('PUT', `${C}/${name}/value`, bodyOf(valueText))
  assert.equal(put.status, 200, put.text)
  const { text } = await writer('POST', `${C}/${name}/leases`)
  const begin = text.indexOf(',"value":')
  assert.ok(begin > 0 && text.endsWith('}'))
  return text.slice(begin + ',"value":'.length, -1)
}

t.test('any JSON value comes back byte for byte as compact JSON', async () => {
  const string = fc.string({
    unit: fc.oneof(
      fc.constantFrom('\0', '😀', '\u2028', '"', '\\', '\n', 'é'),
      fc.string({ minLength: 1, maxLength: 1 }),
    ),
  })
  const number = fc.oneof(
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((one) => one + 0),
  )
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom(null, true, false, '', 0),
      string,
      number,
      fc.array(tie('value'), { maxLength: 4 }),
      fc
        .uniqueArray(
          fc.tuple(
            fc.oneof(string, fc.constantFrom('10', '2', 'b', '', 'constructor', 'toJSON')),
            tie('value'),
          ),
          {
            maxLength: 4,
            selector: ([name]) => name,
          },
        )
        .map((members) => Object.fromEntries(members.filter(([name]) => name !== '__proto__'))),
    ),
  }))
  await fc.assert(
    fc.asyncProperty(value, async (one) => {
      const text = JSON.stringify(one)
      assert.equal(await throughTheVault(text), text)
    }),
    { numRuns: 60 },
  )
})

t.test('what is easily lost is kept', async (t) => {
  const deep = `${'['.repeat(64)}${']'.repeat(64)}`
  const values = [
    'null',
    '""',
    '"\\u0000"',
    '{"":""}',
    '{"a":null}',
    '[]',
    '{}',
    'false',
    '0',
    '"😀\\u2028\\ud7ff"',
    '9007199254740991',
    '-1e-7',
    '1e+300',
    '0.1',
    '{"constructor":1,"hasOwnProperty":2,"toString":null,"toJSON":3}',
    '{"z":1,"a":2,"M":3}',
    '"</script>\\u001f\\u007f"',
    '"**********"',
    '{"_secret":"strongroom:acme/other"}',
    deep,
    `{"a":${'['.repeat(63)}${']'.repeat(63)}}`,
  ]
  for (const value of values) {
    const written = JSON.stringify(JSON.parse(value))
    t.equal(await throughTheVault(value), written, value.slice(0, 40))
  }
  t.equal(
    await throughTheVault('{"b":1,"10":2,"9":3}'),
    '{"9":3,"10":2,"b":1}',
    'whole numbers move to the front',
  )
  t.equal(await throughTheVault(' { "a" : [ 1.50 , 1e2 ] } '), '{"a":[1.5,100]}', 'the same numbers, compact')
  t.equal(await throughTheVault('"\\u00e9\\/"'), '"é/"', 'the same text, however it was escaped')
})

t.test('a value takes 32 KiB of compact UTF-8, and not one byte more', async (t) => {
  for (const [filler, bytes] of [
    ['x', 1],
    ['é', 2],
    ['😀', 4],
    ['\\n', 2],
  ] as const) {
    const most = `"${filler.repeat(Math.floor(32_766 / bytes))}${'x'.repeat(32_766 % bytes)}"`
    t.equal(Buffer.byteLength(most), 32_768)
    t.equal(await throughTheVault(most), most)
    const over = await writer('PUT', `${C}/value/value`, bodyOf(most.replace(/"$/, 'x"')))
    t.match([over.status, over.json.code], [413, 'value_too_large'])
  }
  const spaced = `[${' '.repeat(100_000)}1]`
  t.equal(await throughTheVault(spaced), '[1]', 'what is not in the compact text does not count')
  for (const [method, url, body] of [
    ['POST', C, { name: 'large', connector: 'c' }],
    ['PUT', `${C}/large`, { connector: 'c' }],
    ['PATCH', `${C}/value/value`, {}],
  ] as const) {
    const { status, json } = await writer(method, url, { ...body, value: 'x'.repeat(32_767) })
    t.match([status, json.code], [413, 'value_too_large'], method)
  }
  const body = await writer('PUT', `${C}/value/value`, bodyOf(`"${'x'.repeat(2 ** 20)}"`))
  t.match([body.status, body.json.code], [413, 'body_too_large'])
  t.equal((await writer('GET', `${C}/large`)).status, 404)
})

t.test('what writing again would change is refused, and nothing of it is repeated', async (t) => {
  const refused = {
    'a number that is not exact': [
      '9007199254740993',
      '0.1000000000000000055',
      '1e400',
      '1e-400',
      '-0',
      '-0.0',
    ],
    'half of a surrogate pair': ['"\\ud800"', '"\\udc00\\ud800"', '{"\\udfff":1}'],
    'the member name __proto__': ['{"__proto__":1}', '{"a":[{"\\u005f_proto__":{}}]}'],
    'equal member names': ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '[{"x":{"b":1,"b":2}}]'],
    'more than 64 levels': [`${'['.repeat(65)}${']'.repeat(65)}`, `${'{"a":'.repeat(65)}1${'}'.repeat(65)}`],
    'what is no JSON': ['NaN', "'a'", '[1,]', '01', '"\t"', '', 'undefined', '\ufeff1'],
  }
  const places = [
    ['POST', C, ',"name":"refused","connector":"c"'],
    ['PUT', `${C}/refused`, ',"connector":"c"'],
    ['PUT', `${C}/value/value`, ''],
    ['PATCH', `${C}/value/value`, ''],
  ] as const
  for (const [why, texts] of Object.entries(refused)) {
    for (const text of texts) {
      for (const [method, url, more] of places) {
        const { status, json } = await writer(method, url, Buffer.from(`{"value":${text}${more}}`))
        t.match([status, json.code], [400, 'invalid_request'], `${why}: ${text.slice(0, 40)} in ${method}`)
      }
    }
  }
  const bytes = Buffer.concat([Buffer.from('{"value":"'), Buffer.from([0xff]), Buffer.from('"}')])
  t.equal((await writer('PUT', `${C}/value/value`, bytes)).status, 400, 'what is not UTF-8')
  t.equal((await writer('GET', `${C}/refused`)).status, 404)
})

t.test('equal values make no version, whatever their spelling', async (t) => {
  const { json } = await writer('PUT', `${C}/spelled`, {
    connector: 'c',
    value: { a: [1, 'é'], b: { c: null } },
  })
  for (const text of [
    '{"b":{"c":null},"a":[1.0,"\\u00e9"]}',
    '{ "a" : [ 1e0 , "é" ] , "b" : { "c" : null } }',
  ]) {
    const put = await writer('PUT', `${C}/spelled/value`, bodyOf(text))
    t.match(put.json, { changed: false, version: json.version })
  }
  for (const text of ['{"b":{},"a":[1,"é"]}', '{"b":{"c":null},"a":["é",1]}', '{"b":{"c":0},"a":[1,"é"]}']) {
    t.equal((await writer('PUT', `${C}/spelled/value`, bodyOf(text))).json.changed, true, text)
  }
})

const cases = join(import.meta.dirname, '../../../shared/data/airbyte-cases')
const absent = existsSync(cases) ? false : `${cases} is absent`
t.test("Airbyte's configurations come back as they were put", { skip: absent }, async (t) => {
  const files = globSync('*/{full,update,partial}_config*.json', { cwd: cases }).toSorted()
  t.ok(files.length >= 18)
  for (const [index, file] of files.entries()) {
    const config = JSON.parse(readFileSync(join(cases, file), 'utf8'))
    await writer('PUT', `${C}/airbyte-${index}`, { connector: 'c', value: 'before' })
    t.equal(await throughTheVault(JSON.stringify(config), `airbyte-${index}`), JSON.stringify(config), file)
  }
})
