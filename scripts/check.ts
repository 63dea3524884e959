import { spawnSync } from 'node:child_process'
import { delimiter, dirname, join } from 'node:path'

interface Step {
  name: string
  command: [string, ...string[]]
}

const node = process.execPath
const bin = join(import.meta.dirname, '..', 'node_modules', '.bin')

const STEPS: Step[] = [
  { name: 'types', command: ['tsc', '--noEmit'] },
  { name: 'lint', command: ['eslint', '.', '--max-warnings=0'] },
  { name: 'format', command: ['prettier', '--check', '--log-level=warn', '.'] },
  { name: 'tidy', command: [node, 'test/tidy.test.ts'] },
  { name: 'openapi.yaml is what the routes say', command: [node, 'scripts/openapi.ts', '--check'] },
  { name: 'openapi.yaml is good OpenAPI', command: ['redocly', 'lint', 'openapi.yaml'] },
]

const env = {
  ...process.env,
  PATH: [bin, dirname(node), process.env['PATH']].join(delimiter),
  // A check asks nobody outside.
  REDOCLY_TELEMETRY: 'off',
  REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true',
}

// TAP, so that CI counts each step as it counts tests. All steps run, whatever fails.
process.stdout.write(`TAP version 14\n1..${STEPS.length}\n`)
for (const [index, { name, command }] of STEPS.entries()) {
  const [program, ...args] = command
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    env,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  const passed = status === 0
  process.stdout.write(`${passed ? 'ok' : 'not ok'} ${index + 1} - ${name}\n`)
  if (passed) continue
  process.exitCode = 1
  const said = [stdout, stderr, error?.message].filter(Boolean).join('\n').trimEnd()
  process.stdout.write(`${said.replaceAll(/^/gm, '# ')}\n`)
}
