import type { Test } from 'tap'
import type { Secret } from '../../src/core/secret.ts'
import { createLogger } from '../../src/log.ts'
import { wire } from '../../src/wire.ts'
import type { TestGround } from '../ground.ts'
import { freshGround } from '../ground.ts'

/** A whole service that listens on loopback, on a database of the test's own, until the test ends. */
export interface PeerService {
  ground: TestGround
  serviceUrl: string
  adminUrl: string
  adminToken: Secret
  /** Calls either listener as JSON, and refuses an answer that is not 2xx. */
  call(method: string, url: string, body?: unknown, token?: Secret): Promise<Record<string, unknown>>
}

/** Starts the service. */
export async function startPeerService(t: Test): Promise<PeerService> {
  const ground = await freshGround(t)
  const config = { mode: 'development' as const, deadlineSeconds: 10, rateLimit: 0, trustedProxies: [] }
  const strongroom = await wire(config, ground, createLogger('fatal'))
  t.teardown(() => strongroom.close())
  const loopback = { host: '127.0.0.1', port: 0 }
  const serviceUrl = await strongroom.serviceApp.listen(loopback)
  const adminUrl = await strongroom.adminApp.listen(loopback)
  const { token: adminToken } = await strongroom.makeAdministrator('admin')

  const call: PeerService['call'] = async (method, url, body, token = adminToken) => {
    const answer = await fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${token.reveal()}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${text}`)
    return text === '' ? {} : JSON.parse(text)
  }
  return { ground, serviceUrl, adminUrl, adminToken, call }
}
