import { readFileSync } from 'node:fs'
import t from 'tap'
import { VaultError } from '../../src/core/errors.ts'
import { outcomeOf } from '../../src/core/audit.ts'
import { PROBLEM_CODES, PROBLEMS, problemOf, problemText, retryAfterOf } from '../../src/http/problems.ts'

t.test('the document names every code', async (t) => {
  const yaml = readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8')
  for (const code of PROBLEM_CODES) t.match(yaml, `        - ${code}\n`)
})

t.test('what is worth repeating says when, and nothing else does', async (t) => {
  for (const code of PROBLEM_CODES) {
    const { status } = PROBLEMS[code]
    const repeated = status === 503 || status === 429
    const seconds = retryAfterOf(new VaultError(code, 'x', { retryAfterSeconds: 7 }))
    t.equal(seconds, repeated ? 7 : undefined, code)
    t.equal(outcomeOf(code) === 'failed', status >= 500, code)
  }
})

t.test('a problem has exactly the members that are documented', async (t) => {
  const fault = new VaultError('store_denied', 'The store said no', {
    store: 'team-vault',
    cause: new Error('x'),
  })
  t.strictSame(problemOf(fault, 'r-1'), {
    type: '/problems/store_denied',
    title: 'The store denied access',
    status: 502,
    detail: 'The store said no',
    instance: '/requests/r-1',
    code: 'store_denied',
    store: 'team-vault',
  })
})

t.test('every 400 says where', async (t) => {
  for (const code of PROBLEM_CODES.filter((one) => PROBLEMS[one].status === 400)) {
    t.strictSame(problemOf(new VaultError(code, 'so'), 'r').errors, [{ pointer: '', detail: 'so' }], code)
  }
})

t.test('a problem that no response carries is a whole answer', async (t) => {
  const text = problemText(new VaultError('invalid_request', 'x'), 'r-2', { 'cache-control': 'no-store' })
  const [head, body] = text.split('\r\n\r\n')
  t.match(head, /^HTTP\/1\.1 400 Bad Request\r\n/)
  t.match(head, 'x-request-id: r-2')
  t.equal(Number(/content-length: (\d+)/.exec(head!)?.[1]), Buffer.byteLength(body!))
  t.equal(JSON.parse(body!).code, 'invalid_request')
})
