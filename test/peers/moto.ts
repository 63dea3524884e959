import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const MOTO = join(import.meta.dirname, '..', '..', '.venv', 'bin', 'moto_server')
const REGION = 'eu-west-1'
const LOGIN = { accessKeyId: 'AKIDSTRONGROOMPEER01', secretAccessKey: 'of-nobody' }

/** A server of moto's on loopback, which plays AWS Secrets Manager and keeps everything in its memory. */
export interface Moto {
  /** What a stores file says of a store here, `provider` included. */
  settings: { provider: string; region: string; endpoint: string }
  /** The login, for the SDK's own chain; nothing of this machine's own. */
  env: Record<string, string>
  /** The names of all secrets: of those that are kept, or of those that only the recovery window holds. */
  names(which: 'kept' | 'recoverable'): Promise<string[]>
  /** Keeps a secret as somebody else would, for links. */
  plant(name: string, text: string): Promise<void>
  /** Ends the process, and with it all that was kept. */
  close(): Promise<void>
}

/** Starts it on a free port and waits until it listens. */
export async function startMoto(): Promise<Moto> {
  const env = { PATH: process.env['PATH'] ?? '', PYTHONUNBUFFERED: '1', NO_COLOR: '1' }
  const child = spawn(MOTO, ['-H', '127.0.0.1', '-p', '0'], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  child.stdout.resume()
  const endpoint = await new Promise<string>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => reject(new Error(`moto_server ended with ${code}`)))
    createInterface(child.stderr).on('line', (line) => {
      const [, url] = /Running on (http:\/\/127\.0\.0\.1:\d+)/.exec(line) ?? []
      if (url) resolve(url)
    })
  })

  const { SecretsManager, paginateListSecrets } = await import('@aws-sdk/client-secrets-manager')
  const client = new SecretsManager({ region: REGION, endpoint, credentials: LOGIN })
  return {
    settings: { provider: 'aws-secrets-manager', region: REGION, endpoint },
    env: {
      AWS_ACCESS_KEY_ID: LOGIN.accessKeyId,
      AWS_SECRET_ACCESS_KEY: LOGIN.secretAccessKey,
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
      AWS_EC2_METADATA_DISABLED: 'true',
    },
    async names(which) {
      const names: string[] = []
      for await (const page of paginateListSecrets({ client }, { IncludePlannedDeletion: true })) {
        for (const { Name, DeletedDate } of page.SecretList ?? []) {
          if ((DeletedDate === undefined) === (which === 'kept')) names.push(Name!)
        }
      }
      return names
    },
    async plant(name, text) {
      await client.createSecret({ Name: name, SecretString: text })
    },
    async close() {
      client.destroy()
      child.kill()
      await ended
    },
  }
}
