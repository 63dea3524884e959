import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import {
  askedCredentialName,
  askedSlug,
  isCredentialName,
  isSlug,
  parseTimestamp,
} from '../../src/core/names.ts'
import { isRefUnder } from '../../src/core/secret-store.ts'

t.test('a slug has 1 to 63 small letters, digits and inner hyphens', async (t) => {
  for (const name of ['a', '0', 'a-b', 'a--b', 'a'.repeat(63)]) t.ok(isSlug(name), name)
  for (const name of ['', '-', '-a', 'a-', 'A', 'a_b', 'a.b', 'a\n', 'é', 'a'.repeat(64), 1, null, ['a']]) {
    t.notOk(isSlug(name))
  }
})

t.test('what cannot be a name is asked for under what nobody is called', async (t) => {
  for (const name of ['', 'A b', '-a', 'a\0', 'a\n', '\ud800', 'a\udc00', '../a']) {
    t.equal(askedSlug(name), '')
    t.equal(askedCredentialName(name), '')
  }
  t.equal(askedSlug('acme'), 'acme')
  t.equal(askedSlug('Orders_DB'), '')
  t.equal(askedCredentialName('Orders_DB'), 'Orders_DB')
})

t.test("a credential's name may have capitals, dots and underscores, but not begin with one", async (t) => {
  for (const name of ['a', 'Z9', 'a.b_c-D', 'a..', 'a'.repeat(128)]) t.ok(isCredentialName(name), name)
  for (const name of [
    '',
    '.',
    '..',
    '_a',
    '-a',
    'a/b',
    'a b',
    'a\n',
    'a*',
    'é',
    'a'.repeat(129),
    7,
    undefined,
  ]) {
    t.notOk(isCredentialName(name))
  }
})

t.test('every time from 1970 to 9999 that a Date writes is read as the same time', async () => {
  const date = fc.date({
    min: new Date('1970-01-01T00:00:00Z'),
    max: new Date('9999-12-31T23:59:59.999Z'),
    noInvalidDate: true,
  })
  fc.assert(
    fc.property(date, (date) => {
      assert.equal(parseTimestamp(date.toISOString())?.getTime(), date.getTime())
    }),
  )
})

t.test('a fraction has 1 to 6 digits and what is finer than a millisecond is cut off', async (t) => {
  const milliseconds = (text: string) => parseTimestamp(text)?.getUTCMilliseconds()
  t.equal(milliseconds('2026-07-01T00:00:00Z'), 0)
  t.equal(milliseconds('2026-07-01T00:00:00.5Z'), 500)
  t.equal(milliseconds('2026-07-01T00:00:00.05Z'), 50)
  t.equal(milliseconds('2026-07-01T00:00:00.123999Z'), 123)
  t.equal(milliseconds('2026-07-01T00:00:00.1234567Z'), undefined)
  t.equal(milliseconds('2026-07-01T00:00:00.Z'), undefined)
})

t.test('a day that no calendar has, and a time that is not UTC, are no times', async (t) => {
  t.ok(parseTimestamp('2028-02-29T00:00:00Z'))
  for (const text of [
    '2026-02-29T00:00:00Z',
    '2100-02-29T00:00:00Z',
    '2026-04-31T00:00:00Z',
    '2026-00-10T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-01-00T00:00:00Z',
    '2026-01-32T00:00:00Z',
    '2026-01-01T24:00:00Z',
    '2026-01-01T00:60:00Z',
    '2016-12-31T23:59:60Z',
    '1969-12-31T23:59:59Z',
    '10000-01-01T00:00:00Z',
    '+002026-01-01T00:00:00Z',
    '2026-01-01T00:00:00',
    '2026-01-01T00:00:00z',
    '2026-01-01t00:00:00Z',
    '2026-01-01 00:00:00Z',
    '2026-01-01T00:00:00+00:00',
    '2026-01-01T00:00Z',
    '2026-01-01',
    '2026-01-01T00:00:00Z\n',
    '',
  ]) {
    t.equal(parseTimestamp(text), undefined, JSON.stringify(text))
  }
})

t.test('a ref is the prefix, a workspace and a UUID, and nothing that could be read otherwise', async (t) => {
  const id = '0190c2f4-7d1e-7abc-8def-0123456789ab'
  for (const [prefix, ref] of [
    ['strongroom', `strongroom/acme/${id}`],
    ['strongroom', `strongroom/a--b/${id}`],
    ['team/one', `team/one/acme/${id}`],
  ] as const)
    t.ok(isRefUnder(prefix, ref), ref)
  for (const ref of [
    '',
    'strongroom',
    'strongroom/',
    `strongroom/${id}`,
    `strongroom//${id}`,
    `strongroom/acme/${id}/`,
    `strongroom/acme/${id}/versions`,
    `strongroom/acme/more/${id}`,
    `strongroom/../acme/${id}`,
    `strongroom/../${id}`,
    `strongroom/%2e%2e/${id}`,
    `strongroom/acme/../${id}`,
    `strongroom/Acme/${id}`,
    `strongroom/-acme/${id}`,
    `strongroom/acme.b/${id}`,
    `strongroom/acme/${id}?a=b`,
    `strongroom/acme/${id}#a`,
    `strongroom/acme/${id}\n`,
    `strongroom/acme\n/${id}`,
    `strongroom/acme/${id.toUpperCase()}`,
    `strongroom/acme/${id.slice(1)}`,
    `strongroom/acme/x${id}`,
    `strongroom/acme/orders-db`,
    `/strongroom/acme/${id}`,
    `strongroom-evil/acme/${id}`,
    `Strongroom/acme/${id}`,
    `other/acme/${id}`,
  ])
    t.notOk(isRefUnder('strongroom', ref), JSON.stringify(ref))
})
