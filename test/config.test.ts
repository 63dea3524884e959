import { generateKeyPairSync, sign } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ConfigError, operatorToken, readClientConfig, readConfig, type Purpose } from '../src/config.ts'
import { FernetKey } from '../src/core/fernet.ts'
import { mintToken } from '../src/core/token.ts'

const directory = t.testdir({})
const keys = FernetKey.generate().text.reveal()
const local = 'postgres://service:hunter2@127.0.0.1:5432/strongroom'
const away = 'postgres://service:hunter2@db.internal/strongroom'

function file(name: string, content: string): string {
  const path = join(directory, name)
  writeFileSync(path, content)
  return path
}

function settings(short: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(short).map(([name, value]) => [`STRONGROOM_${name}`, value]))
}

async function faultsOf(short: Record<string, string>, purpose?: Purpose): Promise<string[]> {
  try {
    await readConfig(settings(short), purpose)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
}

/** A self-signed certificate, written in DER by hand: no library of ours can make one. */
function selfSigned(): { cert: string; key: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const der = (tag: number, ...parts: Buffer[]): Buffer => {
    const content = Buffer.concat(parts)
    const size = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 255]
    return Buffer.concat([Buffer.from([tag, ...size]), content])
  }
  const algorithm = der(0x30, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')))
  const common = der(0x30, der(0x06, Buffer.from('550403', 'hex')), der(0x0c, Buffer.from('test')))
  const name = der(0x30, der(0x31, common))
  const times = ['200101000000Z', '490101000000Z'].map((time) => der(0x17, Buffer.from(time)))
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const signed = der(0x30, der(0x02, Buffer.from([1])), algorithm, name, der(0x30, ...times), name, spki)
  const signature = der(0x03, Buffer.from([0]), sign('sha256', signed, privateKey))
  const base64 = der(0x30, signed, algorithm, signature).toString('base64')
  const cert = `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`
  return { cert, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() }
}

t.test('an empty environment is development on loopback', async (t) => {
  const config = await readConfig({})
  t.match(config, { mode: 'development', rateLimit: 1000, deadlineSeconds: 2, logLevel: 'info' })
  t.same(config.listen, { host: '127.0.0.1', port: 7400 })
  t.same(config.adminListen, { host: '127.0.0.1', port: 7401 })
  t.equal(config.dataDirectory, join(process.cwd(), '.strongroom'))
  t.notOk(config.keys ?? config.databaseUrl ?? config.tls)
  t.same(config.stores, { byDefault: 'local', stores: [] })
})

t.test('what is set is read', async (t) => {
  const { cert, key } = selfSigned()
  const config = await readConfig(
    settings({
      MODE: 'production',
      DATABASE_URL_FILE: file('url', `${away}?sslmode=verify-full\n`),
      DATABASE_OWNER_URL: 'never read by serve',
      KEYS_FILE: file('keys', `# the first\n${keys}\n${FernetKey.generate().text.reveal()} # the old one\n`),
      LISTEN: '0.0.0.0:0',
      ADMIN_LISTEN: '[::1]:7401',
      TLS_CERT_FILE: file('cert.pem', cert),
      TLS_KEY_FILE: file('key.pem', key),
      TLS_CLIENT_CA_FILE: file('ca.pem', cert),
      TRUSTED_PROXIES: '10.0.0.0/8, ::1',
      RATE_LIMIT: '0',
      DEADLINE_SECONDS: '0.5',
      LOG_LEVEL: 'debug',
      STORES_FILE: file('stores.json', '{ "default": "local", "stores": {} }'),
    }),
  )
  t.equal(config.databaseUrl?.reveal(), `${away}?sslmode=verify-full`)
  t.notOk(config.databaseOwnerUrl)
  t.equal(config.keys?.length, 2)
  t.equal(config.keys?.[0]?.reveal(), keys)
  t.equal(config.keysFile, join(directory, 'keys'))
  t.same(config.adminListen, { host: '::1', port: 7401 })
  t.equal(config.tls !== 'proxy' && config.tls?.clientCa?.toString(), cert)
  t.same(config.trustedProxies, ['10.0.0.0/8', '::1'])
  t.match(config, { rateLimit: 0, deadlineSeconds: 0.5, logLevel: 'debug' })
  t.same(config.stores, { byDefault: 'local', stores: [] })
})

const wrongKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
const wrong = file('wrong', 's3cr3t')
const refused: [why: string, settings: Record<string, string>, fault: RegExp, purpose?: Purpose][] = [
  ['a typing fault', { DATABASE_ULR: local }, /DATABASE_ULR: is no setting/],
  ['a port as docker knows none', { PORT: '7400' }, /_PORT: is no setting/],
  ['an empty variable', { KEYS: '' }, /_KEYS: is empty/],
  ['an unknown mode', { MODE: 'prod-s3cr3t' }, /_MODE: must be development or production/],
  ['a database without keys', { DATABASE_URL: local }, /_KEYS: is not set/],
  ['production without database', { MODE: 'production', KEYS: keys }, /_DATABASE_URL: is not set/],
  ['production without keys', { MODE: 'production', DATABASE_URL: local }, /_KEYS: is not set/],
  [
    'both a secret and its file',
    { KEYS: keys, KEYS_FILE: '/x' },
    /_KEYS: is set, and so is STRONGROOM_KEYS_FILE/,
  ],
  ['a file that is not there', { KEYS_FILE: '/nowhere/s3cr3t' }, /_KEYS_FILE: names a file .*ENOENT/],
  ['an empty file', { KEYS_FILE: '/dev/null' }, /_KEYS_FILE: names an empty file/],
  ['a malformed key', { KEYS: `${keys},s3cr3t` }, /_KEYS: Key 2 of the keyring is not/],
  ['a key that stands there twice', { KEYS: `${keys},${keys}` }, /_KEYS: Key 2 .* twice/],
  ['a comment for keys', { KEYS: '# s3cr3t' }, /_KEYS: The keyring has no key/],
  ['no database URL', { DATABASE_URL: 's3cr3t', KEYS: keys }, /_DATABASE_URL: must be a URL/],
  ['another database', { DATABASE_URL: 'mysql://h/s3cr3t', KEYS: keys }, /_DATABASE_URL: must be a URL/],
  ['no URL in a file', { DATABASE_URL_FILE: wrong, KEYS: keys }, /_DATABASE_URL_FILE: must be a URL/],
  ['no URL in the owner', { DATABASE_OWNER_URL_FILE: wrong }, /_DATABASE_OWNER_URL_FILE: must be/, 'owner'],
  ['a bad escape', { DATABASE_URL: 'postgres://u:s3cr3t%@h/d', KEYS: keys }, /_DATABASE_URL: must be a URL/],
  ['no host', { DATABASE_URL: 'postgres:///s3cr3t', KEYS: keys }, /_DATABASE_URL: must name its host/],
  ['two hosts', { DATABASE_URL: `${local}?host=s3cr3t`, KEYS: keys }, /_DATABASE_URL: names its host twice/],
  [
    'two modes',
    { DATABASE_URL: `${away}?sslmode=verify-full&sslmode=s3cr3t`, KEYS: keys },
    /parameter twice/,
  ],
  [
    'no certificate',
    { DATABASE_URL: `${away}?sslrootcert=/s3cr3t`, KEYS: keys },
    /by sslrootcert that cannot/,
  ],
  ['a far database', { MODE: 'production', DATABASE_URL: away, KEYS: keys }, /_DATABASE_URL: .*verify-full/],
  [
    'a database that is not verified',
    { MODE: 'production', DATABASE_URL: `${away}?sslmode=require`, KEYS: keys },
    /_DATABASE_URL: .*verify-full/,
  ],
  [
    'a far database by parameter',
    { MODE: 'production', DATABASE_URL: 'postgres:///d?host=db.internal', KEYS: keys },
    /_DATABASE_URL: .*verify-full/,
  ],
  ['no owner', { KEYS: keys }, /_DATABASE_OWNER_URL: is not set/, 'owner'],
  ['an owner without keys', { DATABASE_OWNER_URL: local }, /_KEYS: is not set/, 'owner'],
  ['no role to upgrade for', { DATABASE_OWNER_URL: local }, /_DATABASE_URL: is not set/, 'upgrade'],
  ['no owner to upgrade', {}, /_DATABASE_OWNER_URL: is not set/, 'upgrade'],
  ['no port', { LISTEN: 's3cr3t' }, /_LISTEN: must be host:port/],
  ['a port too high', { LISTEN: '127.0.0.1:65536' }, /_LISTEN: must be host:port/],
  ['IPv6 without brackets', { ADMIN_LISTEN: '::1:7400' }, /_ADMIN_LISTEN: must be host:port/],
  ['no IPv6 in brackets', { LISTEN: '[1.2.3.4]:7400' }, /_LISTEN: must be host:port/],
  ['one address twice', { LISTEN: '127.0.0.1:7401' }, /_ADMIN_LISTEN: is the same address/],
  [
    'a far listener in production',
    { MODE: 'production', DATABASE_URL: local, KEYS: keys, LISTEN: '0.0.0.0:7400' },
    /_LISTEN: is beyond loopback/,
  ],
  [
    'a far listener for operators in production',
    { MODE: 'production', DATABASE_URL: local, KEYS: keys, ADMIN_LISTEN: '[::]:7401' },
    /_ADMIN_LISTEN: is beyond loopback/,
  ],
  ['an unknown way of TLS', { TLS: 'on' }, /_TLS: must be proxy/],
  ['TLS here and at a proxy', { TLS: 'proxy', TLS_CERT_FILE: '/dev/null' }, /_TLS_CERT_FILE: is set, and so/],
  ['a key alone', { TLS_KEY_FILE: '/dev/null' }, /_TLS_CERT_FILE: is not set/],
  [
    'no PEM',
    { TLS_CERT_FILE: '/dev/null', TLS_KEY_FILE: '/dev/null' },
    /_TLS_CERT_FILE: .* no PEM certificate/,
  ],
  [
    'a key of another certificate',
    {
      TLS_CERT_FILE: file('one.pem', selfSigned().cert),
      TLS_KEY_FILE: file('other.pem', wrongKey.export({ type: 'pkcs8', format: 'pem' }).toString()),
    },
    /_TLS_KEY_FILE: .* not the key of the certificate/,
  ],
  ['no proxy', { TRUSTED_PROXIES: '10.0.0.1,s3cr3t' }, /_TRUSTED_PROXIES: must be IP addresses/],
  ['a range too wide', { TRUSTED_PROXIES: '10.0.0.1/33' }, /_TRUSTED_PROXIES: must be IP addresses/],
  ['a negative rate', { RATE_LIMIT: '-1' }, /_RATE_LIMIT: must be a whole number from 0/],
  ['a rate by halves', { RATE_LIMIT: '0.5' }, /_RATE_LIMIT: must be a whole number/],
  [
    'a deadline too short',
    { DEADLINE_SECONDS: '0.05' },
    /_DEADLINE_SECONDS: must be a number from 0.1 to 60/,
  ],
  ['a deadline in hexadecimal', { DEADLINE_SECONDS: '0x2' }, /_DEADLINE_SECONDS: must be a number/],
  ['an unknown level', { LOG_LEVEL: 'loud' }, /_LOG_LEVEL: must be trace or/],
  ['no stores file', { STORES_FILE: '/nowhere/s3cr3t' }, /_STORES_FILE: names a file .*ENOENT/],
  ['no JSON', { STORES_FILE: file('a.json', '{s3cr3t') }, /_STORES_FILE: .* not a JSON object/],
  [
    'an unknown provider',
    { STORES_FILE: file('b.json', '{"stores":{"v":{"provider":"s3cr3t","token":"s3cr3t"}}}') },
    /_STORES_FILE: \/stores\/v\/provider must be hashicorp-vault or /,
  ],
  [
    'a store that only tests have',
    { STORES_FILE: file('m.json', '{"stores":{"v":{"provider":"memory"}}}') },
    /_STORES_FILE: \/stores\/v\/provider must be hashicorp-vault or /,
  ],
  [
    'an unknown default',
    { STORES_FILE: file('c.json', '{"default":"s3cr3t"}') },
    /_STORES_FILE: \/default must be/,
  ],
]

for (const [why, set, fault, purpose] of refused) {
  t.test(`${why} is refused by name and without its value`, async (t) => {
    const faults = await faultsOf(set, purpose)
    t.ok(
      faults.some((one) => fault.test(one)),
      JSON.stringify(faults),
    )
    t.notMatch(faults.join(), /s3cr3t|hunter2/)
    t.notOk(faults.join().includes(keys))
  })
}

const accepted: [what: string, settings: Record<string, string>, purpose?: Purpose][] = [
  ['a socket', { MODE: 'production', DATABASE_URL: 'postgres://u:p@%2Frun%2Fpg:5432/d', KEYS: keys }],
  [
    'a socket by parameter',
    { MODE: 'production', DATABASE_URL: 'postgres://u:p@/d?host=/run/pg', KEYS: keys },
  ],
  ['an IPv6 loopback', { MODE: 'production', DATABASE_URL: 'postgres://u:p@[::1]/d', KEYS: keys }],
  ['a far database in development', { DATABASE_URL: away, KEYS: keys }],
  [
    'a far listener behind a proxy',
    { MODE: 'production', DATABASE_URL: local, KEYS: keys, LISTEN: '0.0.0.0:7400', TLS: 'proxy' },
  ],
  [
    'what db-upgrade needs',
    { MODE: 'production', DATABASE_OWNER_URL: local, DATABASE_URL: local, LISTEN: '0.0.0.0:1' },
    'upgrade',
  ],
  ["a client's settings", { URL: 'http://x', ADMIN_URL: 'y', TOKEN: 'z', WORKSPACE: 'acme' }],
  [
    'what Kubernetes sets',
    {
      PORT: 'tcp://10.0.0.1:7400',
      PORT_7400_TCP_ADDR: '10.0.0.1',
      ADMIN_SERVICE_PORT_HTTP: '1',
      SERVICE_HOST: 'x',
    },
  ],
  ['any two free ports', { LISTEN: '127.0.0.1:0', ADMIN_LISTEN: '127.0.0.1:0' }],
]

for (const [what, set, purpose] of accepted) {
  t.test(`${what} is accepted`, async (t) => t.same(await faultsOf(set, purpose), []))
}

t.test('all faults are told at once', async (t) => {
  const faults = await faultsOf({
    MODE: 'production',
    LISTEN: 'x',
    RATE_LIMIT: 'y',
    LOG_LEVLE: 'z',
    TLS_KEY_FILE: '/x',
    STORES_FILE: file('two.json', '{"default":"v","stores":{"v":{"provider":"x"}},"more":1}'),
  })
  const names = faults.map((fault) => fault.split(':')[0]).sort()
  const missing = ['TLS_CERT_FILE', 'TLS_KEY_FILE', 'DATABASE_URL', 'KEYS']
  const stores = ['STORES_FILE', 'STORES_FILE']
  const expected = ['LISTEN', 'RATE_LIMIT', 'LOG_LEVLE', ...stores, ...missing].map(
    (name) => `STRONGROOM_${name}`,
  )
  t.same(names, expected.sort())
})

t.test('a client has a service, a workspace and a token, and says what is wrong with them', async (t) => {
  const token = mintToken().text.reveal()
  const config = readClientConfig(settings({ URL: 'https://x/base/', TOKEN: token, WORKSPACE: 'acme' }))
  t.match(config, { url: 'https://x/base', adminUrl: 'http://127.0.0.1:7401', workspace: 'acme' })
  t.equal(config.token?.reveal(), token)
  const wrong = { URL: 'http://u:s3cr3t@x', ADMIN_URL: 'ftp://x', TOKEN: 's3cr3t', WORKSPACE: 'No' }
  try {
    readClientConfig(settings(wrong))
    t.fail('must be refused')
  } catch (error) {
    t.equal((error as ConfigError).faults.length, 4)
    t.notMatch((error as ConfigError).message, /s3cr3t/)
  }
})

t.test('a token that a file holds is refused by the name of that variable', async (t) => {
  t.throws(() => readClientConfig(settings({ TOKEN_FILE: wrong })), { message: /^STRONGROOM_TOKEN_FILE: / })
})

t.test("an operator's token is the one that is set, else the data directory's", async (t) => {
  const [set, kept] = [mintToken().text.reveal(), mintToken().text.reveal()]
  file('admin.token', `${kept}\n`)
  const place = { DATA_DIR: directory }
  t.equal(operatorToken(readClientConfig(settings({ ...place, TOKEN: set }))).reveal(), set)
  t.equal(operatorToken(readClientConfig(settings(place))).reveal(), kept)
  t.throws(() => operatorToken(readClientConfig(settings({ DATA_DIR: '/nowhere' }))), { name: 'ConfigError' })
})
