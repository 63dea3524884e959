import { invalid } from './errors.ts'
import { isSlug } from './names.ts'

/** Every action, in the order of the alphabet. The set is closed (docs/api.md, "404 or 403"). */
export const ACTIONS = [
  'admin:audit',
  'admin:connectors',
  'admin:health',
  'admin:identities',
  'admin:keys',
  'admin:leases',
  'admin:roles',
  'admin:stores',
  'admin:tokens',
  'admin:workspaces',
  'credential:delete',
  'credential:purge',
  'credential:read',
  'credential:write',
  'lease:issue',
  'lease:read',
  'lease:revoke',
] as const

/** What a caller may be allowed to do. */
export type Action = (typeof ACTIONS)[number]

/** Each means all actions of its kind. */
export const ACTION_WILDCARDS = ['credential:*', 'lease:*', 'admin:*'] as const

/** One line of a role. A list that is left out matches everything, an empty one nothing. */
export interface Grant {
  /** Actions and {@link ACTION_WILDCARDS}. */
  actions: string[]
  /** Patterns, in which `*` is any run of characters; so in the next three. */
  workspaces: string[]
  connectors?: string[]
  credentials?: string[]
  /** A pattern for each label that has to be there. */
  labels?: Record<string, string>
  lease_ttl_seconds_max?: number
}

/** The credential that a grant is held against. */
export interface Subject {
  workspace: string
  connector: string
  name: string
  labels: Record<string, string>
}

const STARS_MAX = 8
const LABEL_PATTERN_LENGTH_MAX = 128
const LEASE_TTL_SECONDS_MAX = 3600
const SLUGS_PATTERN = /^[a-z0-9*-]{1,63}$/
const CREDENTIAL_NAMES_PATTERN = /^[A-Za-z0-9._*-]{1,128}$/

/**
 * Whether the whole text matches the pattern, in which `*` is any run of characters and all else is itself.
 *
 * Taking the first place for each part is enough, so nothing is tried twice. Both are well-formed Unicode, and so is
 * each part between stars: none can match half of a character.
 */
export function matches(pattern: string, text: string): boolean {
  const parts = pattern.split('*')
  const head = parts.shift()!
  const tail = parts.pop()
  if (tail === undefined) return text === head
  if (text.length < head.length + tail.length) return false
  if (!text.startsWith(head) || !text.endsWith(tail)) return false
  const middle = text.slice(head.length, text.length - tail.length)
  let from = 0
  for (const part of parts) {
    const found = middle.indexOf(part, from)
    if (found < 0) return false
    from = found + part.length
  }
  return true
}

/** Whether the grant's lists and labels all match, whatever its actions. */
export function covers(grant: Grant, subject: Subject): boolean {
  return (
    anyMatches(grant.workspaces, subject.workspace) &&
    anyMatches(grant.connectors, subject.connector) &&
    anyMatches(grant.credentials, subject.name) &&
    Object.entries(grant.labels ?? {}).every(
      ([key, pattern]) => Object.hasOwn(subject.labels, key) && matches(pattern, subject.labels[key]!),
    )
  )
}

/** Whether some grant gives the action on this credential. */
export function allows(grants: readonly Grant[], action: Action, subject: Subject): boolean {
  return grants.some((grant) => gives(grant, action) && covers(grant, subject))
}

/** Whether the caller may know that the credential is there; if not, he is told 404 and not 403. */
export function mayKnow(grants: readonly Grant[], subject: Subject): boolean {
  return grants.some((grant) => isAboutCredentials(grant) && covers(grant, subject))
}

/** Whether the caller has any `credential:` or `lease:` grant in the workspace. */
export function inWorkspace(grants: readonly Grant[], workspace: string): boolean {
  return grants.some((grant) => isAboutCredentials(grant) && anyMatches(grant.workspaces, workspace))
}

/** Whether some grant gives the action on anything: in the workspace, or anywhere where none is named. */
export function hasAction(grants: readonly Grant[], action: Action, workspace?: string): boolean {
  return grants.some(
    (grant) => gives(grant, action) && (workspace === undefined || anyMatches(grant.workspaces, workspace)),
  )
}

/** Whether some grant gives an `admin:` action, which knows no limits. */
export function allowsAdmin(grants: readonly Grant[], action: Action): boolean {
  return hasAction(grants, action)
}

/** Whether a change brings the credential under a `lease:issue` grant that did not cover it before. */
export function newlyLeasable(grants: readonly Grant[], before: Subject, after: Subject): boolean {
  return grants.some((grant) => gives(grant, 'lease:issue') && covers(grant, after) && !covers(grant, before))
}

/**
 * Checks what a schema cannot say about a role's grants.
 *
 * @param pointer Where the list stands in the body.
 * @throws VaultError `invalid_request` at the first fault.
 */
export function checkGrants(grants: readonly Grant[], pointer: string): void {
  for (const [index, grant] of grants.entries()) checkGrant(grant, `${pointer}/${index}`)
}

/** The same pattern for SQL's `like` with the backslash as its escape. */
export function likePattern(pattern: string): string {
  return pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%')
}

/** Wildcards spelled out, each action once, in the order of the alphabet. Unknown ones are left out. */
export function expandActions(actions: readonly string[]): Action[] {
  return ACTIONS.filter((action) => names(actions, action))
}

function names(actions: readonly string[], action: Action): boolean {
  return actions.includes(action) || actions.includes(`${action.slice(0, action.indexOf(':'))}:*`)
}

function gives(grant: Grant, action: Action): boolean {
  return names(grant.actions, action)
}

function isAboutCredentials(grant: Grant): boolean {
  return grant.actions.some((action) => action.startsWith('credential:') || action.startsWith('lease:'))
}

function anyMatches(patterns: readonly string[] | undefined, text: string): boolean {
  return patterns === undefined || patterns.some((pattern) => matches(pattern, text))
}

function checkGrant(grant: Grant, pointer: string): void {
  const known: readonly string[] = [...ACTIONS, ...ACTION_WILDCARDS]
  for (const [index, action] of grant.actions.entries()) {
    if (!known.includes(action)) throw invalid(`${pointer}/actions/${index}`, 'There is no such action')
  }
  checkPatterns(grant.workspaces, SLUGS_PATTERN, `${pointer}/workspaces`)
  checkPatterns(grant.connectors, SLUGS_PATTERN, `${pointer}/connectors`)
  checkPatterns(grant.credentials, CREDENTIAL_NAMES_PATTERN, `${pointer}/credentials`)
  checkLabels(grant.labels, `${pointer}/labels`)
  const ttlSeconds = grant.lease_ttl_seconds_max
  if (ttlSeconds !== undefined && !(Number.isInteger(ttlSeconds) && isLeaseTtl(ttlSeconds))) {
    throw invalid(
      `${pointer}/lease_ttl_seconds_max`,
      `A lease takes 1 to ${LEASE_TTL_SECONDS_MAX} whole seconds`,
    )
  }
  if (grant.actions.some((action) => action.startsWith('admin:'))) checkUnlimited(grant, pointer)
}

function isLeaseTtl(seconds: number): boolean {
  return seconds >= 1 && seconds <= LEASE_TTL_SECONDS_MAX
}

function checkUnlimited(grant: Grant, pointer: string): void {
  if (grant.workspaces.length !== 1 || grant.workspaces[0] !== '*') {
    throw invalid(`${pointer}/workspaces`, 'A grant with an admin action has the workspaces ["*"]')
  }
  for (const limit of ['connectors', 'credentials', 'labels', 'lease_ttl_seconds_max'] as const) {
    if (grant[limit] !== undefined) {
      throw invalid(`${pointer}/${limit}`, 'A grant with an admin action has no limit but its workspaces')
    }
  }
}

function checkPatterns(patterns: readonly string[] | undefined, allowed: RegExp, pointer: string): void {
  for (const [index, pattern] of (patterns ?? []).entries()) {
    checkStars(pattern, `${pointer}/${index}`)
    if (!allowed.test(pattern)) {
      throw invalid(`${pointer}/${index}`, 'The pattern is too long or has a character that no such name has')
    }
  }
}

/** Label names are the caller's own, so every fault points at the whole of them. */
function checkLabels(labels: Record<string, string> | undefined, pointer: string): void {
  for (const [key, pattern] of Object.entries(labels ?? {})) {
    if (!isSlug(key)) throw invalid(pointer, 'The name of a label is a slug')
    checkStars(pattern, pointer)
    // The length counts characters, as PostgreSQL does, and not UTF-16 units.
    if ([...pattern].length > LABEL_PATTERN_LENGTH_MAX || pattern.includes('\0') || !pattern.isWellFormed()) {
      throw invalid(
        pointer,
        `A label's pattern has at most ${LABEL_PATTERN_LENGTH_MAX} characters, and no U+0000`,
      )
    }
  }
}

function checkStars(pattern: string, pointer: string): void {
  if (pattern.split('*').length - 1 > STARS_MAX) {
    throw invalid(pointer, `A pattern has at most ${STARS_MAX} stars`)
  }
}
