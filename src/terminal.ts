import { fstatSync, writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { styleText } from 'node:util'
import { OutputLost, type Terminal } from './cli/command.ts'

// npm sends on a ^C that its child has had from the terminal already: so close together they are one.
const SAME_SIGNAL_MS = 500

/** This process's standard streams and signals. Called once. */
export function openTerminal(): Terminal {
  let lost: OutputLost | undefined
  const judge = (error: Error | null | undefined): void => {
    if (error) lost ??= new OutputLost((error as NodeJS.ErrnoException).code)
  }
  const isFile = fstatSync(process.stdout.fd).isFile()
  process.stdout.on('error', judge)
  // Nobody is left to be told.
  process.stderr.on('error', () => undefined)
  return {
    out(text) {
      if (lost) throw lost
      if (!isFile) return void process.stdout.write(text, judge)
      try {
        writeWhole(text, (bytes, at) => writeSync(process.stdout.fd, bytes, at))
      } catch (error) {
        judge(error as Error)
      }
    },
    err: (text) => void process.stderr.write(text),
    // A write is called back after those before it.
    written: () =>
      new Promise((resolve, reject) => {
        process.stdout.write('', () => (lost ? reject(lost) : resolve()))
      }),
    async input() {
      const chunks: Buffer[] = []
      for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
      return Buffer.concat(chunks)
    },
    get inputIsTyped() {
      return process.stdin.isTTY === true
    },
    async ask(question) {
      process.stderr.write(question)
      // The terminal edits the line itself: so ^C is a signal, and ends this process.
      const lines = createInterface({ input: process.stdin, terminal: false })
      for await (const line of lines) return line
      return ''
    },
    get screen() {
      return process.stdout.isTTY ? process.stdout : undefined
    },
    style: (format, text) => styleText(format, text, { stream: process.stdout }),
    onSignal(told) {
      let firstAt: number | undefined
      const heard = () => {
        const now = performance.now()
        if (firstAt === undefined) told(false)
        else if (now - firstAt > SAME_SIGNAL_MS) told(true)
        firstAt ??= now
      }
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, heard)
      return () => {
        for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, heard)
      }
    },
  }
}

/**
 * Writes all of a text. Where a disk has room for a part of it only, Node's own stream takes that for the whole.
 *
 * @param write Answers how many of the bytes from `at` on it took.
 * @throws what `write` throws
 */
export function writeWhole(text: string, write: (bytes: Buffer, at: number) => number): void {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length;) at += write(bytes, at)
}
