import type { Ajv } from 'ajv'
import type { FastifyInstance, FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'
import fastify from 'fastify'
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import type { Socket } from 'node:net'
import { notFound } from '../core/errors.ts'
import { endConnectionsAtClose } from './closing.ts'
import { faultOf, isFormFault, logFault, sendProblem, unsupportedMediaType } from './error-answers.ts'
import { Gate } from './gate.ts'
import { healthComponents, healthRoutes } from './health.ts'
import type { HttpDeps } from './http-deps.ts'
import type { DocumentPart } from './openapi-document.ts'
import { documentComponents, documentOptions, documentRoutes } from './openapi-document.ts'
import type { OperationConfig } from './operation.ts'
import type { OwnAnswers } from './own-answers.ts'
import { answerForNode, answerNoHttp, hostFault } from './own-answers.ts'
import { parseQuery } from './query.ts'
import { requestCallerOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { problemComponents, ref } from './schemas.ts'
import { Serializers } from './serializers.ts'
import { securityHeaders } from './security-headers.ts'
import { parseStrictJson } from './strict-json.ts'

/** What one listener has of its own. */
export interface ListenerParts {
  document: DocumentPart
  components: readonly Component[]
  /** Credentials a second for one token; 0 for none. */
  rateLimit: number
  routes: (parts: { gate: Gate; serializers: Serializers }) => FastifyPluginCallback[]
}

const BODY_BYTES_MAX = 1024 * 1024
const REQUEST_MS_MAX = 30_000
const CLOSING_MS = 1_000

/** An app that does not listen: what both listeners have in common, and what `parts` adds. */
export function buildBaseApp(deps: HttpDeps, parts: ListenerParts): FastifyInstance {
  return assemble(deps, parts, () => undefined)
}

/** The listener's document, made by a twin of its app: what makes it is loaded only when somebody wants it. */
async function documentOf(deps: HttpDeps, parts: ListenerParts): Promise<object> {
  const { default: swagger } = await import('@fastify/swagger')
  const twin = assemble(deps, parts, (app) => app.register(swagger, documentOptions(parts.document)))
  await twin.ready()
  const document = twin.swagger()
  await twin.close()
  return document
}

function assemble(
  deps: HttpDeps,
  parts: ListenerParts,
  beforeRoutes: (app: FastifyInstance) => void,
): FastifyInstance {
  const headers: Record<string, string> = { 'cache-control': 'no-store' }
  const gate = new Gate(deps, parts.rateLimit)
  const components = [...problemComponents, ...healthComponents, ...documentComponents, ...parts.components]
  const serializers = new Serializers(components)
  const schemaController = {
    compilersFactory: { buildValidator, buildSerializer: () => serializers.compiler },
  }
  const own: OwnAnswers = { newRequestId: requestIds(), headers }
  const options = { ...serverOptions(deps, own), schemaController }
  const app = fastify(options as never) as unknown as FastifyInstance
  answerForNode(app, own)
  // Whatever has a deadline is answered by then.
  endConnectionsAtClose(app, deps.deadlineSeconds * 1000 + CLOSING_MS)

  app.decorateRequest('caller', null)
  for (const component of components) app.addSchema(component)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, bytes: Buffer, done) => {
    if (bytes.length === 0) return done(null, undefined)
    try {
      done(null, parseStrictJson(bytes))
    } catch (error) {
      done(error as Error)
    }
  })
  app.addContentTypeParser('*', (request, _payload, done) => {
    const { 'content-length': length = '0', 'transfer-encoding': encoding } = request.headers
    done(length === '0' && encoding === undefined ? null : unsupportedMediaType(), undefined)
  })
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id).headers(headers)
    const fault = hostFault(request)
    if (fault) sendProblem(request, reply, fault)
    else done()
  })
  app.addHook('onRoute', (route) => gate.guard(route))
  app.addHook('onSend', gate.release)
  app.setNotFoundHandler((request, reply) => sendProblem(request, reply, notFound()))
  app.setErrorHandler((error, request, reply) => answerError(deps, gate, error, request, reply))

  beforeRoutes(app)
  app.register(async () => void Object.assign(headers, await securityHeaders(deps.tls !== undefined)))
  app.register(healthRoutes(deps, (request) => loadForms(request, serializers)))
  app.register(documentRoutes(() => documentOf(deps, parts)))
  for (const routes of parts.routes({ gate, serializers })) app.register(routes)
  return app
}

// AJV as Fastify sets it up, but loaded after the start: it takes a fifth of the time that a start may take.
const requireOfFastify = createRequire(createRequire(import.meta.url).resolve('fastify'))

function buildValidator(...parts: unknown[]): unknown {
  const compilers = requireOfFastify('@fastify/ajv-compiler') as () => (...parts: unknown[]) => unknown
  return compilers()(...parts)
}

/** Loads what judges forms and writes answers: the first caller would wait for it, and the start need not. */
function loadForms(request: FastifyRequest, serializers: Serializers): void {
  request.compileValidationSchema(ref('Problem'))
  serializers.prepare('Problem')
}

// What may not stand twice is text everywhere. AJV's own code looks each one up in an object, which takes 20 µs for 20 names.
function compareTextsBySet(ajv: Ajv): void {
  ajv.removeKeyword('uniqueItems')
  ajv.addKeyword({
    keyword: 'uniqueItems',
    type: 'array',
    schemaType: 'boolean',
    validate: (_unique: boolean, items: unknown[]) => new Set(items).size === items.length,
  })
}

/** The one place where an error becomes an answer. */
async function answerError(
  deps: HttpDeps,
  gate: Gate,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  let fault = request.is404 ? notFound() : faultOf(error)
  const caller = requestCallerOf(request)
  if (caller) clearTimeout(caller.timer)
  const { access } = request.routeOptions.config as unknown as Partial<OperationConfig>
  if (access === 'lease' && isFormFault(fault)) {
    // 401 comes first, and here nobody has judged the token yet.
    try {
      await gate.authenticateBefore(request, caller!.call.deadlineAt)
    } catch (refusal) {
      fault = faultOf(refusal)
    }
  }
  if (fault.code === 'unauthenticated' && caller) {
    if (caller.token) gate.forget(caller.token)
    deps.onAuthenticationFailed(caller.call)
  }
  if (isFormFault(fault) && caller) deps.onFormRefused(caller.call.operation)
  logFault(deps.log, request, fault)
  return sendProblem(request, reply, fault)
}

function requestIds(): () => string {
  const prefix = randomBytes(5).toString('hex')
  let requests = 0
  return () => `${prefix}-${(++requests).toString(36)}`
}

function serverOptions(deps: HttpDeps, own: OwnAnswers) {
  const { tls, trustedProxies = [] } = deps
  // Node would answer by itself, and bare.
  const plain = { requireHostHeader: false }
  return {
    logger: false,
    genReqId: own.newRequestId,
    requestIdHeader: false as const,
    trustProxy: trustedProxies.length > 0 ? trustedProxies : false,
    exposeHeadRoutes: false,
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_MS_MAX,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 600, querystringParser: parseQuery },
    ajv: {
      customOptions: {
        coerceTypes: false as const,
        removeAdditional: false,
        useDefaults: false,
        allErrors: true,
        allowUnionTypes: true,
        // That each is a schema is tested once, and need not be at every start.
        validateSchema: false,
      },
      onCreate: compareTextsBySet,
    },
    frameworkErrors: (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
      reply.header('x-request-id', request.id).headers(own.headers)
      sendProblem(request, reply, hostFault(request) ?? faultOf(error))
    },
    clientErrorHandler: (_error: Error, socket: Socket) => answerNoHttp(socket, own),
    http: plain,
    ...(tls && {
      https: {
        ...plain,
        cert: tls.cert,
        key: tls.key,
        ...(tls.ca && { ca: tls.ca, requestCert: true, rejectUnauthorized: true }),
      },
    }),
  }
}
