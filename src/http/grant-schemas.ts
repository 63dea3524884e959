import { ACTION_WILDCARDS, ACTIONS } from '../core/grants.ts'
import { SLUG_PATTERN } from '../core/names.ts'
import type { Component } from './schemas.ts'
import { closed, count, freeText, open, textMap, texts, ttlSeconds } from './schemas.ts'

const patterns = {
  type: 'array',
  maxItems: 100,
  items: { type: 'string', minLength: 1, maxLength: 128 },
  description: '`*` is any run of characters.',
}

const optional = ['connectors', 'credentials', 'labels', 'lease_ttl_seconds_max']

/** A grant as it is answered. */
export const grantComponent: Component = {
  $id: 'Grant',
  ...open(
    {
      actions: texts,
      workspaces: texts,
      connectors: texts,
      credentials: texts,
      labels: textMap,
      lease_ttl_seconds_max: count,
    },
    optional,
  ),
}

/** A grant as it is asked for. */
export const newGrantComponent: Component = {
  $id: 'NewGrant',
  ...closed(
    {
      actions: {
        type: 'array',
        maxItems: 32,
        uniqueItems: true,
        items: { type: 'string', enum: [...ACTIONS, ...ACTION_WILDCARDS] },
      },
      workspaces: patterns,
      connectors: patterns,
      credentials: patterns,
      labels: {
        type: 'object',
        maxProperties: 32,
        propertyNames: { pattern: SLUG_PATTERN },
        additionalProperties: freeText(128),
      },
      lease_ttl_seconds_max: ttlSeconds,
    },
    ['actions', 'workspaces'],
  ),
}
