import type { FastifyInstance } from 'fastify'
import { createRequire } from 'node:module'
import type { Answer } from './service.ts'

interface Media {
  schema?: object
}
interface Operation {
  operationId: string
  parameters?: Media[]
  requestBody?: { content: Record<string, { schema: { $ref: string } }> }
  responses: Record<string, { headers?: Record<string, unknown>; content?: Record<string, Media> }>
}
interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, { examples?: unknown[] }> }
}
/** An operation, where it is, and how its answers are judged. */
export interface Documented {
  app: FastifyInstance
  method: string
  /** With `{parameters}`. */
  path: string
  operation: Operation
  /** The examples of its request. */
  examples: unknown[]
}
type Judge = ((part: unknown) => boolean) & { errors?: unknown }

const require = createRequire(import.meta.url)

// The document is JSON Schema 2020-12; this is the AJV that Fastify brings along.
const requireOfAjv = createRequire(createRequire(require.resolve('fastify')).resolve('@fastify/ajv-compiler'))

const { Ajv2020 } = requireOfAjv('ajv/dist/2020.js')
const addFormats = requireOfAjv('ajv-formats')

const PROBLEM_MEMBERS = ['type', 'title', 'status', 'detail', 'instance', 'code']

/** What one listener says of itself, and what judges by it. */
class Documentation {
  readonly document: Document
  readonly #ajv: { compile(schema: object): Judge }
  readonly #judges = new Map<string, Judge>()

  constructor(document: Document) {
    const ajv = new Ajv2020({ strict: false, allErrors: true, validateSchema: false })
    addFormats(ajv)
    ajv.addSchema({ $id: 'document', components: document.components })
    this.document = document
    this.#ajv = ajv
  }

  judge(schema: object): Judge {
    const text = JSON.stringify(schema).replaceAll('"#/', '"document#/')
    let judge = this.#judges.get(text)
    if (!judge) this.#judges.set(text, (judge = this.#ajv.compile(JSON.parse(text))))
    return judge
  }
}

// By the place of its app: no setting changes a document, and making one takes longer than most tests.
const known: Promise<Documentation>[] = []

/** What both listeners document, held against what they answer. */
export class Contract {
  readonly operations: readonly Documented[]
  readonly #documented: ReadonlyMap<FastifyInstance, Documentation>

  private constructor(documented: ReadonlyMap<FastifyInstance, Documentation>) {
    this.#documented = documented
    this.operations = [...documented].flatMap(([app, { document }]) =>
      Object.entries(document.paths).flatMap(([path, methods]) =>
        Object.entries(methods).map(([method, operation]) => {
          const body = operation.requestBody?.content['application/json']?.schema.$ref.split('/').at(-1)
          const examples = body === undefined ? [] : (document.components.schemas[body]?.examples ?? [])
          return { app, method: method.toUpperCase(), path, operation, examples }
        }),
      ),
    )
  }

  /**
   * Reads what each app says of itself, once in this process.
   *
   * @param apps In the same order each time.
   */
  static async read(apps: readonly FastifyInstance[]): Promise<Contract> {
    const documented = apps.map(async (app, place) => {
      known[place] ??= app.inject('/openapi.json').then((answer) => new Documentation(answer.json()))
      return [app, await known[place]] as const
    })
    return new Contract(new Map(await Promise.all(documented)))
  }

  /** The operation at a path and method of this app. */
  operationOf(app: FastifyInstance, method: string, url: string): string | undefined {
    const parts = url.split('?')[0]!.split('/')
    const fits = (path: string): boolean => {
      const wanted = path.split('/')
      return (
        wanted.length === parts.length &&
        wanted.every((part, index) => part === parts[index] || (part.startsWith('{') && parts[index] !== ''))
      )
    }
    return this.operations.find((one) => one.app === app && one.method === method && fits(one.path))
      ?.operation.operationId
  }

  /** The documented schemas that JSON Schema does not take for one: nothing else here asks for that, since asking takes long. */
  schemaFaults(): unknown[] {
    const documents = [...this.#documented.values()].map(({ document }) => document)
    const schemas = [
      ...documents.flatMap(({ components }) => Object.values(components.schemas)),
      ...this.operations.flatMap(({ operation }) =>
        (operation.parameters ?? []).map(({ schema }) => schema!),
      ),
    ]
    const ajv = new Ajv2020({ strict: false })
    addFormats(ajv)
    return schemas.filter((schema) => !ajv.validateSchema(schema))
  }

  /** What is not as section 3 and the document say. */
  faultsOf(answer: Answer): string[] {
    const { status, headers, text, operationId } = answer
    const faults: string[] = []
    const demand = (holds: boolean, fault: string): void => void (holds || faults.push(fault))
    demand(/^[0-9a-z-]{8,}$/.test(headers['x-request-id'] ?? ''), 'x-request-id')
    demand((headers['cache-control'] === 'no-store') === (operationId !== 'getDocument'), 'cache-control')
    demand(
      (headers['retry-after'] !== undefined) === [429, 503].includes(status) || operationId === 'getReady',
      'retry-after',
    )
    demand((headers['location'] !== undefined) === [201, 202].includes(status), 'location')
    demand(
      headers['location'] === undefined || headers['location'].startsWith('/v1/'),
      'location is absolute',
    )
    demand((status === 204) === (text === ''), 'a body')
    if (status >= 400 && operationId !== 'getReady') faults.push(...problemFaults(answer))
    if (operationId === undefined) demand(status === 404, 'an unknown path is 404')
    else faults.push(...this.#documentFaults(operationId, answer))
    return faults
  }

  #documentFaults(operationId: string, { status, headers, text, json }: Answer): string[] {
    const { app, operation } = this.operations.find((one) => one.operation.operationId === operationId)!
    const documented = operation.responses[status]
    if (!documented) return [`${operationId} does not document ${status}`]
    const faults = ['etag', 'location']
      .filter((name) => (headers[name] !== undefined) !== (documented.headers?.[name] !== undefined))
      .map((name) => `${operationId} ${status} and its header ${name}`)
    const type = headers['content-type']?.split(';')[0]
    if (text === '') return documented.content ? [...faults, 'a documented body is missing'] : faults
    const schema = documented.content?.[type!]?.schema
    if (!schema) return [...faults, `${operationId} ${status} does not document ${type}`]
    const judge = this.#documented.get(app)!.judge(schema)
    return judge(json ?? text)
      ? faults
      : [...faults, `${operationId} ${status}: ${JSON.stringify(judge.errors)}`]
  }
}

function problemFaults({ status, headers, json }: Answer): string[] {
  const { type, instance, code, errors } = json
  const ofStore = /^(store_|link_refused$)/.test(code)
  const members = [...PROBLEM_MEMBERS, ...(status === 400 ? ['errors'] : []), ...(ofStore ? ['store'] : [])]
  const faults = [
    [headers['content-type']?.split(';')[0] === 'application/problem+json', 'the type of a problem'],
    [Object.keys(json).sort().join() === members.sort().join(), 'the members of a problem'],
    [json.status === status && type === `/problems/${code}`, 'the status or type in a problem'],
    [instance === `/requests/${headers['x-request-id']}`, 'the instance of a problem'],
    [status !== 400 || (Array.isArray(errors) && errors.length > 0), 'errors of a 400'],
  ] as const
  return faults.filter(([holds]) => !holds).map(([, fault]) => fault)
}
