/** True for `npm run test:long`, which runs only the files that import this one. */
export const long = process.env['STRONGROOM_TEST_LONG'] === '1'

/** How often a test repeats what only chance brings about: a few times, or as often as is promised when `long`. */
export function times(few = 3, many = 20): number {
  return long ? many : few
}
