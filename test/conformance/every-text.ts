/** All text ten levels deep: what is not enumerable or inherited, keys, bytes, members of maps and sets. */
export function everyText(thing: unknown): string {
  const texts: string[] = []
  const seen = new Set<unknown>()
  let level: unknown[] = [thing]
  for (let depth = 0; depth <= 10 && level.length > 0; depth++) {
    const below: unknown[] = []
    for (const value of level) {
      if (value === null || (typeof value !== 'object' && typeof value !== 'function')) {
        texts.push(String(value))
      } else if (!seen.has(value)) {
        seen.add(value)
        if (value instanceof Uint8Array) texts.push(Buffer.from(value).toString('latin1'))
        else below.push(...membersOf(value))
      }
    }
    level = below
  }
  return texts.join('\n')
}

function membersOf(value: object): unknown[] {
  const members: unknown[] = value instanceof Map || value instanceof Set ? [...value].flat() : []
  for (let owner: object | null = value; owner; owner = Object.getPrototypeOf(owner) as object | null) {
    for (const key of Reflect.ownKeys(owner)) {
      if (key === '__proto__' || key === 'constructor') continue
      members.push(key)
      try {
        members.push((value as Record<PropertyKey, unknown>)[key])
      } catch {
        // A getter that belongs to another object, such as those of the prototypes.
      }
    }
  }
  return members
}
