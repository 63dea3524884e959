import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { mintToken } from '../../src/core/token.ts'
import { writeWhole } from '../../src/terminal.ts'
import { freshGround } from '../ground.ts'
import { COMPILED, loopback, runStrongroom } from './run-strongroom.ts'

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

const envOf = (url: string) => ({
  STRONGROOM_URL: url,
  STRONGROOM_TOKEN: mintToken().text.reveal(),
  STRONGROOM_WORKSPACE: 'acme',
})

for (const args of [['keygen'], ['--version'], ['--help'], ['help', 'lease']]) {
  t.test(`strongroom ${args.join(' ')} into a full disk is one line, into a closed pipe none`, async (t) => {
    t.strictSame(await runInto('full', args), { code: 1, err: FULL })
    t.strictSame(await runInto('closed', args), { code: 1, err: '' })
  })
}

t.test(
  'a disk that takes a part of a text only is written to until it has taken all, or nothing more',
  async (t) => {
    const taking = (room: number) => {
      let taken = ''
      const write = (bytes: Buffer, at: number): number => {
        const part = bytes.toString('utf8', at, at + Math.min(7, room - taken.length))
        if (part === '') throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
        taken += part
        return part.length
      }
      return { write, taken: () => taken }
    }
    const text = 'x'.repeat(100)
    const roomy = taking(1_000)
    writeWhole(text, roomy.write)
    t.equal(roomy.taken(), text)
    const narrow = taking(50)
    t.throws(() => writeWhole(text, narrow.write), { code: 'ENOSPC' })
    t.equal(narrow.taken().length, 50)
  },
)

t.test('a lease of whose value nothing was asked for is revoked', async (t) => {
  const service = await loopback(({ method }) =>
    method === 'POST' ? { status: 201, body: { lease: { id: 'x7' }, value: {} } } : { status: 204 },
  )
  t.teardown(service.close)
  const { code, err } = await runStrongroom(['lease', 'db', '--field', '/none'], envOf(service.url))
  t.strictSame({ code, err }, { code: 1, err: 'strongroom: the value has nothing at that --field\n' })
  t.match(service.seen.pop(), { method: 'DELETE', url: '/v1/leases/x7' })
})

t.test('an administrator whose token could not be written is not announced', async (t) => {
  const ground = await freshGround(t)
  const env = {
    STRONGROOM_DATABASE_OWNER_URL: ground.ownerUrl.reveal(),
    STRONGROOM_KEYS: ground.keys[0]!.reveal(),
  }
  t.strictSame(await runInto('full', ['init'], env), { code: 1, err: FULL })
})

t.test('a lease whose value could not be written is revoked', async (t) => {
  const service = await loopback(({ method }) =>
    method === 'POST' ? { status: 201, body: { lease: { id: 'x7' }, value: 'hunter2' } } : { status: 204 },
  )
  t.teardown(service.close)
  const env = envOf(service.url)
  for (const [output, err] of [['full', FULL] as const, ['closed', ''] as const]) {
    t.strictSame(await runInto(output, ['lease', 'db'], env), { code: 1, err })
    t.match(service.seen.pop(), { method: 'DELETE', url: '/v1/leases/x7' })
    t.equal(service.seen.pop()?.method, 'POST')
  }
})
