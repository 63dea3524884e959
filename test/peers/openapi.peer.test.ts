import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { Secret } from '../../src/core/secret.ts'
import { startPeerService } from './service.ts'

const SCHEMATHESIS = join(import.meta.dirname, '..', '..', '.venv', 'bin', 'schemathesis')
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
]
const LONGEST_MS = 240_000

t.setTimeout(2 * LONGEST_MS + 60_000)

/** Lets schemathesis call one listener by its own document: only loopback, and only so often. */
async function explore(
  t: Test,
  url: string,
  token: Secret,
): Promise<{ status: number | null; said: string }> {
  const cwd = mkdtempSync(join(tmpdir(), 'strongroom-schemathesis-'))
  t.teardown(() => rmSync(cwd, { recursive: true, force: true }))
  const args = [
    `--config-file=${join(import.meta.dirname, 'schemathesis.toml')}`,
    'run',
    `${url}/openapi.json`,
    `--url=${url}`,
    `--header=authorization: Bearer ${token.reveal()}`,
    `--checks=${CHECKS.join(',')}`,
    '--phases=examples,coverage,fuzzing',
    '--max-examples=15',
    '--workers=1',
    '--request-timeout=15',
    '--max-redirects=0',
    '--generation-deterministic',
    '--suppress-health-check=all',
    '--continue-on-failure',
    '--warnings=off',
    '--no-color',
  ]
  const child = spawn(SCHEMATHESIS, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], timeout: LONGEST_MS })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (said += text))
  }
  const status = await new Promise<number | null>((resolve, reject) =>
    child.on('error', reject).on('close', resolve),
  )
  return { status, said }
}

t.test('whatever schemathesis sends, each listener answers as its document says', async (t) => {
  const { serviceUrl, adminUrl, adminToken, call } = await startPeerService(t)
  const admin = `${adminUrl}/v1/admin`
  await call('PUT', `${admin}/workspaces/acme`, {})
  await call('PUT', `${admin}/roles/worker`, {
    grants: [{ actions: ['credential:*', 'lease:*'], workspaces: ['acme'] }],
  })
  await call('PUT', `${admin}/identities/worker`, { roles: ['worker'] })
  const worker = new Secret((await call('POST', `${admin}/identities/worker/tokens`, {}))['token'])
  const credential = { name: 'orders-db', connector: 'source-postgres', value: { password: 'one' } }
  await call('POST', `${serviceUrl}/v1/workspaces/acme/credentials`, credential, worker)

  const listeners: [string, string, Secret][] = [
    ['service', serviceUrl, worker],
    ['admin', adminUrl, adminToken],
  ]
  for (const [name, url, token] of listeners) {
    const { status, said } = await explore(t, url, token)
    t.equal(status, 0, `schemathesis agrees with the ${name} listener`)
    t.match(said, /[1-9]\d* generated|[1-9]\d* passed/, 'and has called it')
    t.comment(status === 0 ? /\d+ generated.*/.exec(said)?.[0] : said)
    t.ok(await call('GET', `${serviceUrl}/v1/whoami`, undefined, token), 'and has not ended its own token')
  }
})
