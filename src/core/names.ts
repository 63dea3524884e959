/** Workspaces, connectors, roles, identities, stores and label names. For JSON Schema's `pattern`. */
export const SLUG_PATTERN = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'

/** A credential's name is wider than a slug, so that orchestrators' own ids fit. */
export const CREDENTIAL_NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'

/** An id of a row, as PostgreSQL writes it. */
export const UUID_PATTERN = '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'

/** Comes before every id, and nothing is minted with it. */
export const NIL_UUID = '00000000-0000-0000-0000-000000000000'

/** RFC 3339 in UTC, years 1970 to 9999. Whether the day exists is for {@link parseTimestamp} to say. */
export const TIMESTAMP_PATTERN =
  '^(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])' +
  'T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(\\.[0-9]{1,6})?Z$'

const SLUG = new RegExp(SLUG_PATTERN)
const CREDENTIAL_NAME = new RegExp(CREDENTIAL_NAME_PATTERN)
const UUID = new RegExp(UUID_PATTERN)
const TIMESTAMP = new RegExp(TIMESTAMP_PATTERN)

/** Whether this is a text and a slug. */
export function isSlug(name: unknown): name is string {
  return typeof name === 'string' && SLUG.test(name)
}

/** Whether this is a text and could name a credential. */
export function isCredentialName(name: unknown): name is string {
  return typeof name === 'string' && CREDENTIAL_NAME.test(name)
}

/** For asking: what cannot be a slug becomes what nobody is called, and is missing by the same work. */
export function askedSlug(name: string): string {
  return isSlug(name) ? name : ''
}

/** The same for the name of a credential. */
export function askedCredentialName(name: string): string {
  return isCredentialName(name) ? name : ''
}

/** Whether this could be the id of a row: text that PostgreSQL could not read must not reach it. */
export function isUuid(id: string): boolean {
  return UUID.test(id)
}

/**
 * Reads an RFC 3339 time that ends in `Z`, with 1 to 6 digits of a second's fraction or none.
 *
 * @returns undefined for any other text and for days that no calendar has. What is finer than a millisecond is cut off.
 */
export function parseTimestamp(text: string): Date | undefined {
  if (!TIMESTAMP.test(text)) return undefined
  const date = new Date(`${text.slice(0, 19)}.${text.slice(20, -1).padEnd(3, '0').slice(0, 3)}Z`)
  // Date turns 30 February into 2 March, so the day has to come back as it was written.
  return date.toISOString().startsWith(text.slice(0, 10)) ? date : undefined
}
