import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import { buildAdminApp } from '../src/http/admin-app.ts'
import type { HttpDeps } from '../src/http/http-deps.ts'
import { buildServiceApp } from '../src/http/service-app.ts'

interface Part {
  info: Record<string, unknown>
  servers: { url: string }[]
  tags: { name: string }[]
  paths: Record<string, Record<string, unknown>>
  components: { schemas: Record<string, unknown>; securitySchemes: Record<string, unknown> }
}

const FILE = new URL('../openapi.yaml', import.meta.url)

// No other route is called, so nothing behind the routes is needed.
const nothing = { deadlineSeconds: 2, rateLimit: 1, onAnswered: () => {} } as unknown as HttpDeps

/** The document of both listeners: what they share stands there once. */
async function documentText(): Promise<string> {
  const apps = [buildServiceApp(nothing), buildAdminApp(nothing)]
  const parts: Part[] = []
  for (const app of apps) {
    const answer = await app.inject('/openapi.json')
    parts.push(answer.json<Part>())
    await app.close()
  }
  const [service, admin] = parts as [Part, Part]
  const shared = Object.keys(service.paths).filter((path) => admin.paths[path])
  for (const part of parts) {
    for (const [path, item] of Object.entries(part.paths)) {
      item['servers'] = shared.includes(path) ? [...service.servers, ...admin.servers] : part.servers
    }
  }
  const document = {
    ...service,
    info: {
      ...service.info,
      description: 'Keeps the credentials of data pipelines and leases them to workers.',
    },
    servers: [...service.servers, ...admin.servers],
    tags: [
      ...service.tags,
      ...admin.tags.filter(({ name }) => !service.tags.some((tag) => tag.name === name)),
    ],
    paths: { ...service.paths, ...admin.paths, ...pick(service.paths, shared) },
    components: {
      ...service.components,
      schemas: { ...service.components.schemas, ...admin.components.schemas },
    },
  }
  return `# Made by scripts/openapi.ts from the routes.\n${stringify(document, { aliasDuplicateObjects: false })}`
}

function pick<T>(all: Record<string, T>, names: readonly string[]): Record<string, T> {
  return Object.fromEntries(names.map((name) => [name, all[name]!]))
}

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
const text = await documentText()
if (!values.check) await writeFile(FILE, text)
else if ((await readFile(FILE, 'utf8').catch(() => '')) !== text) {
  process.stderr.write('openapi.yaml is stale: run npm run openapi\n')
  process.exitCode = 1
}
