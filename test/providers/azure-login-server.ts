import { createHmac, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { posix } from 'node:path'

// The SDK remembers for the whole process where its managed identity is asked, so there is one such server in a process.
let started: Promise<AzureLoginServer> | undefined

/** What answers for a managed identity on App Service, and who may tell its tokens. */
export class AzureLoginServer {
  /** What the SDK reads from the environment. */
  readonly env: Record<string, string>
  /** What is answered instead of a token; `hang` is nothing at all. */
  trouble: { status: number; body: string } | 'hang' | undefined
  tokenSeconds = 86_400
  asked = 0
  readonly #key = randomBytes(32)
  #serial = 0

  private constructor(port: number, header: string) {
    this.env = { IDENTITY_ENDPOINT: `http://127.0.0.1:${port}/msi/token`, IDENTITY_HEADER: header }
  }

  static get(): Promise<AzureLoginServer> {
    started ??= this.#start()
    return started
  }

  /** Whether it gave this token, for this resource. */
  gave(token: string, resource: string): boolean {
    const [serial, expiresAt, mac] = token.split('.')
    return mac === this.#mac(serial!, expiresAt!, resource) && Number(expiresAt) * 1000 > Date.now()
  }

  #mac(...parts: string[]): string {
    return createHmac('sha256', this.#key).update(parts.join('\n')).digest('base64url')
  }

  static async #start(): Promise<AzureLoginServer> {
    const header = randomBytes(16).toString('hex')
    const http = createServer((request, response) => {
      const url = new URL(request.url!, 'http://127.0.0.1')
      const answer = server.#answer(url, request.headers['x-identity-header'])
      if (!answer) return
      response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body)
    })
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
    http.unref()
    http.on('connection', (socket) => socket.unref())
    const server = new AzureLoginServer((http.address() as AddressInfo).port, header)
    return server
  }

  #answer(url: URL, header: unknown): { status: number; body: string } | undefined {
    this.asked += 1
    if (this.trouble === 'hang') return undefined
    if (this.trouble) return this.trouble
    const resource = url.searchParams.get('resource')
    const well =
      posix.normalize(url.pathname) === '/msi/token' && url.searchParams.get('api-version') === '2019-08-01'
    if (!well || !resource || header !== this.env.IDENTITY_HEADER) {
      return { status: 400, body: JSON.stringify({ statusCode: 400, message: 'the request is not well' }) }
    }
    const expiresAt = String(Math.floor(Date.now() / 1000) + this.tokenSeconds)
    const serial = String((this.#serial += 1))
    const token = [serial, expiresAt, this.#mac(serial, expiresAt, resource)].join('.')
    return {
      status: 200,
      body: JSON.stringify({ access_token: token, expires_on: expiresAt, resource, token_type: 'Bearer' }),
    }
  }
}
