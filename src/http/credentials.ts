import type { FastifyPluginCallback } from 'fastify'
import type { CredentialInput, Credentials } from '../core/credentials.ts'
import type { ProblemCode } from '../core/errors.ts'
import { invalid } from '../core/errors.ts'
import type { CredentialFilter, Link } from '../core/records.ts'
import { CREDENTIAL_NAME_PATTERN, SLUG_PATTERN } from '../core/names.ts'
import {
  credentialAnswer,
  credentialMade,
  etagOf,
  hidden,
  ofStores,
  opening,
  sendWritten,
  toCredential,
} from './credential-answers.ts'
import { ifMatchOf } from './gate.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { claim, NAME, page, pageAnswer, pageRequest, UUID } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import * as form from './schemas.ts'

const described = { labels: form.labels, expires_at: form.timestamp }
const link = form.closed(
  {
    store: form.slug,
    locator: form.freeText(
      512,
      'Segments joined by `/`, under a prefix that the store opens to the workspace.',
    ),
    field: form.freeText(256, 'A top-level member of a JSON secret.'),
  },
  ['store', 'locator'],
)
const input = {
  connector: form.slug,
  value: form.value,
  link: { ...link, description: 'A secret that somebody else keeps: it is read when it is leased.' },
  store: form.slug,
  ...described,
  purge_at: form.timestamp,
}

const exampleValue = { host: 'db.internal', port: 5432, username: 'reader', password: 'correct horse' }
const exampleInput = { connector: 'source-postgres', value: exampleValue, labels: { team: 'orders' } }

/** What the routes of credentials take. */
export const credentialInputComponents: readonly Component[] = [
  {
    $id: 'NewCredential',
    ...form.closed({ name: form.credentialName, ...input }, ['name', 'connector']),
    description: 'With either a value or a link.',
    examples: [{ name: 'orders-db', ...exampleInput }],
  },
  {
    $id: 'CredentialInput',
    ...form.closed(input, ['connector']),
    description: 'With either a value or a link.',
    examples: [exampleInput],
  },
  {
    $id: 'CredentialPatch',
    description: 'JSON Merge Patch (RFC 7396).',
    ...form.closed({
      labels: {
        type: ['object', 'null'],
        maxProperties: 64,
        propertyNames: { pattern: SLUG_PATTERN },
        additionalProperties: { ...form.freeText(128), type: ['string', 'null'] },
      },
      expires_at: { ...form.timestamp, type: ['string', 'null'] },
    }),
    examples: [{ labels: { team: 'payments', tier: null }, expires_at: '2030-01-01T00:00:00Z' }],
  },
]

interface Place {
  workspace: string
}
interface Named extends Place {
  name: string
}
interface InputBody {
  connector: string
  value?: unknown
  link?: Link
  store?: string
  labels?: Record<string, string>
  expires_at?: string
  purge_at?: string
}
interface PatchBody {
  labels?: Record<string, string | null> | null
  expires_at?: string | null
}
interface ListQuery extends PageQuery {
  connector?: string
  store?: string
  label?: string[]
  name_prefix?: string
  expires_before?: string
  state?: 'active' | 'deleted'
}

const LIST = '/v1/workspaces/:workspace/credentials'
const ONE = `${LIST}/:name`
const tag = 'credentials'
const writing: ProblemCode[] = [
  ...hidden,
  ...ofStores,
  'unknown_name',
  'link_refused',
  'name_taken',
  'value_too_large',
]
const listQuery = {
  ...page,
  connector: form.slug,
  store: form.slug,
  label: {
    type: 'array',
    maxItems: 32,
    items: { type: 'string', maxLength: 192, pattern: `${SLUG_PATTERN.slice(0, -1)}:[^\\u0000]{0,128}$` },
    description: '`key:value`; repeated, all must hold.',
  },
  name_prefix: { type: 'string', maxLength: 128, pattern: CREDENTIAL_NAME_PATTERN },
  expires_before: form.timestamp,
  state: { type: 'string', enum: ['active', 'deleted'], default: 'active' },
}

/** Credentials: made, described, listed, deleted and brought back. Their values are in `values.ts`. */
export function credentialRoutes({ credentials }: { credentials: Credentials }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.post<{ Params: Place; Body: InputBody & { name: string } }>(
      LIST,
      operation({
        operationId: 'createCredential',
        tag,
        summary: 'Keep a new credential',
        body: 'NewCredential',
        answers: { 201: credentialMade },
        codes: writing,
      }),
      async (request, reply) => {
        const { workspace } = request.params
        const { name } = request.body
        const input = toInput(request.body)
        const written = await credentials.create(callOf(request), callerOf(request), workspace, name, input)
        return sendWritten(reply, written)
      },
    )
    app.put<{ Params: Named; Body: InputBody }>(
      ONE,
      operation({
        operationId: 'putCredential',
        tag,
        summary: 'Make a credential, or make it so',
        description: 'What is left out becomes empty, but `store` and `purge_at` stay.',
        body: 'CredentialInput',
        ifMatch: true,
        answers: { 200: credentialAnswer, 201: credentialMade },
        codes: [...writing, ...opening, 'not_changeable'],
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const input = toInput(request.body)
        const ifMatch = ifMatchOf(request)
        const written = await credentials.put(
          callOf(request),
          callerOf(request),
          workspace,
          name,
          input,
          ifMatch,
        )
        return sendWritten(reply, written)
      },
    )
    app.get<{ Params: Place; Querystring: ListQuery }>(
      LIST,
      operation({
        operationId: 'listCredentials',
        tag,
        summary: 'Credentials that the caller may read, by name',
        query: listQuery,
        answers: { 200: { description: 'A page of credentials.', schema: form.ref('CredentialList') } },
        codes: hidden,
      }),
      async (request) => {
        const { workspace } = request.params
        const wanted = pageRequest(request.query, [NAME, UUID])
        const filter = toFilter(request.query)
        const found = await credentials.list(callOf(request), callerOf(request), workspace, filter, wanted)
        return pageAnswer(found, toCredential)
      },
    )
    app.get<{ Params: Named }>(
      ONE,
      operation({
        operationId: 'getCredential',
        tag,
        summary: 'One credential, never its value',
        answers: { 200: { ...credentialAnswer, schema: form.ref('Credential') } },
        codes: hidden,
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const found = await credentials.read(callOf(request), callerOf(request), workspace, name)
        return reply.header('etag', etagOf(found)).send(toCredential(found))
      },
    )
    app.patch<{ Params: Named; Body: PatchBody }>(
      ONE,
      operation({
        operationId: 'patchCredential',
        tag,
        summary: 'Change labels and expiry; no new version',
        body: 'CredentialPatch',
        answers: { 200: credentialAnswer },
        codes: hidden,
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const { labels, expires_at } = request.body
        const expiresAt = expires_at === null ? null : form.timeAt('/expires_at', expires_at)
        const patch = { labels, expiresAt }
        const written = await credentials.patch(callOf(request), callerOf(request), workspace, name, patch)
        return sendWritten(reply, written)
      },
    )
    app.delete<{ Params: Named; Querystring: { purge?: 'true' | 'false' } }>(
      ONE,
      operation({
        operationId: 'deleteCredential',
        tag,
        summary: 'Delete a credential, recoverable for 7 days; its leases end',
        description: 'With `purge`, whatever has or had this name is gone for good.',
        query: { purge: claim },
        answers: { 204: { description: 'It is deleted.' } },
        codes: hidden,
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const purge = request.query.purge === 'true'
        await credentials.delete(callOf(request), callerOf(request), workspace, name, purge)
        return reply.code(204).send()
      },
    )
    app.post<{ Params: Named }>(
      `${ONE}/restore`,
      operation({
        operationId: 'restoreCredential',
        tag,
        summary: 'Bring back the one last deleted under this name',
        answers: { 200: credentialAnswer },
        codes: [...hidden, 'name_taken'],
      }),
      async (request, reply) => {
        const { workspace, name } = request.params
        const written = await credentials.restore(callOf(request), callerOf(request), workspace, name)
        return sendWritten(reply, written)
      },
    )
    done()
  }
}

function toInput(body: InputBody): CredentialInput {
  const { connector, link, store, labels } = body
  if (!link && !('value' in body)) throw invalid('/value', 'Either this or a link is required')
  if (link && 'value' in body) throw invalid('/link', 'Only one of a value and a link can be kept')
  if (link && store !== undefined && store !== link.store)
    throw invalid('/store', 'A link names its store itself')
  const expiresAt = form.timeAt('/expires_at', body.expires_at)
  const purgeAt = form.timeAt('/purge_at', body.purge_at)
  const content = link ? { link } : { value: form.valueOf({ value: body.value }) }
  return { connector, content, store, labels, expiresAt, purgeAt }
}

function toFilter(query: ListQuery): CredentialFilter {
  const { connector, store, label = [], name_prefix: namePrefix, state = 'active' } = query
  const labels = label.map((text) => {
    const colon = text.indexOf(':')
    return { key: text.slice(0, colon), value: text.slice(colon + 1) }
  })
  const expiresBefore = form.timeAt('?expires_before', query.expires_before)
  return { connector, store, labels, namePrefix, expiresBefore, state }
}
