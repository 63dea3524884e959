// The reference: a bare Fastify that parses the same body and answers the same bytes, which the first argument names.
import fastify from 'fastify'
import { readFileSync } from 'node:fs'

const answer = readFileSync(process.argv[2]!, 'utf8')
const app = fastify()
app.post('/*', (_request, reply) => {
  reply.code(201).header('content-type', 'application/json; charset=utf-8').send(answer)
})
process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`)
