import type { Page, PageRequest } from '../core/calls.ts'
import { invalid } from '../core/errors.ts'
import { CREDENTIAL_NAME_PATTERN, UUID_PATTERN } from '../core/names.ts'
import type { Schema } from './schemas.ts'

/**
 * Reads a query string. Everything is text; a parameter that stands there twice becomes an array, which no schema
 * takes but that of `label`, and `label` is an array always.
 */
export function parseQuery(text: string): Record<string, string | string[]> {
  const query: Record<string, string | string[]> = Object.create(null)
  if (text === '') return query
  for (const [name, value] of new URLSearchParams(text)) {
    const before = query[name]
    if (Array.isArray(before)) before.push(value)
    else if (before !== undefined) query[name] = [before, value]
    else query[name] = name === 'label' ? [value] : value
  }
  return query
}

/** The query of a list. */
export interface PageQuery {
  limit?: string
  after?: string
}

const CURSOR_LENGTH_MAX = 512
const LIMIT_DEFAULT = 100

/** `true` or `false`, as text. */
export const claim: Schema = { type: 'string', enum: ['true', 'false'] }

/** What every list takes. */
export const page: Record<string, Schema> = {
  limit: { type: 'string', pattern: '^([1-9][0-9]?|[1-4][0-9]{2}|500)$' },
  after: {
    type: 'string',
    maxLength: CURSOR_LENGTH_MAX,
    pattern: '^[A-Za-z0-9_-]+$',
    description: 'The `next` of the page before.',
  },
}

/** How the document shows parameters that are text on the wire, as all are, but mean something else. */
export const DOCUMENTED_PARAMETERS: Readonly<Record<string, Schema>> = {
  limit: { type: 'integer', minimum: 1, maximum: 500, default: LIMIT_DEFAULT },
  purge: { type: 'boolean', default: false },
  superseded: { type: 'boolean' },
}

/** What the parts of a list's cursor look like: text that the ledger could not read must not reach it. */
export type CursorForm = readonly RegExp[]

/** An id of a row. */
export const UUID = new RegExp(UUID_PATTERN)
/** A name of any kind, a key's or a token's id. */
export const NAME = new RegExp(CREDENTIAL_NAME_PATTERN)
/** The number of a version. */
export const NUMBER = /^[1-9][0-9]{0,8}$/

/** @throws VaultError for a cursor that no list wrote. */
export function pageRequest(query: PageQuery, form: CursorForm): PageRequest {
  const limit = query.limit === undefined ? LIMIT_DEFAULT : Number(query.limit)
  return query.after === undefined ? { limit } : { limit, after: readCursor(query.after, form) }
}

/** The answer of a list. */
export function pageAnswer<T, Item>(
  page: Page<T>,
  toItem: (one: T) => Item,
): { items: Item[]; next: string | null } {
  return { items: page.items.map(toItem), next: page.next ? writeCursor(page.next) : null }
}

/** Base64url of the key as a JSON array. */
export function writeCursor(key: readonly string[]): string {
  return Buffer.from(JSON.stringify(key)).toString('base64url')
}

function readCursor(cursor: string, form: CursorForm): string[] {
  const bytes = Buffer.from(cursor, 'base64url')
  const key = bytes.toString('base64url') === cursor ? parseJson(bytes.toString()) : undefined
  const readable =
    Array.isArray(key) &&
    key.length === form.length &&
    key.every((part, index) => typeof part === 'string' && form[index]!.test(part))
  if (!readable) throw invalid('?after', 'This is not the `next` of a page of this list')
  return key
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
