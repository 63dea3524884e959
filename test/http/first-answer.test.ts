import { Module } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { buildServiceApp } from '../../src/http/service-app.ts'
import { ask, stubDeps } from './stub-deps.ts'

const { _cache: cache } = Module as unknown as { _cache: object }
const loaded = (): string[] =>
  Object.keys(cache).filter((name) => /\/node_modules\/(ajv\/|fast-json-stringify\/index)/.test(name))

t.test(
  'what judges forms and writes answers is loaded once the first who asked has been told: ready',
  async (t) => {
    const { deps } = stubDeps()
    let ready = false
    const app = buildServiceApp({ ...deps, health: async () => ({ ready, checks: { database: 'ok' } }) })
    t.equal((await ask(app, { url: '/health/ready' })).status, 503)
    await sleep(20)
    t.same(loaded(), [], 'who is sent nothing yet prepares nothing')

    ready = true
    const told = await app.inject({ url: '/health/ready' })
    t.same(loaded(), [], 'the answer waits for none of it')
    t.match(told.headers['content-type'], /^application\/json; charset=utf-8$/)
    t.equal(told.body, '{"ready":true,"checks":{"database":"ok"}}')
    await sleep(20)
    t.ok(loaded().some((name) => name.includes('/ajv/')))
    t.ok(loaded().some((name) => name.includes('/fast-json-stringify/')))
  },
)
