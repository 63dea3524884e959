import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import type { FastifyPluginCallback } from 'fastify'
import type { ProblemCode } from '../core/errors.ts'
import { CREDENTIAL_NAME_PATTERN } from '../core/names.ts'
import type { OperationConfig } from './operation.ts'
import { JSON_TEXT, operation, problemResponses } from './operation.ts'
import { DOCUMENTED_PARAMETERS } from './query.ts'
import type { Component, Schema } from './schemas.ts'
import { slug } from './schemas.ts'

/** What one listener's part of the document says of itself. */
export interface DocumentPart {
  description: string
  url: string
  tags: readonly { name: string; description: string }[]
  /** What every operation that needs a token may be answered with here, beside its own codes. */
  codes: readonly ProblemCode[]
}

const PATH_PARAMETERS: Readonly<Record<string, Schema>> = {
  workspace: slug,
  role: slug,
  identity: slug,
  name: { type: 'string', pattern: CREDENTIAL_NAME_PATTERN },
  version: { type: 'integer', minimum: 1 },
  id: { type: 'string' },
  token: { type: 'string' },
}

const IF_MATCH: Schema = {
  type: 'object',
  properties: {
    'if-match': {
      type: 'string',
      pattern: '^"[1-9][0-9]{0,8}"$',
      description: 'The quoted version that must be the current one.',
    },
  },
}

/** How `@fastify/swagger` makes the document from the routes. */
export function documentOptions(part: DocumentPart): FastifyDynamicSwaggerOptions {
  const { description, url, tags, codes } = part
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Strongroom',
        version: 'v1',
        description,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } as never,
      },
      servers: [{ url }],
      tags: [...tags],
      components: {
        securitySchemes: { token: { type: 'http', scheme: 'bearer', description: 'A `srt_…` token.' } },
      },
    },
    refResolver: {
      buildLocalReference: (json, _base, _fragment, index) => String(json['$id'] ?? `def-${index}`),
    },
    transform: ({ schema, url: path, route }) => ({
      schema: documented(schema, path, route.config as never, [
        ...codes,
        ...(route.method === 'GET' ? [] : OF_A_BODY),
      ]),
      url: route.url,
    }),
    transformObject: (document) => {
      if (!('openapiObject' in document)) return {}
      return withOptionalBodies(document.openapiObject) as never
    },
  }
}

/** Also where no body is wanted: who sends one is told. */
const OF_A_BODY: readonly ProblemCode[] = ['body_too_large', 'unsupported_media_type']

function documented(
  schema: unknown,
  path: string,
  config: OperationConfig,
  more: readonly ProblemCode[],
): never {
  const { response } = schema as { response: object }
  const codes = config.access === 'open' ? config.codes : [...config.codes, ...more]
  const query = Object.entries((config.query?.['properties'] ?? {}) as Record<string, Schema>)
  const parts = [...path.matchAll(/:([a-z]+)/g)].map(([, part]) => part!)
  return {
    ...(schema as object),
    // A status that is an answer of its own, such as 503 of the health checks, is no problem.
    response: { ...problemResponses(codes), ...response },
    ...(config.body && { body: config.body }),
    ...(query.length > 0 && {
      querystring: {
        type: 'object',
        properties: Object.fromEntries(
          query.map(([name, one]) => [name, DOCUMENTED_PARAMETERS[name] ?? one]),
        ),
      },
    }),
    ...(parts.length > 0 && {
      params: {
        type: 'object',
        properties: Object.fromEntries(parts.map((part) => [part, PATH_PARAMETERS[part]!])),
      },
    }),
    ...(config.ifMatch && { headers: IF_MATCH }),
  } as never
}

/** A POST without a body counts as `{}`, so where nothing is required in it the body is not either. */
function withOptionalBodies(document: object): object {
  const copy = structuredClone(document) as {
    paths: Record<
      string,
      { post?: { requestBody?: { required: boolean; content: Record<string, { schema: Schema }> } } }
    >
    components: { schemas: Record<string, Schema> }
  }
  for (const { post } of Object.values(copy.paths)) {
    const pointer = post?.requestBody?.content['application/json']?.schema['$ref'] as string | undefined
    if (!post?.requestBody || pointer === undefined) continue
    const body = copy.components.schemas[pointer.split('/').at(-1)!]
    post.requestBody.required = body?.['required'] !== undefined || body?.['minProperties'] !== undefined
  }
  return copy
}

/** The answer of `/openapi.json`. */
export const documentComponents: readonly Component[] = [
  {
    $id: 'OpenApiDocument',
    type: 'object',
    description: 'An OpenAPI 3.1 document.',
    additionalProperties: true,
  },
]

/** The listener's own part of `openapi.yaml`. @param document Makes it. */
export function documentRoutes(document: () => Promise<object>): FastifyPluginCallback {
  return (app, _options, done) => {
    let text: string | undefined
    app.get(
      '/openapi.json',
      operation({
        operationId: 'getDocument',
        tag: 'service',
        summary: 'This listener’s part of the OpenAPI document',
        access: 'open',
        answers: { 200: { description: 'The document.', schema: { $ref: 'OpenApiDocument#' } } },
      }),
      async (_request, reply) => {
        text ??= JSON.stringify(await document())
        reply.removeHeader('cache-control').header('content-type', JSON_TEXT)
        return text
      },
    )
    done()
  }
}
