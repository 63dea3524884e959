import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { VaultServerOptions } from './hashicorp-vault-server.ts'

/** Why the tests with certificates cannot run here, if so. */
export const NO_OPENSSL = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return false
  } catch {
    return 'there is no openssl here'
  }
})()

/** An authority in a temporary folder, and two certificates that it signed: the server's and a caller's. */
export function certificates(t: Test): NonNullable<VaultServerOptions['tls']> & { home: string } {
  const home = mkdtempSync(join(tmpdir(), 'strongroom-tls-'))
  t.teardown(() => rmSync(home, { recursive: true }))
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
  const make = (name: string, ...more: string[]): void => {
    const files = ['-keyout', `${name}.key`, '-out', `${name}.crt`, '-subj', `/CN=${name}`]
    execFileSync('openssl', ['req', '-x509', ...key, ...files, ...more], { cwd: home, stdio: 'ignore' })
  }
  make('ca')
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-addext', 'basicConstraints=critical,CA:false']
  make('server', ...signed, '-addext', 'subjectAltName=IP:127.0.0.1')
  make('client', ...signed, '-addext', 'extendedKeyUsage=clientAuth')
  const path = (name: string): string => join(home, name)
  return {
    home,
    key: readFileSync(path('server.key')),
    cert: readFileSync(path('server.crt')),
    ca: readFileSync(path('ca.crt')),
    key_file: path('server.key'),
    cert_file: path('server.crt'),
    ca_file: path('ca.crt'),
    client_key_file: path('client.key'),
    client_cert_file: path('client.crt'),
  }
}
