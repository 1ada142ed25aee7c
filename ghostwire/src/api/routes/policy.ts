// /v1/policy: the HuJSON text goes in and out as it is; questions about it are JSON.

import type { FastifyReply } from 'fastify';
import type { Domain } from '../../domain.js';
import { GhostwireError } from '../../errors.js';
import type { Policy } from '../../policy/policies.js';
import { requireAdmin } from '../auth.js';
import type { Routes } from '../rest.js';
import * as schemas from '../schemas.js';

/** Bytes of a policy: what fits into one journal value with room for the escapes of JSON. */
const POLICY_LIMIT = 768 * 1024;

const PROTOCOLS = { tcp: 6, udp: 17, icmp: 1 } as const;

export function policyRoutes(app: Routes, { adminKeys, policies, access }: Domain): void {
  const admin = { onRequest: requireAdmin(adminKeys) };
  const errors = { '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse };
  const security = [{ admin: [] }];

  app.get(
    '/v1/policy',
    { ...admin, schema: { summary: 'The policy in force', security, response: { 200: schemas.Policy, ...errors } } },
    (_request, reply) => present(policies.current, reply),
  );

  app.post(
    '/v1/policy/decide',
    {
      ...admin,
      schema: {
        summary: 'Whether one end may reach the other',
        security,
        body: schemas.Question,
        response: { 200: schemas.Decision, ...errors },
      },
    },
    (request) => {
      const { src, dst, proto = 'tcp', port = 0 } = request.body;
      return access.decide({ source: src, destination: dst, protocol: typeof proto === 'number' ? proto : PROTOCOLS[proto], port });
    },
  );

  // Apart from the other routes, because here every body is text: JSON's own parser would refuse comments.
  void app.register((texts, _options, done) => {
    texts.removeAllContentTypeParsers();
    texts.addContentTypeParser('*', { parseAs: 'string', bodyLimit: POLICY_LIMIT }, (_request, body, parsed) => parsed(null, body));
    const body = { type: 'string', contentMediaType: 'application/hujson', description: 'HuJSON' } as const;

    texts.put(
      '/v1/policy',
      {
        ...admin,
        bodyLimit: POLICY_LIMIT,
        schema: {
          summary: 'Put a policy in force; If-Match takes the revision that it replaces',
          security,
          body,
          response: { 200: schemas.Policy, ...errors },
        },
      },
      async (request, reply) => present(await policies.put(hujson(request.body), expectedRevision(request.headers['if-match'])), reply),
    );
    texts.post(
      '/v1/policy/check',
      {
        ...admin,
        bodyLimit: POLICY_LIMIT,
        schema: {
          summary: 'Whether a policy is valid; changes nothing',
          security,
          body,
          response: { 200: schemas.PolicyCheck, ...errors },
        },
      },
      (request, reply) => {
        void reply.send({ rules: policies.check(hujson(request.body)).rules.length });
      },
    );
    done();
  });
}

function hujson(body: unknown): string {
  if (typeof body !== 'string') throw new GhostwireError('ERR_POLICY_SYNTAX', 'the body is empty; it must be the policy as HuJSON');
  return body;
}

/** @throws GhostwireError ERR_VALIDATION */
function expectedRevision(header: string | undefined): number | undefined {
  if (header === undefined || header === '*') return undefined;
  const digits = /^"?(\d{1,15})"?$/.exec(header)?.[1];
  if (digits === undefined)
    throw new GhostwireError('ERR_VALIDATION', 'If-Match must be a revision as GET /v1/policy shows it', { path: 'If-Match' });
  return Number(digits);
}

function present({ revision, text, writtenAt }: Policy, reply: FastifyReply) {
  void reply.header('etag', `"${revision}"`);
  return { revision, text, writtenAt: writtenAt === null ? null : new Date(writtenAt).toISOString() };
}
