import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createLogger } from '../src/log.ts'

function lines() {
  const written: string[] = []
  const logger = createLogger('info', { write: (line: string) => void written.push(line) })
  return { logger, last: () => written.at(-1) ?? '', parsed: () => JSON.parse(written.at(-1)!) as object }
}

t.test('a line names its level and its time in UTC', async (t) => {
  const { logger, parsed } = lines()
  logger.info({ workspace: 'acme' }, 'started')
  t.match(parsed(), { level: 'info', msg: 'started', workspace: 'acme', time: /Z$/ })
})

t.test('what is secret by its name is not written', async (t) => {
  const { logger, last } = lines()
  const marked = { token: 'marked', value: { password: 'marked' }, keys: ['marked'] }
  logger.info({ ...marked, headers: { authorization: 'marked' }, req: { body: { ...marked } } })
  t.notMatch(last(), /marked/)
})

t.test('of an error of PostgreSQL nothing is written that quotes a row or a parameter', async (t) => {
  const { logger, last, parsed } = lines()
  const quoting = ['detail', 'where', 'internalQuery', 'query', 'parameters', 'hint']
  const fields = Object.fromEntries(quoting.map((name) => [name, 'marked']))
  const error = new Error('duplicate key')
  Object.assign(error, fields, { code: '23505', severity: 'ERROR', constraint: 'names' })
  logger.error(error)
  t.notMatch(last(), /marked/)
  t.match(parsed(), { msg: 'duplicate key', err: { code: '23505', constraint: 'names', stack: /at / } })
  logger.error(Object.assign(new Error('invalid input: "marked"'), { code: '22P02', severity: 'ERROR' }))
  t.notMatch(last(), /marked/)
})

t.test('what could not be parsed is not quoted, be it the error or its cause', async (t) => {
  const { logger, last, parsed } = lines()
  let cause: unknown
  try {
    JSON.parse('{"marked": }')
  } catch (error) {
    cause = error
  }
  logger.error(cause)
  t.notMatch(last(), /marked/)
  logger.error({ err: cause })
  t.notMatch(last(), /marked/)
  logger.error({ err: new Error('reading failed', { cause }) }, 'sorry')
  t.notMatch(last(), /marked/)
  t.match(parsed(), { msg: 'sorry', err: { message: 'reading failed', cause: { type: 'SyntaxError' } } })
  logger.error({ err: new AggregateError([cause], 'two ways') })
  t.notMatch(last(), /marked/)
})

t.test('what is thrown and is no error is not written', async (t) => {
  const { logger, last } = lines()
  logger.error({ err: 'marked' })
  t.notMatch(last(), /marked/)
})

t.test('of a request the query is not written', async (t) => {
  const { logger, last, parsed } = lines()
  logger.info({ req: { id: '1', method: 'GET', url: '/v1/leases?run_id=marked' } })
  t.notMatch(last(), /marked/)
  t.match(parsed(), { req: { path: '/v1/leases' } })
})

t.test('a log on a full disk neither ends the process nor keeps it from ending', async (t) => {
  const log = JSON.stringify(join(import.meta.dirname, '../src/log.ts'))
  const script = `
    const { createLogger } = await import(${log})
    const logger = createLogger('info')
    logger.info('lost')
    setTimeout(() => {
      logger.info('lost too')
      setTimeout(() => process.exit(7), 200)
    }, 200)`
  const full = openSync('/dev/full', 'w')
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', full, 'pipe'],
    timeout: 10_000,
    killSignal: 'SIGKILL',
  })
  closeSync(full)
  let err = ''
  child.stderr!.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  t.strictSame({ code, err }, { code: 7, err: '' })
})
