import type { FastifyReply } from 'fastify'
import type { Written } from '../core/credentials.ts'
import type { ProblemCode } from '../core/errors.ts'
import type { Credential } from '../core/records.ts'
import type { Component } from './schemas.ts'
import * as form from './schemas.ts'

const credential = {
  id: form.text,
  workspace: form.text,
  name: form.text,
  connector: form.text,
  kind: { type: 'string', enum: ['stored', 'link'] },
  store: form.text,
  link: form.ref('Link'),
  version: form.count,
  state: { type: 'string', description: '`active` or `deleted`.' },
  labels: form.textMap,
  created_at: form.time,
  created_by: form.text,
  updated_at: form.time,
  expires_at: form.time,
  purge_at: form.time,
  last_leased_at: { ...form.time, description: 'May be an hour old.' },
}
const optional = ['link', 'expires_at', 'purge_at', 'last_leased_at']

/** A credential as it is answered. */
export const credentialComponents: readonly Component[] = [
  {
    $id: 'Link',
    description: 'Where a link points to.',
    ...form.open({ store: form.text, locator: form.text, field: form.text }, ['field']),
  },
  { $id: 'Credential', ...form.open(credential, optional) },
  {
    $id: 'WrittenCredential',
    ...form.open(
      { ...credential, changed: { type: 'boolean', description: 'False when all was so already.' } },
      optional,
    ),
  },
  form.listOf('CredentialList', 'Credential'),
]

/** What a write answers. */
export const credentialAnswer = {
  description: 'The credential.',
  schema: form.ref('WrittenCredential'),
  headers: ['etag'],
} as const

/** The same for what was made. */
export const credentialMade = {
  ...credentialAnswer,
  description: 'It was made.',
  headers: ['etag', 'location'],
} as const

/** For those who may not, and for all that is missing. */
export const hidden: ProblemCode[] = ['forbidden', 'not_found']

/** Of what asks an external store. */
export const ofStores: ProblemCode[] = [
  'store_not_found',
  'store_denied',
  'store_rejected',
  'store_throttled',
  'store_unavailable',
]

/** Of a write that opens what is stored. */
export const opening: ProblemCode[] = ['copy_unreadable', 'version_mismatch']

/** Answers what a write made or left of a credential. */
export function sendWritten(reply: FastifyReply, { credential, changed, created }: Written): FastifyReply {
  reply.header('etag', etagOf(credential))
  if (created) {
    const { workspace, name } = credential
    reply.code(201).header('location', `/v1/workspaces/${workspace}/credentials/${name}`)
  }
  return reply.send({ ...toCredential(credential), changed })
}

/** A write that honours `if-match` and opens what is stored. */
export const writeAnswer = {
  answer: credentialAnswer,
  codes: [...hidden, ...opening, ...ofStores, 'not_changeable', 'value_too_large'] as ProblemCode[],
}

/** The quoted version. */
export function etagOf(credential: Credential): string {
  return `"${credential.version}"`
}

/** A credential as it is answered: never its value. */
export function toCredential(one: Credential) {
  return {
    id: one.id,
    workspace: one.workspace,
    name: one.name,
    connector: one.connector,
    kind: one.kind,
    store: one.store,
    link: one.link,
    version: one.version,
    state: one.state,
    labels: one.labels,
    created_at: one.createdAt,
    created_by: one.createdBy,
    updated_at: one.updatedAt,
    expires_at: one.expiresAt,
    purge_at: one.purgeAt,
    last_leased_at: one.lastLeasedAt,
  }
}
