import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { runCanaryFlow } from './canary-flow.ts'
import type { Answer, Service } from './service.ts'
import { ALL, startService } from './service.ts'
import { troubledStore } from './troubled-store.ts'
import type { Mark, Sources } from './traces.ts'
import { mark, markOf, tablesOf, tracesIn } from './traces.ts'

// Promise 2: every flow with marked values, and a search for the marks wherever something is written down or answered.

const C = '/v1/workspaces/acme/credentials'
const store = await troubledStore(t, {
  tuning: { breakerFailuresMax: 1_000 },
  seen: { links: { acme: ['apps/acme/'] } },
})
const service = await startService(
  t,
  { rotationEveryMs: 50, relocationEveryMs: 50, copyGraceSeconds: 0, versionsKept: 4 },
  { moreKeys: 1, stores: [store.store] },
)
const { ground } = service
const kept = mark('a value that is kept')
const member = mark('the name of a member')
const refused = mark('what is refused')
const writerToken = await service.identity('writer', [ALL])
const writer = service.as(writerToken)

/** What was answered, without what this answer alone may carry. */
function withoutWhatMayLeave({ operationId, status, headers, json, text }: Answer): string {
  const head = JSON.stringify(headers)
  if (operationId === 'leaseCredential' && status === 201)
    return head + JSON.stringify({ ...json, value: undefined })
  if (operationId === 'issueToken' && status === 201)
    return head + JSON.stringify({ ...json, token: undefined })
  if (operationId !== 'leaseCredentials' || status !== 200) return head + text
  return head + JSON.stringify(json.results.map((one: object) => ({ ...one, value: undefined })))
}

async function sourcesOf({ ground, answers, log }: Service): Promise<Sources> {
  const [place] = await ground.sql(`select current_setting('data_directory') as cluster`)
  return {
    ...(await tablesOf(ground.sql)),
    'the log': log(),
    'what the store was asked for, by name': store.calls.join('\n'),
    'what the store’s guard told': JSON.stringify(store.events),
    'the log of PostgreSQL': readFileSync(join(dirname(place!['cluster']), 'log'), 'utf8'),
    ...Object.fromEntries(
      Object.entries(Object.groupBy(answers, ({ operationId }) => operationId ?? 'unknown')).map(
        ([id, some]) => [`an answer of ${id}`, some!.map(withoutWhatMayLeave).join('\n')],
      ),
    ),
  }
}

await runCanaryFlow({ t, service, store, writer, kept, member, refused })
const sources = await sourcesOf(service)

t.test('the flow calls every operation of both listeners, and each is allowed at least once', async (t) => {
  const { answers, contract } = service
  for (const { operation } of contract.operations) {
    const statuses = answers
      .filter((one) => one.operationId === operation.operationId)
      .map(({ status }) => status)
    t.ok(
      statuses.some((status) => status < 300),
      operation.operationId,
    )
  }
  for (const status of [400, 401, 404, 409, 410, 412, 413, 415, 500]) {
    t.ok(
      answers.some((answer) => answer.status === status),
      `${status} was answered`,
    )
  }
  const leased = answers.filter(
    ({ operationId, status }) => operationId === 'leaseCredential' && status === 201,
  )
  t.ok(
    leased.some(({ json }) => json.value.password === kept.text),
    'values did leave with their leases',
  )
})

t.test(
  'no value is written down or answered but by its lease, nor a digest of it, nor what is refused',
  async (t) => {
    t.same(tracesIn(sources, [kept, member, refused]), [])
  },
)

t.test(
  'a store keeps the values that were put there, in the clear, and nothing that was refused',
  async (t) => {
    const texts = { 'the store': [...store.kept.values()].join('\n') }
    const found = tracesIn(texts, [kept, member, refused])
    t.ok(found.includes('the store holds a value that is kept: plain'))
    t.ok(found.includes('the store holds the name of a member: plain'))
    t.same(tracesIn(texts, [refused]), [])
    const leased = service.answers.filter(({ json }) => json?.lease && json.value)
    for (const name of ['kept-outside', 'linked', 'linked-member', 'linked-text'])
      t.ok(
        leased.some(({ json }) => json.lease.credential === name),
        `${name} did leave with its lease`,
      )
    const codes = service.answers.map(({ json }) => json?.code)
    for (const code of ['store_rejected', 'store_denied', 'store_unavailable'])
      t.ok(codes.includes(code), code)
  },
)

t.test('no token, no key and no password of the database is written down or answered', async (t) => {
  const secrets: Mark[] = []
  const issued = service.answers.flatMap(({ operationId, status, json }) =>
    operationId === 'issueToken' && status === 201 ? [json.token as string] : [],
  )
  for (const [index, token] of [service.adminToken, writerToken, ...issued].entries()) {
    secrets.push(markOf(`token ${index}`, token, token, false))
    secrets.push(markOf(`the secret part of token ${index}`, token.split('_')[2]!))
  }
  for (const [index, key] of ground.keys.entries()) {
    secrets.push(markOf(`key ${index}`, key.reveal()))
    const bytes = Buffer.from(key.reveal(), 'base64url')
    secrets.push(markOf(`key ${index} in hex`, bytes.toString('hex')))
    secrets.push(markOf(`the signing half of key ${index}`, bytes.subarray(0, 16).toString('hex')))
  }
  for (const url of [ground.databaseUrl, ground.ownerUrl]) {
    secrets.push(markOf('a database password', decodeURIComponent(new URL(url.reveal()).password)))
  }
  t.ok(secrets.length >= 12)
  t.same(tracesIn(sources, secrets), [])
})

t.test('the search looks at every table, the logs and all answers, and finds what is there', async (t) => {
  for (const table of [
    'credentials',
    'copies',
    'leases',
    'audit_events',
    'tokens',
    'rotations',
    'processes',
  ]) {
    t.ok(sources[`the table public.${table}`]!.length > 0, table)
  }
  t.ok(sources['the log']!.includes('a request failed'))
  t.ok(sources['the log of PostgreSQL']!.includes('ready to accept connections'))
  const shown = markOf('a name', 'orders-of-the-canary')
  await writer('PUT', `${C}/${shown.text}`, { connector: 'c', value: 1 })
  const traces = tracesIn(await sourcesOf(service), [shown])
  t.ok(traces.includes('the table public.credentials holds a name: plain'))
  t.ok(traces.includes('the table public.audit_events holds a name: plain'))
  t.ok(traces.includes('an answer of putCredential holds a name: plain'))
})

t.test('a mark that leaks into a new table, a log or an answer is found in each of its forms', async (t) => {
  const bytes = Buffer.from(`x${kept.text}`)
  await ground.sql('create schema corner')
  await ground.sql('create table corner.notes (note bytea)')
  await ground.sql('insert into corner.notes values ($1)', [bytes])
  const found = tracesIn(await tablesOf(ground.sql), [kept, member])
  t.same(found, ['the table corner.notes holds a value that is kept: hex'])
  await ground.sql('drop schema corner cascade')
  for (const encoding of ['base64', 'base64url', 'hex'] as const) {
    t.not(tracesIn({ log: `x ${bytes.toString(encoding)}` }, [kept]).length, 0, encoding)
  }
  try {
    JSON.parse(`{"a":${refused.text}}`)
  } catch (error) {
    t.not(tracesIn({ log: String(error) }, [refused]).length, 0, 'what a parser quotes')
  }
  for (const form of kept.forms.values()) t.not(tracesIn({ log: `"${form}"` }, [kept]).length, 0)
  t.same(tracesIn({ log: mark('another').text }, [kept, member, refused]), [])
})
