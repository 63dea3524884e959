import type { preValidationHookHandler } from 'fastify'
import type { FormFault } from '../core/errors.ts'
import { invalid, VaultError } from '../core/errors.ts'
import { isObject } from '../core/json-value.ts'
import type { OperationConfig } from './operation.ts'

/** What AJV says of one fault. */
export interface SchemaFault {
  keyword: string
  instancePath: string
  params: Record<string, unknown>
}

const FAULTS_MAX = 20
const FAULTS_SEEN_MAX = 1000

const NOT_DOCUMENTED: SchemaFault = { keyword: 'additionalProperties', instancePath: '', params: {} }

type Judge = ((part: unknown) => boolean) & { errors?: SchemaFault[] | null }

/** A hook that holds query and body against their schemas, which are compiled when they are first needed. */
export function demandForm({
  query,
  body,
}: Pick<OperationConfig, 'query' | 'body'>): preValidationHookHandler {
  let judgeQuery: Judge | undefined
  let judgeBody: Judge | undefined
  return (request, _reply, done) => {
    let queryFaults: readonly SchemaFault[] = []
    if (query) {
      judgeQuery ??= request.compileValidationSchema(query) as Judge
      if (!judgeQuery(request.query)) queryFaults = judgeQuery.errors!
    } else if (!isNothing(request.query)) queryFaults = [NOT_DOCUMENTED]
    // A POST without a body counts as `{}`.
    if (request.body === undefined && request.method === 'POST') request.body = {}
    let bodyFaults: readonly SchemaFault[] = []
    if (body) {
      judgeBody ??= request.compileValidationSchema(body) as Judge
      if (!judgeBody(request.body)) bodyFaults = judgeBody.errors!
    } else if (!isNothing(request.body)) return done(invalid('', 'This takes no body'))
    const faulty = queryFaults.length + bodyFaults.length > 0
    done(faulty ? formFaults(queryFaults, bodyFaults) : undefined)
  }
}

function isNothing(part: unknown): boolean {
  return part === undefined || (isObject(part) && Object.keys(part).length === 0)
}

/**
 * What the schemas found wrong, told without a text of the caller's: members that no schema names are spoken of at
 * their parent.
 */
export function formFaults(query: readonly SchemaFault[], body: readonly SchemaFault[]): VaultError {
  const errors: FormFault[] = []
  const seen = new Set<string>()
  const add = (pointer: string, detail: string): void => {
    const key = `${pointer} ${detail}`
    if (!seen.has(key) && errors.length < FAULTS_MAX) errors.push({ pointer, detail })
    seen.add(key)
  }
  for (const fault of query.slice(0, FAULTS_SEEN_MAX)) {
    add(`?${bodyPointer(fault).split('/')[1] ?? ''}`, detailOf(fault))
  }
  for (const fault of body.slice(0, FAULTS_SEEN_MAX)) add(bodyPointer(fault), detailOf(fault))
  return new VaultError('invalid_request', 'The request does not have the form that is documented', {
    errors,
  })
}

/** The members of `labels` are the only ones whose names are the caller's own. */
function bodyPointer({ keyword, instancePath, params }: SchemaFault): string {
  const labels = /^(.*?\/labels)(\/|$)/s.exec(instancePath)
  if (labels) return labels[1]!
  return keyword === 'required' ? `${instancePath}/${String(params['missingProperty'])}` : instancePath
}

/** `params` are the schema's own, but for `additionalProperty` and `propertyName`, which go nowhere. */
function detailOf({ keyword, params }: SchemaFault): string {
  switch (keyword) {
    case 'type':
      return `This must be of the type ${[params['type']].flat().join(' or ')}`
    case 'required':
      return 'This is required'
    case 'additionalProperties':
      return 'There is something here that is not documented'
    case 'propertyNames':
      return 'A name in here does not have the form of a slug'
    case 'pattern':
      return `This must match ${JSON.stringify(params['pattern'])}`
    case 'enum':
      return `This must be one of ${JSON.stringify(params['allowedValues'])}`
    case 'minLength':
      return `This takes at least ${params['limit']} characters`
    case 'maxLength':
      return `This takes at most ${params['limit']} characters`
    case 'minItems':
    case 'minProperties':
      return `This takes at least ${params['limit']} of its kind`
    case 'maxItems':
    case 'maxProperties':
      return `This takes at most ${params['limit']} of its kind`
    case 'minimum':
    case 'maximum':
      return `This must be ${params['comparison']} ${params['limit']}`
    case 'uniqueItems':
      return 'Nothing may stand here twice'
    default:
      return 'This does not have the form that is documented'
  }
}
