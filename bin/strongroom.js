#!/usr/bin/env node
// Plain JavaScript that any Node can parse: it refuses an older Node in one clear line before TypeScript is met.
import module from 'node:module'
import { fileURLToPath } from 'node:url'

const major = Number(process.versions.node.split('.')[0])
if (major < 24) {
  process.stderr.write(
    'strongroom needs Node 24 or newer; this is ' +
      process.version +
      '. Run it by npm (npm start), or by node_modules/.bin/node.\n',
  )
  process.exitCode = 78
} else {
  // Types are stripped once and not at each start. The cache lies with the code, not in a folder that others can write to.
  module.enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/strongroom', import.meta.url)))
  import('../src/main.ts').then(function (main) {
    return main.run(process.argv.slice(2))
  })
}
