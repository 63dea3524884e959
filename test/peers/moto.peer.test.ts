import t from 'tap'
import { awsSecretsManager } from '../../providers/aws-secrets-manager.ts'
import { conforms, failsAs, mint } from '../conformance/secret-store.ts'
import { withEnvironment } from '../providers/aws-stores.ts'
import { startMoto } from './moto.ts'

const OPTIONS = { prefix: 'strongroom', timeoutMs: 5000 }

const moto = await startMoto()
t.teardown(() => moto.close())
withEnvironment(t, { ...moto.env, AWS_SESSION_TOKEN: undefined })
const { provider: _, ...settings } = moto.settings

// It has neither limits nor faults nor slowness, and what it refuses to a login it writes as XML, which AWS does not.
conforms(t, {
  name: 'aws-secrets-manager on moto',
  troubles: [],
  async make() {
    return {
      store: await awsSecretsManager.open(settings, OPTIONS),
      ...OPTIONS,
      valueBytesMax: awsSecretsManager.valueBytesMax,
      async suffer() {},
      async recover() {},
      plant: (locator, text) => moto.plant(locator, text),
      async close() {},
    }
  },
})

t.test('moto: the recovery window holds what was deleted, until it is deleted for good', async (t) => {
  const store = await awsSecretsManager.open(settings, { ...OPTIONS, prefix: 'window' })
  t.teardown(() => store.close())
  const names = async () => {
    const [kept, held] = await Promise.all([moto.names('kept'), moto.names('recoverable')])
    return [kept, held].map((all) => all.filter((name) => name.startsWith('window/')))
  }
  const ref = mint({ prefix: 'window' })
  await store.put(ref, '"kept"', { workspace: 'acme', credential: 'orders-db' })
  t.same(await names(), [[ref], []])
  await store.delete(ref)
  t.same(await names(), [[], [ref]])
  await failsAs(t, 'rejected', () => store.put(ref, '"another"'), 'a put onto it')
  await store.delete(ref, true)
  t.same(await names(), [[], []])
})
