import { failedAs, openStore } from './hashicorp-vault-trial.ts'

// Another process, for tests of what node-vault reads from the environment: settings and a value come as arguments, and
// what happened goes to standard output. Nothing ends it: it must end by itself once the store is closed.

const [settings, value] = process.argv.slice(2) as [string, string]
const store = await openStore(JSON.parse(settings))
const ref = 'strongroom/acme/0198c2a4-1111-7000-8000-000000000000'
const outcomes: (string | undefined)[] = []
outcomes.push(await failedAs(() => store.put(ref, value, { workspace: 'acme', credential: 'orders-db' })))
outcomes.push(await failedAs(async () => void ((await store.get(ref)) === value || outcomes.push('other'))))
outcomes.push(await failedAs(() => store.delete(ref, true)))
await store.close()
process.stdout.write(`outcomes ${outcomes.map((fault) => fault ?? 'well').join(' ')}`)
