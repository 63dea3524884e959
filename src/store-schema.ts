import { accessSync, constants, statSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { Ajv, type ErrorObject } from 'ajv'
import { isLoopback } from './config-forms.ts'
import { Locator } from './core/locator.ts'
import { isSlug } from './core/names.ts'
import type { StoreKind } from './core/secret-store.ts'

/** What each text of a stores file may have to be, and how that is said. */
const FORMATS: Record<string, { validate: (text: string) => boolean; words: string }> = {
  'https-url': {
    validate: isHttpsUrl,
    words: 'an https URL, or http on loopback, without login, query and fragment',
  },
  file: { validate: isReadableFile, words: 'the absolute path of a file that can be read' },
  slug: { validate: isSlug, words: 'a slug' },
  slugs: { validate: (text) => text.split('/').every(isSlug), words: 'slugs, joined by /' },
  'link-prefix': {
    validate: (text) => text.endsWith('/') && Locator.parse(text.slice(0, -1)) !== undefined,
    words: 'segments of letters, digits, ., _ and -, each with a / behind it',
  },
}

const TYPES: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  array: 'a list',
}

/** For kinds that name none: leaves room for a workspace and a UUID behind it, wherever names have 256 characters. */
const PREFIX_LENGTH_MAX = 128

/** What every store takes, whatever its kind. */
const COMMON = {
  provider: { type: 'string' },
  prefix: { type: 'string', format: 'slugs', maxLength: PREFIX_LENGTH_MAX },
  links: {
    type: 'object',
    propertyNames: { format: 'slug' },
    additionalProperties: {
      type: 'array',
      uniqueItems: true,
      items: { type: 'string', format: 'link-prefix' },
    },
  },
  limits: {
    type: 'object',
    additionalProperties: false,
    properties: {
      // One caller has half of it at most, so there must be halves.
      concurrency: { type: 'integer', minimum: 2, maximum: 1000 },
      reads_per_second: { type: 'integer', minimum: 1, maximum: 100_000 },
      writes_per_second: { type: 'integer', minimum: 1, maximum: 100_000 },
      timeout_seconds: { type: 'number', minimum: 0.05 },
    },
  },
  versions_kept: { type: 'integer', minimum: 1, maximum: 10 },
  cache_seconds: { type: 'integer', minimum: 0, maximum: 86_400 },
}

const ajv = new Ajv({
  strict: true,
  // Forms that differ in what they require name the properties one level above.
  strictRequired: false,
  allErrors: true,
  discriminator: true,
  logger: false,
  formats: Object.fromEntries(Object.entries(FORMATS).map(([name, { validate }]) => [name, validate])),
})

/**
 * What is wrong with the members of one store, each taken by itself: a JSON Pointer of names that the schema knows, and
 * words that never repeat what the file says.
 *
 * @param kind Undefined where it is not known: then only what every store takes is judged.
 * @param at The store's own pointer.
 */
export function memberFaults(store: unknown, kind: StoreKind | undefined, at: string): string[] {
  const prefix = { ...COMMON.prefix, maxLength: kind?.prefixLengthMax ?? PREFIX_LENGTH_MAX }
  const judge = ajv.compile({
    type: 'object',
    properties: { ...kind?.settings.properties, ...COMMON, prefix },
    required: ['provider', ...(kind?.settings.required ?? [])],
    ...(kind && { additionalProperties: false }),
  })
  if (judge(store)) return []
  const known = namesIn(kind?.settings.properties, namesIn(COMMON))
  const faults = meant(judge.errors ?? []).map(
    (error) => `${at}${pointerOf(error, known)} ${wordsFor(error)}`,
  )
  return [...new Set(faults)]
}

/** Of the forms that something may have, only the one that was meant is told about: whose constants are right. */
function meant(errors: ErrorObject[]): ErrorObject[] {
  let told = errors.filter(({ keyword, propertyName }) => keyword !== 'if' && propertyName === undefined)
  for (const choice of errors.filter(({ keyword }) => keyword === 'oneOf' || keyword === 'anyOf')) {
    const below = `${choice.schemaPath}/`
    const formOf = ({ schemaPath }: ErrorObject): string => schemaPath.slice(below.length).split('/')[0]!
    const inside = errors.filter(({ schemaPath }) => schemaPath.startsWith(below))
    const constants = inside.filter(({ keyword }) => keyword === 'const' || keyword === 'enum')
    const missed = new Set(constants.map(formOf))
    const left = [...new Set(inside.map(formOf))].filter((form) => !missed.has(form))
    const [only] = left
    const clear = left.length === 1 && !choice.params['passingSchemas']
    const [first] = constants
    const unknown = first && left.length === 0 && constants.length === missed.size
    const allowedValues = constants.flatMap(({ params }) => params['allowedValue'] ?? params['allowedValues'])
    const instead = unknown ? { ...first, keyword: 'enum', params: { allowedValues } } : choice
    told = told.flatMap((error) => {
      if (error === choice) return clear ? [] : [instead]
      return !inside.includes(error) || (clear && formOf(error) === only) ? [error] : []
    })
  }
  return told
}

function wordsFor({ keyword, params, message }: ErrorObject): string {
  const { format, type, missingProperty, allowedValues, allowedValue } = params as Record<string, unknown>
  switch (keyword) {
    case 'required':
      return `lacks ${String(missingProperty)}`
    case 'additionalProperties':
    case 'unevaluatedProperties':
      return 'has a member that is not known there'
    case 'propertyNames':
      return 'has a name that is no slug'
    case 'type':
      return `must be ${[type]
        .flat()
        .map((each) => TYPES[String(each)] ?? String(each))
        .join(' or ')}`
    case 'format':
      return `must be ${FORMATS[String(format)]?.words}`
    case 'enum':
      return `must be ${(allowedValues as unknown[]).join(' or ')}`
    case 'const':
      return `must be ${String(allowedValue)}`
    case 'oneOf':
    case 'anyOf':
      return 'has none of the forms that this kind of store knows, or more than one'
    default:
      // Made of the schema alone.
      return message ?? 'is not as this kind of store needs it'
  }
}

/** Ends above the first name that is not the schema's own; a workspace below `links` is a slug by then. */
function pointerOf({ instancePath }: ErrorObject, known: ReadonlySet<string>): string {
  const names = instancePath.split('/').slice(1)
  const strange = names.findIndex(
    (name, depth) =>
      !known.has(name) && !/^[0-9]+$/.test(name) && !(names[depth - 1] === 'links' && isSlug(name)),
  )
  return names
    .slice(0, strange < 0 ? names.length : strange)
    .map((name) => `/${name}`)
    .join('')
}

/** The names of all properties that stand anywhere in a schema. */
function namesIn(properties: object | undefined, names = new Set<string>()): Set<string> {
  for (const [name, schema] of Object.entries(properties ?? {})) {
    names.add(name)
    namesBelow(schema, names)
  }
  return names
}

function namesBelow(schema: unknown, names: Set<string>): void {
  if (typeof schema !== 'object' || schema === null) return
  for (const [keyword, below] of Object.entries(schema)) {
    if (keyword === 'properties') namesIn(below as object, names)
    else namesBelow(below, names)
  }
}

/** Only https, or http that stays on this machine. */
function isHttpsUrl(text: string): boolean {
  // WHATWG drops line breaks and reads a backslash as a slash: what is judged must be what is called.
  if (!/^https?:\/\/[^\s\\?#@]+$/.test(text)) return false
  const url = URL.parse(text)
  if (!url) return false
  return url.protocol === 'https:' || isLoopback(url.hostname.replace(/^\[(.*)\]$/, '$1'))
}

function isReadableFile(path: string): boolean {
  try {
    accessSync(path, constants.R_OK)
    return isAbsolute(path) && statSync(path).isFile()
  } catch {
    return false
  }
}
