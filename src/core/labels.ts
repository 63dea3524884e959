/** Labels that one credential can have. */
export const LABELS_MAX = 32

/** Labels by RFC 7396: `null` takes one away, and in place of the patch all of them. */
export function patchLabels(
  labels: Record<string, string>,
  patch: Record<string, string | null> | null | undefined,
): Record<string, string> {
  if (patch === undefined) return labels
  if (patch === null) return {}
  const merged: Record<string, string | null> = { ...labels, ...patch }
  return Object.fromEntries(
    Object.entries(merged).filter((entry): entry is [string, string] => entry[1] !== null),
  )
}

/** Whether both have the same labels, in whatever order. */
export function sameLabels(a: Record<string, string>, b: Record<string, string>): boolean {
  const keys = Object.keys(a)
  return (
    keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key])
  )
}
