import dns from 'node:dns'
import { connect, isIP } from 'node:net'
import t from 'tap'
import { readConfig } from '../src/config.ts'
import { createLogger } from '../src/log.ts'
import { serve } from '../src/server.ts'
import { freshGround } from './ground.ts'

t.test(
  'a listener at `localhost` has one address, and no second server without our own answers',
  async (t) => {
    const { databaseUrl, keys } = await freshGround(t)
    const config = await readConfig({
      STRONGROOM_DATABASE_URL: databaseUrl.reveal(),
      STRONGROOM_KEYS: keys[0]!.reveal(),
      STRONGROOM_LISTEN: 'localhost:0',
      STRONGROOM_ADMIN_LISTEN: 'localhost:0',
    })
    // Not every machine gives the name two addresses.
    const { lookup } = dns
    t.teardown(() => Object.assign(dns, { lookup }))
    const both = [
      { address: '127.0.0.1', family: 4 },
      { address: '::1', family: 6 },
    ]
    Object.assign(dns, {
      lookup: (host: string, options: { all?: boolean }, done: (...found: unknown[]) => void) =>
        host === 'localhost' && options.all ? done(null, both) : lookup(host, options, done),
    })
    const running = await serve(config, createLogger('silent'))
    t.teardown(() => running.stop())
    for (const url of [running.serviceUrl, running.adminUrl]) {
      const { hostname, port } = new URL(url)
      const address = hostname.replace(/^\[|\]$/g, '')
      t.ok(isIP(address), url)
      t.equal(await connects(address, Number(port)), true)
      t.equal(await connects(address === '::1' ? '127.0.0.1' : '::1', Number(port)), false)
    }
  },
)

function connects(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
