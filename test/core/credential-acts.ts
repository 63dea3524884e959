import type { Test } from 'tap'
import type { CredentialInput } from '../../src/core/credentials.ts'
import { Secret } from '../../src/core/secret.ts'
import type { TestGround } from '../ground.ts'
import type { Someone } from '../vault.ts'
import { openVault, someName } from '../vault.ts'

/** The kind of every credential here. */
export const connector = 'source-postgres'

/** JSON text. */
export const secret = (text: string): Secret => new Secret(text)

/** A vault with a workspace of its own, somebody who may do all in it, and what is done there to credentials. */
export async function openWorkspace(t: Test, ground: TestGround) {
  const vault = await openVault(t, ground, { workspace: someName() })
  const { workspace, call } = vault
  const worker = await vault.identityWith()
  return {
    vault,
    worker,
    workspace,
    call,
    put: (by: Someone, name: string, input: Partial<CredentialInput> = {}, ifMatch?: number) => {
      const whole = { connector, content: { value: secret('{"password":"one"}') }, ...input }
      return vault.credentials.put(call(), by.caller, workspace, name, whole, ifMatch)
    },
    remove: (by: Someone, name: string, purge = false) =>
      vault.credentials.delete(call(), by.caller, workspace, name, purge),
    restore: (by: Someone, name: string) => vault.credentials.restore(call(), by.caller, workspace, name),
    code: (doing: Promise<unknown>) =>
      doing.then(
        () => 'done',
        (error) => error.code as string,
      ),
  }
}
