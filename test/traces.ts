import { createHash, randomBytes } from 'node:crypto'

/** A text that must not be found again, and the forms in which it could be. */
export interface Mark {
  name: string
  text: string
  /** Form by what it is called. */
  forms: ReadonlyMap<string, string>
}

/** Where marks are looked for, by name. */
export type Sources = Readonly<Record<string, string | Buffer>>

/**
 * A new marked text. One piece stands in it again and again, and that piece is what is looked for: a message that
 * quotes a few characters of the text is found by it too.
 */
export function mark(name: string): Mark {
  // No JSON begins with a Z, so a parser stops there, and quotes ten characters.
  const piece = `Z${randomBytes(32).toString('base64').replaceAll(/[+/=]/g, '').slice(0, 8)}`
  return markOf(name, `${piece}ü/${piece} "${piece}"+${piece}`, piece)
}

/**
 * A mark for a text that is there already.
 *
 * @param digests Whether no digest of it may be found either.
 */
export function markOf(name: string, text: string, piece = text, digests = true): Mark {
  const forms = new Map<string, string>()
  const bytes = Buffer.from(piece)
  forms.set('plain', piece)
  forms.set('URL-encoded', encodeURIComponent(piece))
  forms.set('hex', bytes.toString('hex'))
  forms.set('HEX', bytes.toString('hex').toUpperCase())
  for (const shift of [0, 1, 2]) {
    for (const alphabet of ['base64', 'base64url'] as const) {
      forms.set(`${alphabet}, ${shift} bytes in`, encodedWithin(bytes, shift, alphabet))
    }
  }
  // The text itself, and as a whole value.
  for (const whole of digests ? [text, JSON.stringify(text)] : []) {
    for (const algorithm of ['sha256', 'sha512', 'sha1', 'md5']) {
      const digest = createHash(algorithm).update(whole).digest()
      for (const encoding of ['hex', 'base64', 'base64url'] as const) {
        forms.set(
          `${algorithm} of ${whole === text ? 'it' : 'its JSON'}, ${encoding}`,
          digest.toString(encoding).slice(0, 16),
        )
      }
    }
  }
  return { name, text, forms }
}

/** What base64 shows of these bytes wherever they stand in something longer. */
function encodedWithin(bytes: Buffer, shift: number, alphabet: 'base64' | 'base64url'): string {
  const text = Buffer.concat([Buffer.alloc(shift), bytes, Buffer.alloc(3)]).toString(alphabet)
  return text.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6))
}

/** Where a mark was found, and as what: never the text itself. */
export function tracesIn(sources: Sources, marks: readonly Mark[]): string[] {
  const traces: string[] = []
  for (const [source, content] of Object.entries(sources)) {
    for (const { name, forms } of marks) {
      for (const [form, text] of forms)
        if (content.includes(text)) traces.push(`${source} holds ${name}: ${form}`)
    }
  }
  return traces
}

/** Every table with all of its columns as text, and what PostgreSQL itself remembers of them. */
export async function tablesOf(
  sql: (text: string) => Promise<Record<string, unknown>[]>,
): Promise<Record<string, string>> {
  const tables = await sql(`select format('%I.%I', n.nspname, c.relname) as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
      and n.nspname not like 'pg_toast%'`)
  await sql('analyze')
  const names = [
    ...tables.map((table) => String(table['name'])),
    'pg_stats',
    'pg_stat_activity',
    'pg_largeobject',
  ]
  const contents: Record<string, string> = {}
  for (const name of names) {
    const rows = await sql(`select whole::text as row from ${name} as whole`)
    contents[`the table ${name}`] = rows.map((row) => row['row']).join('\n')
  }
  return contents
}
