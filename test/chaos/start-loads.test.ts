import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freshGround } from '../ground.ts'
import { onGround, startService } from './service-process.ts'

t.test(
  'a service that was started and not asked has not loaded what only requests or other set-ups need',
  async (t) => {
    const ground = await freshGround(t)
    const watching = `
    import { Module } from 'node:module'
    import { writeFileSync } from 'node:fs'
    process.on('exit', () => {
      const loaded = [...process.moduleLoadList, ...Object.keys(Module._cache)]
      writeFileSync(process.env.LOADED_FILE, JSON.stringify(loaded))
    })`
    const directory = t.testdir({ 'watching.mjs': watching })
    const file = join(directory, 'loaded.json')
    const service = await startService(t, {
      ...onGround(ground),
      NODE_OPTIONS: `--import=${join(directory, 'watching.mjs')}`,
      LOADED_FILE: file,
    })
    await service.end('SIGTERM')
    const loaded = JSON.parse(readFileSync(file, 'utf8')) as string[]
    t.ok(
      loaded.some((name) => name.includes('/node_modules/fastify/')) &&
        loaded.some((name) => /http/.test(name)),
    )
    // fetch, which node:http exports a part of; what forms are judged and answers written by; limiters that keep books elsewhere.
    const late =
      /internal\/deps\/undici|\/node_modules\/(ajv\/|@fastify\/ajv-compiler\/|fast-json-stringify\/index)|RateLimiterRedis/
    t.same(
      loaded.filter((name) => late.test(name)),
      [],
    )
  },
)
