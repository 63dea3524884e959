import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { VaultError } from '../../src/core/errors.ts'
import * as grants from '../../src/core/grants.ts'
import type { Grant, Subject } from '../../src/core/grants.ts'

const subject: Subject = {
  workspace: 'acme',
  connector: 'source-postgres',
  name: 'orders.db',
  labels: { tier: 'gold' },
}
const everywhere = (...actions: string[]): Grant => ({ actions, workspaces: ['*'] })

/** The same match by a regular expression: slow on purpose-made patterns, but plainly right. */
function model(pattern: string, text: string): boolean {
  const parts = pattern.split('*').map((part) => RegExp.escape(part))
  return new RegExp(`^${parts.join('.*')}$`, 'su').test(text)
}

function refusedAt(grant: Partial<Grant>): string | undefined {
  try {
    grants.checkGrants([everywhere('lease:issue'), { ...everywhere('lease:read'), ...grant }], '/grants')
    return undefined
  } catch (error) {
    if (!(error instanceof VaultError)) throw error
    assert.equal(error.code, 'invalid_request')
    return error.errors![0]!.pointer
  }
}

t.test('a pattern matches what the regular expression of the same meaning matches', async () => {
  const unit = fc.constantFrom('a', 'b', '.', '\n', '😀', '\\')
  const pattern = fc.string({ unit: fc.oneof(unit, fc.constant('*')), maxLength: 10 })
  fc.assert(
    fc.property(pattern, fc.string({ unit, maxLength: 12 }), (pattern, text) => {
      assert.equal(grants.matches(pattern, text), model(pattern, text))
    }),
    { numRuns: 5000 },
  )
  fc.assert(
    fc.property(fc.array(fc.string({ unit, maxLength: 3 })), (parts) => {
      assert.ok(grants.matches(parts.join('*'), parts.join('ab')))
    }),
  )
})

t.test('head and tail of a pattern do not share a character', async (t) => {
  t.notOk(grants.matches('ab*ba', 'aba'))
  t.ok(grants.matches('ab*ba', 'abba'))
  t.notOk(grants.matches('', 'a'))
  t.ok(grants.matches('', ''))
  t.ok(grants.matches('***', ''))
})

t.test('a pattern made to blow up takes no longer than another', async (t) => {
  const start = performance.now()
  t.notOk(grants.matches('a*a*a*a*a*a*a*a*b', 'a'.repeat(1_000_000)))
  t.notOk(grants.matches('*a*a*a*a*a*a*ab*', 'a'.repeat(1_000_000)))
  t.ok(performance.now() - start < 10_000)
})

t.test('a pattern for SQL escapes what SQL would take for its own', async (t) => {
  t.equal(grants.likePattern('a*b'), 'a%b')
  t.equal(grants.likePattern('100%_\\*'), '100\\%\\_\\\\%')
})

t.test('a list that is left out matches everything and an empty one nothing', async (t) => {
  t.ok(grants.covers(everywhere(), subject))
  for (const list of ['workspaces', 'connectors', 'credentials'] as const) {
    t.notOk(grants.covers({ ...everywhere(), [list]: [] }, subject), list)
    t.notOk(grants.covers({ ...everywhere(), [list]: ['other', 'x*'] }, subject), list)
  }
  t.ok(grants.covers({ ...everywhere(), labels: {} }, subject))
  const narrow = {
    workspaces: ['x', 'ac*'],
    connectors: ['source-*'],
    credentials: ['*.db'],
    labels: { tier: 'g*' },
  }
  t.ok(grants.covers({ actions: [], ...narrow }, subject))
})

t.test('each label of a grant has to be there and match', async (t) => {
  t.notOk(grants.covers({ ...everywhere(), labels: { tier: 'gold', team: '*' } }, subject))
  t.notOk(grants.covers({ ...everywhere(), labels: { tier: 'silver' } }, subject))
  t.notOk(grants.covers({ ...everywhere(), labels: { constructor: '*' } }, subject))
})

t.test('grants add up, but action and cover come from the same one', async (t) => {
  const elsewhere: Grant = { actions: ['lease:issue'], workspaces: ['other'] }
  t.notOk(grants.allows([elsewhere, everywhere('lease:read')], 'lease:issue', subject))
  t.ok(grants.allows([elsewhere, everywhere('lease:*')], 'lease:issue', subject))
  t.notOk(grants.allows([], 'lease:issue', subject))
})

t.test('a wildcard means its own kind and nothing else', async (t) => {
  const allowed = (pattern: string) =>
    grants.ACTIONS.filter((action) => grants.allows([everywhere(pattern)], action, subject))
  for (const kind of ['credential', 'lease', 'admin']) {
    const all = grants.ACTIONS.filter((action) => action.startsWith(`${kind}:`))
    t.same(allowed(`${kind}:*`), all)
    t.same(grants.expandActions([`${kind}:*`, all[0]!]), all)
  }
  t.same(allowed('*'), [])
  t.same(grants.expandActions(['lease:read', 'credential:read', 'lease:read']), [
    'credential:read',
    'lease:read',
  ])
  t.equal(grants.expandActions([...grants.ACTION_WILDCARDS]).length, 17)
})

t.test('an admin grant lets nobody know of a credential or a workspace', async (t) => {
  const admin = [everywhere('admin:*')]
  t.notOk(grants.mayKnow(admin, subject))
  t.notOk(grants.inWorkspace(admin, 'acme'))
  t.ok(grants.allowsAdmin(admin, 'admin:keys'))
  t.notOk(grants.allowsAdmin([everywhere('admin:audit', 'credential:*')], 'admin:keys'))
})

t.test('whoever has any grant over a credential may know of it', async (t) => {
  const here: Grant = { actions: ['lease:read'], workspaces: ['acme'], credentials: ['orders.*'] }
  t.ok(grants.mayKnow([here], subject))
  t.notOk(grants.mayKnow([here], { ...subject, name: 'other' }))
  t.ok(grants.inWorkspace([here], 'acme'))
  t.notOk(grants.inWorkspace([here], 'acme2'))
  t.ok(grants.hasAction([here], 'lease:read'))
  t.ok(grants.hasAction([here], 'lease:read', 'acme'))
  t.notOk(grants.hasAction([here], 'lease:read', 'other'))
  t.notOk(grants.hasAction([here], 'credential:read'))
})

t.test('a change of labels that brings a credential under one more leasing grant is seen', async (t) => {
  const gold: Grant = { ...everywhere('lease:*'), labels: { tier: 'gold' } }
  const silver: Grant = { ...everywhere('lease:issue'), labels: { tier: 'silver' } }
  const after = { ...subject, labels: { tier: 'silver' } }
  t.ok(grants.newlyLeasable([gold, silver], subject, after))
  t.notOk(grants.newlyLeasable([gold], subject, after))
  t.notOk(grants.newlyLeasable([silver], subject, subject))
  t.notOk(grants.newlyLeasable([silver], after, { ...after, name: 'other' }))
  t.notOk(grants.newlyLeasable([{ ...silver, actions: ['lease:read'] }], subject, after))
})

t.test('what a grant may not say is refused where it stands', async (t) => {
  const stars = (count: number) => 'a*'.repeat(count)
  const cases: [Partial<Grant>, string | undefined][] = [
    [{ actions: [] }, undefined],
    [{ actions: ['lease:issue', 'lease:steal'] }, '/grants/1/actions/1'],
    [{ actions: ['*'] }, '/grants/1/actions/0'],
    [{ workspaces: ['acme', 'a*-b', 'acme'] }, undefined],
    [{ workspaces: ['acme', 'Acme'] }, '/grants/1/workspaces/1'],
    [{ workspaces: ['a'.repeat(64)] }, '/grants/1/workspaces/0'],
    [{ workspaces: [''] }, '/grants/1/workspaces/0'],
    [{ workspaces: ['a\n'] }, '/grants/1/workspaces/0'],
    [{ connectors: [stars(8)] }, undefined],
    [{ connectors: [stars(9)] }, '/grants/1/connectors/0'],
    [{ connectors: ['a.b'] }, '/grants/1/connectors/0'],
    [{ credentials: ['Orders_*.db-1'] }, undefined],
    [{ credentials: ['a/b'] }, '/grants/1/credentials/0'],
    [{ credentials: ['a'.repeat(129)] }, '/grants/1/credentials/0'],
    [{ credentials: [stars(9)] }, '/grants/1/credentials/0'],
    [{ labels: { tier: '😀'.repeat(128) } }, undefined],
    [{ labels: { tier: 'a'.repeat(129) } }, '/grants/1/labels'],
    [{ labels: { tier: stars(9) } }, '/grants/1/labels'],
    [{ labels: { tier: 'a\0' } }, '/grants/1/labels'],
    [{ labels: { tier: '\ud800' } }, '/grants/1/labels'],
    [{ labels: { 'Not a slug': 'a' } }, '/grants/1/labels'],
    [{ lease_ttl_seconds_max: 1 }, undefined],
    [{ lease_ttl_seconds_max: 3600 }, undefined],
    ...[0, 3601, 1.5, Number.NaN].map((seconds): [Partial<Grant>, string] => [
      { lease_ttl_seconds_max: seconds },
      '/grants/1/lease_ttl_seconds_max',
    ]),
  ]
  for (const [grant, pointer] of cases) t.equal(refusedAt(grant), pointer, JSON.stringify(grant))
})

t.test('a grant with an admin action has no other limit', async (t) => {
  for (const actions of [['admin:*'], ['lease:read', 'admin:health']]) {
    t.equal(refusedAt({ actions }), undefined)
    for (const workspaces of [[], ['acme'], ['**'], ['*', '*']]) {
      t.equal(refusedAt({ actions, workspaces }), '/grants/1/workspaces')
    }
    t.equal(refusedAt({ actions, connectors: ['*'] }), '/grants/1/connectors')
    t.equal(refusedAt({ actions, credentials: [] }), '/grants/1/credentials')
    t.equal(refusedAt({ actions, labels: {} }), '/grants/1/labels')
    t.equal(refusedAt({ actions, lease_ttl_seconds_max: 60 }), '/grants/1/lease_ttl_seconds_max')
  }
})
