// A store for the bench: a HashiCorp Vault on loopback in a process of its own, so that the service pays its own part only.
// It keeps what the file has that the first argument names, a list of refs and values; after `hang` it answers nothing.
import { readFileSync } from 'node:fs'
import { startVaultServer } from '../providers/hashicorp-vault-server.ts'

const [file, trouble] = process.argv.slice(2)
const server = await startVaultServer()
const kept = JSON.parse(readFileSync(file!, 'utf8')) as [ref: string, value: string][]
for (const [ref, value] of kept) server.kv.reply('POST', 'data', ref, { data: { value } })
if (trouble === 'hang') await server.suffer('hang')
process.stdout.write(`${String(server.settings['address'])}?token_file=${server.loginFile}\n`)
process.once('SIGTERM', () => void server.close().then(() => process.exit(0)))
