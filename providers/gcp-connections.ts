import type { Socket } from 'node:net'
import type { v1 } from '@google-cloud/secret-manager'

type MadeWith = NonNullable<ConstructorParameters<typeof v1.SecretManagerServiceClient>[1]>

/** The library that the SDK calls by, which is the SDK's own dependency: so its type comes from there too. */
export type Gax = Extract<MadeWith, { grpc: object }>
type ChannelCredentials = ReturnType<Gax['grpc']['credentials']['createInsecure']>

/**
 * The connections of one client. gRPC bounds neither the TLS handshake nor the wait for HTTP/2's first frame, and keeps
 * a connection on which nothing comes any more: then every call waits in vain, and the process cannot end.
 */
export class Connections {
  readonly #sockets = new Set<Socket>()
  readonly #closing = new AbortController()

  /** Ends what the login still asks for. */
  get closed(): AbortSignal {
    return this.#closing.signal
  }

  /** Has the connections that are made with these credentials known here. */
  known(credentials: ChannelCredentials): ChannelCredentials {
    const create = credentials._createSecureConnector.bind(credentials)
    credentials._createSecureConnector = (...of) => {
      const connector = create(...of)
      const connect = connector.connect.bind(connector)
      connector.connect = (socket) => {
        this.#sockets.add(socket)
        socket.once('close', () => this.#sockets.delete(socket))
        return connect(socket)
      }
      return connector
    }
    return credentials
  }

  bytesHeard(): number {
    return [...this.#sockets].reduce((sum, { bytesRead }) => sum + bytesRead, 0)
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  close(): void {
    this.#closing.abort()
    this.cut()
  }
}
