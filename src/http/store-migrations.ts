import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'
import type { ProblemCode } from '../core/errors.ts'
import type { Relocation, RelocationPlan, Route } from '../core/relocation.ts'
import { reportOf } from '../core/relocation-report.ts'
import type { Relocations } from '../core/relocations.ts'
import { ofStores } from './credential-answers.ts'
import { operation } from './operation.ts'
import type { PageQuery } from './query.ts'
import { page, pageAnswer, pageRequest, UUID } from './query.ts'
import { callerOf, callOf } from './request-caller.ts'
import type { Component } from './schemas.ts'
import { closed, count, flag, listOf, open, ref, slug, text, texts, time } from './schemas.ts'

const route = { from: slug, to: slug, workspaces: { type: 'array', minItems: 1, maxItems: 100, items: slug } }
const stay = { workspace: text, credential: text, version: count, code: text }

const speed = (what: string) => ({
  duration_seconds: { ...count, description: `For how long it has ${what}; not while it stood still.` },
  rate_per_second: { type: 'number', description: `Copies ${what} a second of that time.` },
})

/** What the routes of store migrations take and answer. */
export const storeMigrationComponents: readonly Component[] = [
  {
    $id: 'StoreMigrationOrder',
    ...closed({ ...route, dry_run: { ...flag, description: 'Answers a plan, and keeps nothing.' } }, [
      'from',
      'to',
    ]),
    examples: [{ from: 'local', to: 'team-vault', dry_run: true }],
  },
  { $id: 'StoreMigrationStay', ...open(stay) },
  {
    $id: 'StoreMigration',
    ...open(
      {
        id: text,
        state: {
          type: 'string',
          description: '`running`, `done`, `failed`, `cancelled`, `rolled_back` or `finalized`.',
        },
        heading: {
          type: 'string',
          description: 'What a running one does: it moves `over`, or `back`, or is `closing`.',
        },
        from: text,
        to: text,
        workspaces: texts,
        total: { ...count, description: 'Copies to be moved when it began.' },
        moved: { ...count, description: 'Copies that stand at the target now because of it.' },
        moved_over: {
          ...count,
          description: 'Copies that it has moved in all, those that went back included.',
        },
        skipped: { ...count, description: 'Copies that stay where they are: `stays` says why.' },
        failed: count,
        throttled: { ...count, description: 'How often a store asked for patience.' },
        ...speed('moved over'),
        rollback: {
          ...open({ moved: count, ...speed('moved back') }, Object.keys(speed(''))),
          description: 'Of one that was rolled back, or is: how many copies went back, and how fast.',
        },
        started_at: time,
        started_by: text,
        finished_at: time,
        failures: { type: 'array', items: ref('StoreMigrationStay'), description: 'The first 100.' },
        stays: { type: 'array', items: ref('StoreMigrationStay'), description: 'The first 100.' },
      },
      ['workspaces', ...Object.keys(speed('')), 'rollback', 'finished_at'],
    ),
  },
  listOf('StoreMigrationList', 'StoreMigration'),
  {
    $id: 'StoreMigrationPlan',
    ...open({
      plan: open(
        {
          from: text,
          to: text,
          workspaces: texts,
          copies: count,
          bytes: {
            ...count,
            description: 'About how long the values are; left out where only the store knows.',
          },
          seconds: { ...count, description: 'Under the limit of writes of the target, where it has one.' },
          groups: {
            type: 'array',
            items: open({ workspace: text, connector: text, copies: count, bytes: count }, ['bytes']),
          },
          stays: { type: 'array', items: open({ reason: text, copies: count }) },
        },
        ['workspaces', 'bytes', 'seconds'],
      ),
    }),
  },
]

interface Order extends Route {
  dry_run?: boolean
}
interface Identified {
  id: string
}

const ALL = '/v1/admin/store-migrations'
const tag = 'stores'
const run = { description: 'The run.', schema: ref('StoreMigration') }

/** Changes of a run: what each does, and what may stand against it. */
const CHANGES: readonly {
  what: 'cancel' | 'resume' | 'rollback' | 'finalize'
  summary: string
  codes: readonly ProblemCode[]
}[] = [
  { what: 'cancel', summary: 'Stop moving; copies stay where they are', codes: [] },
  { what: 'resume', summary: 'Go on, and try again what had failed', codes: ['already_running'] },
  { what: 'rollback', summary: 'Point every credential back', codes: ['already_running'] },
  {
    what: 'finalize',
    summary: 'Drop the sources: only the opposite store migration goes back then',
    codes: ['already_running'],
  },
]

/** Store migrations, for operators. */
export function storeMigrationRoutes({ relocations }: { relocations: Relocations }): FastifyPluginCallback {
  return (app, _options, done) => {
    app.post<{ Body: Order }>(
      ALL,
      operation({
        operationId: 'startStoreMigration',
        tag,
        summary: 'Move copies to another store, or plan it',
        body: 'StoreMigrationOrder',
        answers: {
          200: { description: 'The plan of a dry run.', schema: ref('StoreMigrationPlan') },
          202: { ...run, headers: ['location'] },
        },
        codes: ['forbidden', 'unknown_name', 'already_running', ...ofStores],
      }),
      async (request, reply: FastifyReply) => {
        const { dry_run: dryRun, ...order } = request.body
        if (dryRun) return { plan: toPlan(await relocations.plan(callOf(request), callerOf(request), order)) }
        const begun = await relocations.start(callOf(request), callerOf(request), order)
        return reply.code(202).header('location', `${ALL}/${begun.id}`).send(toAnswer(begun))
      },
    )
    app.get<{ Querystring: PageQuery }>(
      ALL,
      operation({
        operationId: 'listStoreMigrations',
        tag,
        summary: 'Store migrations, newest first',
        query: page,
        answers: { 200: { description: 'A page of runs.', schema: ref('StoreMigrationList') } },
        codes: ['forbidden'],
      }),
      async (request) => {
        const wanted = pageRequest(request.query, [UUID])
        return pageAnswer(await relocations.list(callOf(request), callerOf(request), wanted), toAnswer)
      },
    )
    app.get<{ Params: Identified }>(
      `${ALL}/:id`,
      operation({
        operationId: 'getStoreMigration',
        tag,
        summary: 'One store migration, and how far it is',
        answers: { 200: run },
        codes: ['forbidden', 'not_found'],
      }),
      async (request) =>
        toAnswer(await relocations.read(callOf(request), callerOf(request), request.params.id)),
    )
    for (const { what, summary, codes } of CHANGES) {
      app.post<{ Params: Identified }>(
        `${ALL}/:id/${what}`,
        operation({
          operationId: `${what}StoreMigration`,
          tag,
          summary,
          answers: { 200: run },
          codes: ['forbidden', 'not_found', 'wrong_state', ...codes],
        }),
        async (request: FastifyRequest<{ Params: Identified }>) =>
          toAnswer(await relocations[what](callOf(request), callerOf(request), request.params.id)),
      )
    }
    done()
  }
}

function toPlan({ from, to, workspaces, copies, bytes, groups, stays, seconds }: RelocationPlan) {
  return { from, to, workspaces, copies, bytes, seconds, groups, stays }
}

function toAnswer(one: Relocation): Record<string, unknown> {
  const { id, state, heading, from, to, workspaces, total } = one
  return {
    id,
    state,
    heading,
    from,
    to,
    workspaces,
    total,
    ...reportOf(one),
    started_at: one.startedAt.toISOString(),
    started_by: one.startedBy,
    finished_at: one.finishedAt?.toISOString(),
    failures: one.failures,
    stays: one.stays,
  }
}
