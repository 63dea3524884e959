import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'

// Only these files do more when they are told to take long; the others have run in `npm test` already.
const repeating = globSync('test/**/*.test.ts').filter((file) =>
  /from '[./]+\/repeat\.ts'|STRONGROOM_TEST_LONG/.test(readFileSync(file, 'utf8')),
)

if (repeating.length === 0) {
  process.stdout.write('No test file repeats anything.\n')
} else {
  const env = { ...process.env, STRONGROOM_TEST_LONG: '1' }
  // One file at a time: what is repeated is killed, cut and timed, and should not wait for its neighbours.
  const args = ['--timeout=1500', '--jobs=1', ...process.argv.slice(2), ...repeating.toSorted()]
  process.exitCode = spawnSync('tap', args, { env, stdio: 'inherit' }).status ?? 1
}
