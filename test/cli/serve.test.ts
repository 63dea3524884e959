import t from 'tap'
import { command, type ServeGround } from '../../src/cli/serve.ts'
import { fakeTerminal } from './fake-terminal.ts'

function service(more: Partial<ServeGround> = {}) {
  const stopped = Promise.withResolvers<undefined>()
  let stops = 0
  const ground: ServeGround = {
    serviceUrl: 'http://127.0.0.1:7400',
    adminUrl: 'http://127.0.0.1:7401',
    adminTokenFile: '/data/admin.token',
    firstStart: true,
    stopped: stopped.promise,
    async stop() {
      stops++
      stopped.resolve(undefined)
    },
    ...more,
  }
  return { ground, stops: () => stops, end: () => stopped.resolve(undefined) }
}

t.test('serve says where it listens and where the token lies, and stops at a signal', async (t) => {
  const { terminal, err, signal, listening } = fakeTerminal()
  const { ground, stops } = service()
  const running = command.run([], terminal, async () => ground)
  await new Promise(setImmediate)
  t.match(err(), /7400[^]*7401[^]*\/data\/admin\.token/)
  t.equal(stops(), 0)
  signal()
  t.equal(await running, 0)
  t.equal(stops(), 1)
  t.notOk(listening())
})

t.test('a signal during the start stops the service as soon as it has started', async (t) => {
  const { terminal, signal } = fakeTerminal()
  const { ground, stops } = service()
  const starting = Promise.withResolvers<ServeGround>()
  const running = command.run([], terminal, () => starting.promise)
  signal()
  starting.resolve(ground)
  t.equal(await running, 0)
  t.equal(stops(), 1)
})

t.test('a service that ends by itself is a failure', async (t) => {
  const { terminal } = fakeTerminal()
  const { ground, end } = service()
  end()
  t.equal(await command.run([], terminal, async () => ground), 1)
})

t.test('a service that can only be stopped runs until then', async (t) => {
  const { terminal, signal } = fakeTerminal()
  const { ground, stops } = service()
  delete ground.stopped
  const running = command.run([], terminal, async () => ground)
  await new Promise(setImmediate)
  t.equal(stops(), 0)
  signal()
  t.equal(await running, 0)
})

t.test('a stop that fails is told, and does not hang', async (t) => {
  const { terminal, signal } = fakeTerminal()
  const { ground } = service({ stop: () => Promise.reject(new Error('cannot stop')) })
  const running = command.run([], terminal, async () => ground)
  await new Promise(setImmediate)
  signal()
  await t.rejects(running, { message: 'cannot stop' })
})
