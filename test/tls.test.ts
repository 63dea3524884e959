import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createLogger } from '../src/log.ts'
import { wire } from '../src/wire.ts'
import { freshGround } from './ground.ts'
import { eventually } from './eventually.ts'

const HAS_OPENSSL = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

/** An authority, and two certificates that it signed: the listener's and a caller's. */
function certificates(directory: string): Record<'ca' | 'server' | 'client', { cert: Buffer; key: Buffer }> {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=test authority')
  const of = (name: string) => {
    const files = { cert: `${name}.crt`, key: `${name}.key` }
    if (name !== 'ca') {
      const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-addext', 'subjectAltName=IP:127.0.0.1']
      openssl(
        'req',
        '-x509',
        ...key,
        ...signed,
        '-keyout',
        files.key,
        '-out',
        files.cert,
        '-subj',
        `/CN=${name}`,
      )
    }
    return { cert: readFileSync(join(directory, files.cert)), key: readFileSync(join(directory, files.key)) }
  }
  return { ca: of('ca'), server: of('server'), client: of('client') }
}

function statusOf(
  url: string,
  options: { ca: Buffer; cert?: Buffer; key?: Buffer },
): Promise<number | string> {
  return new Promise((resolve) => {
    const sent = request(`${url}/health/ready`, { ...options, agent: false }, (answer) => {
      answer.resume()
      resolve(answer.statusCode!)
    })
    sent.on('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? error.message))
    sent.end()
  })
}

t.test(
  'where a client CA is set, a caller without its certificate gets no answer',
  { skip: !HAS_OPENSSL && 'there is no openssl here' },
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'strongroom-tls-'))
    t.teardown(() => rmSync(directory, { recursive: true }))
    const { ca, server, client } = certificates(directory)
    const strongroom = await wire(
      {
        mode: 'development',
        deadlineSeconds: 2,
        rateLimit: 0,
        trustedProxies: [],
        tls: { ...server, clientCa: ca.cert },
      },
      await freshGround(t),
      createLogger('silent'),
    )
    t.teardown(() => strongroom.close())
    for (const app of [strongroom.serviceApp, strongroom.adminApp]) {
      const url = await app.listen({ host: '127.0.0.1', port: 0 })
      t.ok(await eventually(async () => (await statusOf(url, { ca: ca.cert, ...client })) === 200))
      t.type(await statusOf(url, { ca: ca.cert }), 'string', 'without a certificate the connection ends')
    }
    const answer = await strongroom.serviceApp.inject('/health/ready')
    t.match(answer.headers['strict-transport-security'], /max-age=31536000/)
  },
)
