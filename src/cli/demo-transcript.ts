import { Secret } from '../core/secret.ts'
import type { Terminal } from './command.ts'
import { oneLine } from './command.ts'
import { ServiceClient, ServiceProblem } from './service-client.ts'

/** What a step of the demo asks of the service. */
export interface DemoCall {
  /** The variable that the printed `curl` takes its token from. */
  tokenName: string
  token: Secret
  method: string
  /** Where the listener is, without a slash at its end. */
  url: string
  path: string
  body?: unknown
  /** Print the body as a file of this name, because it is too long for a command line. */
  bodyFile?: string
  /** Leave the answer to the caller to tell. */
  quiet?: boolean
}

/** What came of it, also where it was refused. */
export interface DemoAnswer {
  status: number
  body: unknown
}

const MASK = '**********'

/** Prints the demo's steps as a person would have typed them, with every secret masked. */
export class DemoTranscript {
  readonly #terminal: Terminal
  readonly #secrets: Secret[] = []
  #steps = 0

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  /** From now on this text is printed as a mask. */
  hide(secret: Secret): Secret {
    this.#secrets.push(secret)
    return secret
  }

  step(title: string): void {
    this.#steps++
    this.#print(`\n${this.#terminal.style('bold', `${this.#steps}. ${title}`)}\n`)
  }

  say(text: string): void {
    this.#print(`${text}\n`)
  }

  /** Prints what a program does that is no call of the service. */
  command(text: string): void {
    this.#print(`${this.#terminal.style('cyan', `$ ${text}`)}\n`)
  }

  json(value: unknown): void {
    this.#print(`${this.#terminal.style('dim', indent(JSON.stringify(value, null, 2)))}\n`)
  }

  table(rows: string[][]): void {
    const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
    for (const row of rows) {
      const line = row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ')
      this.#print(`${this.#terminal.style('dim', `  ${line.trimEnd()}`)}\n`)
    }
  }

  /**
   * Prints the `curl`, makes the call, prints the answer.
   *
   * @throws ServiceUnreachable
   */
  async call(call: DemoCall): Promise<DemoAnswer> {
    if (call.bodyFile !== undefined) {
      this.command(`cat ${call.bodyFile}`)
      this.json(call.body)
    }
    this.command(curlOf(call))
    const answer = await send(call)
    const refused = answer.status >= 400
    this.#print(`${this.#terminal.style(refused ? 'red' : 'green', `  ${answer.status}`)}\n`)
    if (!call.quiet && answer.body !== undefined) this.json(answer.body)
    return answer
  }

  #print(text: string): void {
    const masked = this.#secrets.reduce((rest, secret) => rest.replaceAll(secret.reveal(), MASK), text)
    this.#terminal.out(masked)
  }
}

async function send({ url, token, method, path, body }: DemoCall): Promise<DemoAnswer> {
  const text = body === undefined ? undefined : new Secret(JSON.stringify(body))
  try {
    return await new ServiceClient(url, token).call(method, path, text)
  } catch (error) {
    if (!(error instanceof ServiceProblem)) throw error
    const { status, code, message: detail, errors } = error
    return { status, body: { code, detail, ...(errors.length > 0 && { errors }) } }
  }
}

function curlOf({ tokenName, method, url, path, body, bodyFile }: DemoCall): string {
  const lines = [`curl${method === 'GET' ? '' : ` -X ${method}`} '${url}${oneLine(path)}'`]
  lines.push(`-H "authorization: Bearer $${tokenName}"`)
  if (body !== undefined) {
    const data =
      bodyFile === undefined ? `'${JSON.stringify(body).replaceAll("'", `'\\''`)}'` : `@${bodyFile}`
    lines.push(`-H 'content-type: application/json' -d ${data}`)
  }
  return lines.join(' \\\n    ')
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '  ')
}
