import type { FastifyInstance } from 'fastify'
import type { Socket } from 'node:net'

/**
 * Ends what is still connected `graceMs` after the app began to close. Node waits for a connection on which nothing was asked
 * yet, or only half a request, for as long as its owner likes, and looks at no time limit any more once it closes.
 */
export function endConnectionsAtClose(app: FastifyInstance, graceMs: number): void {
  const sockets = new Set<Socket>()
  app.server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  app.addHook('preClose', (done) => {
    const end = (): void => sockets.forEach((socket) => socket.destroy())
    // Whoever is still connected keeps the process; where nobody is, this must not.
    setTimeout(end, graceMs).unref()
    done()
  })
}
