import helmet from '@fastify/helmet'
import type { FastifyInstance } from 'fastify'
import fastify from 'fastify'

/** Headers of the answer itself, not of its safety. */
const OWN = ['connection', 'content-length', 'content-type', 'date', 'keep-alive', 'transfer-encoding']

// Nothing is validated or written here. Without these, Fastify would load AJV, which a start does without.
const UNUSED = {
  schemaController: { compilersFactory: { buildValidator: () => {}, buildSerializer: () => {} } },
}

const asked = new Map<boolean, Promise<Record<string, string>>>()

/**
 * The headers that @fastify/helmet sets for an API that serves JSON alone.
 *
 * They are the same for every answer, and the plugin builds its chain anew for each request: so it is asked once, by a
 * request to an app of its own.
 *
 * @param tls Whether the listener itself speaks TLS: only then does it tell browsers to stay with it.
 */
export function securityHeaders(tls: boolean): Promise<Record<string, string>> {
  const known = asked.get(tls) ?? ask(tls)
  asked.set(tls, known)
  return known
}

async function ask(tls: boolean): Promise<Record<string, string>> {
  const app = fastify(UNUSED as never) as unknown as FastifyInstance
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
    },
    strictTransportSecurity: tls && { maxAge: 31_536_000 },
    // What only concerns pages and downloads, which this API has none of, is left out.
    crossOriginOpenerPolicy: false,
    crossOriginResourcePolicy: false,
    originAgentCluster: false,
    referrerPolicy: false,
    xDnsPrefetchControl: false,
    xDownloadOptions: false,
    xPermittedCrossDomainPolicies: false,
    xXssProtection: false,
  })
  app.get('/', () => '')
  const { headers } = await app.inject('/')
  await app.close()
  const kept = Object.entries(headers).filter(([name]) => !OWN.includes(name))
  return Object.fromEntries(kept.map(([name, value]) => [name, String(value)]))
}
