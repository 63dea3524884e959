// The reference: a bare Fastify that parses the same body and answers the same bytes, which the first argument names.
import fastify from 'fastify'
import { readFileSync } from 'node:fs'

const answer = JSON.parse(readFileSync(process.argv[2]!, 'utf8'))
const app = fastify()
app.post('/*', async (_request, reply) => {
  reply.code(201)
  return answer
})
process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`)
