import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { FernetKey } from '../../src/core/fernet.ts'
import type { Secret } from '../../src/core/secret.ts'
import { startPeerService } from './service.ts'

const VALUES: Record<string, unknown> = {
  object: { host: 'db.internal', port: 5432, password: 'p√§sswörd 🔑\u2028"\\' },
  'one-letter': 'a',
  'no-letter': '',
  nothing: null,
  unicode: '日本語 — ﷽ 𝄞',
  long: 'x'.repeat(32 * 1024 - 2),
}
const PYTHON = join(import.meta.dirname, '..', '..', '.venv', 'bin', 'python')
const SCRIPT = join(import.meta.dirname, 'fernet.py')

/** Asks Python's `cryptography` to open tokens and to seal texts. */
function askPython(key: Secret, open: string[], seal: string[]): { opened: string[]; sealed: string[] } {
  const input = JSON.stringify({ key: key.reveal(), open, seal })
  const { status, stdout, stderr, error } = spawnSync(PYTHON, [SCRIPT], {
    input,
    encoding: 'utf8',
    maxBuffer: 1e7,
  })
  if (status !== 0) throw new Error(`python: ${stderr}`, { cause: error })
  return JSON.parse(stdout) as { opened: string[]; sealed: string[] }
}

t.test('what stands in the table opens with cryptography, and what that seals opens here', async (t) => {
  const { ground, serviceUrl, adminUrl, call } = await startPeerService(t)
  const [key] = ground.keys as [Secret]
  const credentials = `${serviceUrl}/v1/workspaces/acme/credentials`
  const admin = `${adminUrl}/v1/admin`
  await call('PUT', `${admin}/workspaces/acme`, {})
  await call('PUT', `${admin}/roles/worker`, {
    grants: [{ actions: ['credential:*', 'lease:*'], workspaces: ['acme'] }],
  })
  await call('PUT', `${admin}/identities/worker`, { roles: ['worker'] })
  const issued = await call('POST', `${admin}/identities/worker/tokens`, {})
  const worker = { reveal: () => String(issued['token']) } as Secret
  for (const [name, value] of Object.entries(VALUES)) {
    await call('POST', credentials, { name, connector: 'source-any', value }, worker)
  }

  const rows = await ground.sql(
    `select c.name, k.id, k.token, w.name || '/' || c.id || '/' || k.version || '/' || k.id as place
     from copies k join credentials c on c.id = k.credential_id join workspaces w on w.id = c.workspace_id`,
  )
  t.equal(rows.length, Object.keys(VALUES).length)
  const texts = rows.map(({ name, place }) => `${place}\n${JSON.stringify(VALUES[name])}`)
  const { opened, sealed } = askPython(
    key,
    rows.map(({ token }) => token),
    texts,
  )
  for (const [index, { name }] of rows.entries()) {
    t.ok(opened[index] === texts[index], `Python reads ${name}`)
    t.ok(FernetKey.parse(key.reveal()).open(sealed[index]!).toString() === texts[index], `we read ${name}`)
  }

  for (const [index, { id }] of rows.entries()) {
    await ground.sql('update copies set token = $2 where id = $1', [id, sealed[index]])
  }
  for (const [name, value] of Object.entries(VALUES)) {
    const leased = await call('POST', `${credentials}/${name}/leases`, {}, worker)
    t.ok(
      JSON.stringify(leased['value']) === JSON.stringify(value),
      `the service leases ${name} as Python sealed it`,
    )
  }
})
