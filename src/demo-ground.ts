import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DemoGround } from './cli/demo.ts'
import { readConfig } from './config.ts'
import { Secret } from './core/secret.ts'
import { createLogger } from './log.ts'
import { removeEmbeddedServer, startEmbeddedServer } from './postgres/embedded-server.ts'
import { queryOnce } from './postgres/query-once.ts'
import { serve } from './server.ts'

/** Starts a service with nothing in it, on an embedded database in a temporary directory and on free ports. */
export async function startDemoGround(): Promise<DemoGround> {
  const parent = await mkdtemp(join(tmpdir(), 'strongroom-demo-'))
  const dataDirectory = join(parent, 'data')
  try {
    const config = await readConfig({
      STRONGROOM_DATA_DIR: dataDirectory,
      STRONGROOM_LISTEN: '127.0.0.1:0',
      STRONGROOM_ADMIN_LISTEN: '127.0.0.1:0',
    })
    const running = await serve(config, createLogger('silent'))
    const server = await startEmbeddedServer({ dataDirectory })
    const superuserUrl = new URL(server.superuserUrl)
    superuserUrl.pathname = '/strongroom'
    let cleaning: Promise<void> | undefined
    const clean = async (): Promise<void> => {
      await running.stop()
      await server.stop()
      await removeEmbeddedServer(dataDirectory)
      await rm(parent, { recursive: true, force: true })
    }
    return {
      serviceUrl: running.serviceUrl,
      adminUrl: running.adminUrl,
      adminToken: new Secret((await readFile(running.adminTokenFile!, 'utf8')).trim()),
      sql: (text, values) => queryOnce(superuserUrl.href, text, values),
      workerQuery: ({ username, ...config }, text) => queryOnce({ ...config, user: username }, text),
      clean: () => (cleaning ??= clean()),
    }
  } catch (error) {
    await removeEmbeddedServer(dataDirectory).catch(() => {})
    await rm(parent, { recursive: true, force: true })
    throw error
  }
}
