import type FastJson from 'fast-json-stringify'
import { createRequire } from 'node:module'
import type { Component } from './schemas.ts'
import { ref } from './schemas.ts'

// Loading it takes a sixth of the time that the start may take, so the first answer does.
const require = createRequire(import.meta.url)

/** Writes an object as JSON and leaves out whatever its schema does not name. */
export type Serialize = (document: object) => string

/** Serializers by component, each made when it is first needed: making all of them would slow down the start. */
export class Serializers {
  readonly #components: Record<string, Component>
  readonly #made = new Map<string, Serialize>()

  constructor(components: readonly Component[]) {
    this.#components = Object.fromEntries(components.map((one) => [one.$id, one]))
  }

  /** The serializer of a component. */
  of(id: string): Serialize {
    return (document) => (this.#made.get(id) ?? this.prepare(id))(document)
  }

  /** Makes the serializer of a component before it is needed. */
  prepare(id: string): Serialize {
    const fastJson = require('fast-json-stringify') as typeof FastJson
    const made = fastJson(ref(id) as never, { schema: this.#components as never }) as Serialize
    this.#made.set(id, made)
    return made
  }

  /** What Fastify asks for each answer of each route: they all are components, or nothing. */
  readonly compiler = ({ schema }: { schema: unknown }): ((document: unknown) => string) => {
    const { $ref } = schema as { $ref?: string }
    if ($ref === undefined) return () => ''
    return this.of($ref.slice(0, -1)) as (document: unknown) => string
  }
}
