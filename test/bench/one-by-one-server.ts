// The other reference: the same service, the same statement, but each lease in a transaction of its own on 16 connections.
import { readConfig } from '../../src/config.ts'
import { createLogger } from '../../src/log.ts'
import { serve } from '../../src/server.ts'

const running = await serve(await readConfig(), createLogger('error'), { leaseBatchMax: 1, leaseLanes: 16 })
process.stdout.write(`${running.serviceUrl}\n`)
process.once('SIGTERM', () => void running.stop().then(() => process.exit(0)))
