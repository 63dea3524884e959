// The reference: a bare Fastify that parses the same body and answers the same bytes, head and all. The first argument names
// the file that has them.
import fastify from 'fastify'
import { readFileSync } from 'node:fs'

const { headers, body } = JSON.parse(readFileSync(process.argv[2]!, 'utf8'))
const app = fastify()
app.post('/*', async (_request, reply) => {
  reply.code(201).headers(headers)
  return body
})
process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`)
