import type { Terminal } from '../../src/cli/command.ts'

/** A terminal that remembers what was written and sends signals when told. */
export function fakeTerminal() {
  let out = ''
  let err = ''
  let told: ((again: boolean) => void) | undefined
  const terminal: Terminal = {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    written: async () => {},
    input: async () => Buffer.alloc(0),
    inputIsTyped: false,
    ask: async () => '',
    screen: undefined,
    style: (_format, text) => text,
    onSignal(callback) {
      told = callback
      return () => (told = undefined)
    },
  }
  return {
    terminal,
    out: () => out,
    err: () => err,
    signal: () => told?.(false),
    listening: () => told !== undefined,
  }
}

/** A screen that remembers what was drawn. */
export function fakeScreen(columns = 120) {
  let drawn = ''
  const screen = { isTTY: true, columns, write: (text: string) => ((drawn += text), true) }
  return { screen: screen as unknown as NodeJS.WriteStream, drawn: () => drawn }
}
