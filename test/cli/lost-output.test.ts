import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { mintToken } from '../../src/core/token.ts'
import { COMPILED, loopback } from './run-strongroom.ts'

const bin = join(import.meta.dirname, '../../bin/strongroom.js')
const FULL = 'strongroom: standard output cannot be written to (ENOSPC)\n'

/** Runs the command line with a standard output that is full, or that nobody reads. */
async function runInto(output: 'full' | 'closed', args: string[], env: Record<string, string> = {}) {
  const full = output === 'full' ? openSync('/dev/full', 'w') : undefined
  const child = spawn(process.execPath, [bin, ...args], {
    env: { ...COMPILED, ...env },
    stdio: ['ignore', full ?? 'pipe', 'pipe'],
  })
  if (full !== undefined) closeSync(full)
  child.stdout?.destroy()
  let err = ''
  child.stderr!.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  return { code, err }
}

for (const args of [['keygen'], ['--version'], ['--help'], ['help', 'lease']]) {
  t.test(`strongroom ${args.join(' ')} into a full disk is one line, into a closed pipe none`, async (t) => {
    t.strictSame(await runInto('full', args), { code: 1, err: FULL })
    t.strictSame(await runInto('closed', args), { code: 1, err: '' })
  })
}

t.test('a lease whose value could not be written is revoked', async (t) => {
  const service = await loopback(({ method }) =>
    method === 'POST' ? { status: 201, body: { lease: { id: 'x7' }, value: 'hunter2' } } : { status: 204 },
  )
  t.teardown(service.close)
  const token = mintToken().text.reveal()
  const env = { STRONGROOM_URL: service.url, STRONGROOM_TOKEN: token, STRONGROOM_WORKSPACE: 'acme' }
  for (const [output, err] of [['full', FULL] as const, ['closed', ''] as const]) {
    t.strictSame(await runInto(output, ['lease', 'db'], env), { code: 1, err })
    t.match(service.seen.pop(), { method: 'DELETE', url: '/v1/leases/x7' })
    t.equal(service.seen.pop()?.method, 'POST')
  }
})
