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
const LONGEST_MS = 120_000
// What may end the caller's own rights comes last: all that follows would only be refused.
const ENDING = '^(put|delete)(Identity|Role)$|^revokeToken$'

t.setTimeout(3 * LONGEST_MS + 60_000)

/** Lets schemathesis call one listener by its own document: only loopback, and only so often. */
async function explore(
  t: Test,
  url: string,
  token: Secret,
  which: 'include' | 'exclude',
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
    `--${which}-operation-id-regex=${ENDING}`,
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
  const worker = new Secret((await call('POST', `${admin}/identities/worker/tokens`, {}))['token'] as string)
  const credential = { name: 'orders-db', connector: 'source-postgres', value: { password: 'one' } }
  await call('POST', `${serviceUrl}/v1/workspaces/acme/credentials`, credential, worker)

  const runs = [
    { name: 'the service listener', url: serviceUrl, token: worker, which: 'exclude' as const },
    { name: 'the admin listener', url: adminUrl, token: adminToken, which: 'exclude' as const },
    { name: 'what may end rights', url: adminUrl, token: adminToken, which: 'include' as const },
  ]
  for (const { name, url, token, which } of runs) {
    const { status, said } = await explore(t, url, token, which)
    t.equal(status, 0, `schemathesis agrees with ${name}`)
    const generated = /[1-9]\d* generated.*/.exec(said)?.[0]
    t.ok(generated, 'and has called it')
    t.comment(status === 0 ? generated : said)
    if (which === 'include') continue
    const whoAmI = await call('GET', `${serviceUrl}/v1/whoami`, undefined, token)
    t.ok(whoAmI['identity'], 'and has not ended its own token')
  }
})
