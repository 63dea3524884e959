import { invalid } from '../core/errors.ts'
import { isDeeperThan, VALUE_DEPTH_MAX } from '../core/json-value.ts'
import { CREDENTIAL_NAME_PATTERN, parseTimestamp, SLUG_PATTERN, TIMESTAMP_PATTERN } from '../core/names.ts'
import { Secret } from '../core/secret.ts'
import { PROBLEM_CODES } from './problems.ts'

/** A JSON Schema, as far as it matters here. */
export type Schema = Readonly<Record<string, unknown>>

/** A schema that the document names: other schemas point at it by {@link ref}. */
export type Component = Schema & { readonly $id: string }

/** Points at a component. */
export function ref(id: string): Schema {
  return { $ref: `${id}#` }
}

/** An object in a request: what is not named is refused. */
export function closed(properties: Record<string, Schema>, required: readonly string[] = []): Schema {
  return { type: 'object', additionalProperties: false, properties, ...(required.length > 0 && { required }) }
}

/** An object in an answer: open in the document, closed by the serializer, which drops what is not named. */
export function open(properties: Record<string, Schema>, optional: readonly string[] = []): Schema {
  const required = Object.keys(properties).filter((name) => !optional.includes(name))
  return { type: 'object', properties, required }
}

/** The answer of a list of `item`. */
export function listOf(id: string, item: string): Component {
  return {
    $id: id,
    ...open({
      items: { type: 'array', items: ref(item) },
      next: {
        type: ['string', 'null'],
        description: 'Goes into `after` for the next page; null where none follows.',
      },
    }),
  }
}

/** A text of at most `maxLength` characters without U+0000. */
export function freeText(maxLength: number, description?: string): Schema {
  return { type: 'string', maxLength, pattern: '^[^\\u0000]*$', ...(description && { description }) }
}

/** A name of any kind but a credential's. */
export const slug: Schema = { type: 'string', maxLength: 63, pattern: SLUG_PATTERN }
/** The name of a credential. */
export const credentialName: Schema = { type: 'string', maxLength: 128, pattern: CREDENTIAL_NAME_PATTERN }
/** A time in a request; {@link timeAt} reads it. */
export const timestamp: Schema = {
  type: 'string',
  maxLength: 27,
  pattern: TIMESTAMP_PATTERN,
  description: 'RFC 3339, UTC.',
}
/** How long a lease is to last. */
export const ttlSeconds: Schema = { type: 'integer', minimum: 1, maximum: 3600 }
/** The labels of a credential, each with its text. */
export const labels: Schema = {
  type: 'object',
  maxProperties: 32,
  propertyNames: { pattern: SLUG_PATTERN },
  additionalProperties: freeText(128),
}
/** A value, of which no schema says more. */
export const value: Schema = {
  description: 'Any JSON value, at most 32 KiB as compact UTF-8 JSON and nested at most 64 deep.',
}

/** A text in an answer, where the form is no longer judged. */
export const text: Schema = { type: 'string' }
/** A time in an answer. */
export const time: Schema = { type: 'string', format: 'date-time' }
/** A claim in an answer. */
export const flag: Schema = { type: 'boolean' }
/** A whole number in an answer. */
export const count: Schema = { type: 'integer' }
/** Texts in an answer. */
export const texts: Schema = { type: 'array', items: text }
/** Texts by name in an answer. */
export const textMap: Schema = { type: 'object', additionalProperties: text }

/** RFC 9457, and the codes of this service. */
export const problemComponents: readonly Component[] = [
  {
    $id: 'ProblemCode',
    type: 'string',
    enum: PROBLEM_CODES,
    description: 'Further codes may be added.',
  },
  { $id: 'FormFault', ...open({ pointer: text, detail: text }) },
  {
    $id: 'Problem',
    ...open(
      {
        type: text,
        title: text,
        status: count,
        detail: text,
        instance: text,
        code: ref('ProblemCode'),
        errors: { type: 'array', items: ref('FormFault') },
        store: text,
      },
      ['errors', 'store'],
    ),
  },
]

/** Reads a time whose form the schema has judged. @throws VaultError for a day that no calendar has. */
export function timeAt(pointer: string, text: string): Date
/** The same, where it may be left out. */
export function timeAt(pointer: string, text: string | undefined): Date | undefined
/** One of both. */
export function timeAt(pointer: string, text: string | undefined): Date | undefined {
  if (text === undefined) return undefined
  const time = parseTimestamp(text)
  if (!time) throw invalid(pointer, 'There is no such day')
  return time
}

/** Wraps a body's value as JSON text. @throws VaultError where it nests too deep; its size is judged by the core. */
export function valueOf(body: { value: unknown }): Secret {
  if (isDeeperThan(body.value, VALUE_DEPTH_MAX)) {
    throw invalid('/value', `A value nests at most ${VALUE_DEPTH_MAX} deep`)
  }
  return new Secret(JSON.stringify(body.value))
}
