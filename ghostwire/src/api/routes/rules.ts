// /v1/policy/rules: the rules beside the policy file.

import type { FastifyReply } from 'fastify';
import type { Domain } from '../../domain.js';
import { DEFAULT_PRIORITY, ruleState, type NativeRule, type RuleFields } from '../../policy/rules.js';
import { askingAdmin, requireAdmin } from '../auth.js';
import type { Routes } from '../rest.js';
import * as schemas from '../schemas.js';
import { expected, future, iso } from './shared.js';

export function ruleRoutes(app: Routes, { adminKeys, rules }: Domain): void {
  const admin = { onRequest: requireAdmin(adminKeys) };
  const errors = { '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse };
  const security = [{ admin: [] }];

  app.get(
    '/v1/policy/rules',
    {
      ...admin,
      schema: { summary: 'Native rules, in the order in which they decide', security, response: { 200: schemas.RuleList, ...errors } },
    },
    () => ({ rules: rules.list().map(present) }),
  );

  app.post(
    '/v1/policy/rules',
    {
      ...admin,
      schema: { summary: 'Add a native rule; it is in force at once', security, body: schemas.NewRule, response: { 201: schemas.Rule, ...errors } },
    },
    async (request, reply) => {
      const { expiresAt, ports = [], ...given } = request.body;
      const fields: RuleFields = {
        priority: DEFAULT_PRIORITY,
        protocols: [],
        enabled: true,
        comment: '',
        ...given,
        ports: ports.map(pair),
        expiresAt: future(expiresAt),
      };
      const rule = await rules.add(fields, askingAdmin(adminKeys, request));
      void reply.code(201);
      return answer(rule, reply);
    },
  );

  app.get(
    '/v1/policy/rules/:id',
    { ...admin, schema: { summary: 'One native rule', security, params: schemas.RuleNumber, response: { 200: schemas.Rule, ...errors } } },
    (request, reply) => answer(rules.get(Number(request.params.id)), reply),
  );

  app.patch(
    '/v1/policy/rules/:id',
    {
      ...admin,
      schema: {
        summary: 'Change a native rule, switch it on or off; If-Match takes the revision that it has',
        security,
        params: schemas.RuleNumber,
        body: schemas.RuleUpdate,
        response: { 200: schemas.Rule, ...errors },
      },
    },
    async (request, reply) => {
      const { expiresAt, ports, ...given } = request.body;
      const change = {
        ...given,
        ...(ports === undefined ? {} : { ports: ports.map(pair) }),
        ...(expiresAt === undefined ? {} : { expiresAt: future(expiresAt) }),
      };
      return answer(await rules.update(Number(request.params.id), change, expected(request.headers['if-match'])), reply);
    },
  );

  app.delete(
    '/v1/policy/rules/:id',
    {
      ...admin,
      schema: { summary: 'Remove a native rule', security, params: schemas.RuleNumber, response: { 204: schemas.Nothing, ...errors } },
    },
    async (request, reply) => {
      await rules.remove(Number(request.params.id), expected(request.headers['if-match']));
      return reply.code(204).send(null);
    },
  );
}

/** The schema has made sure that there are two. */
const pair = ([first = 0, last = 0]: readonly number[]): [number, number] => [first, last];

function answer(rule: NativeRule, reply: FastifyReply): schemas.RuleBody {
  void reply.header('etag', `"${rule.revision}"`);
  return present(rule);
}

function present({ id, revision, record }: NativeRule): schemas.RuleBody {
  const { action, priority, sources, destinations, protocols, ports, enabled, expiresAt, comment, createdAt, author } = record;
  return {
    id,
    revision,
    state: ruleState(record, Date.now()),
    action,
    priority,
    sources: [...sources],
    destinations: [...destinations],
    protocols: [...protocols],
    ports: ports.map((range) => [...range]),
    enabled,
    expiresAt: iso(expiresAt),
    comment,
    createdAt: new Date(createdAt).toISOString(),
    author,
  };
}
