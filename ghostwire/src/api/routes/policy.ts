// /v1/policy: the HuJSON text and its versions, in and out as they are; questions about it are in questions.ts.

import type { FastifyReply } from 'fastify';
import type { Domain } from '../../domain.js';
import { GhostwireError } from '../../errors.js';
import { ALLOW_ALL, type CompiledPolicy } from '../../policy/compile.js';
import { exportPolicy } from '../../policy/export.js';
import type { Policy } from '../../policy/policies.js';
import { textDiff } from '../../policy/text-diff.js';
import type { VersionInfo } from '../../policy/versions.js';
import { askingAdmin, requireAdmin } from '../auth.js';
import { POLICY_LIMIT } from '../limits.js';
import type { Routes } from '../rest.js';
import * as schemas from '../schemas.js';
import { expected, iso } from './shared.js';

export function policyRoutes(app: Routes, domain: Domain): void {
  const { adminKeys, policies, rules, enforcement, preview, engine } = domain;
  const admin = { onRequest: requireAdmin(adminKeys) };
  const errors = { '4xx': schemas.ErrorResponse, '5xx': schemas.ErrorResponse };
  const security = [{ admin: [] }];

  app.get(
    '/v1/policy',
    { ...admin, schema: { summary: 'The policy in force', security, response: { 200: schemas.Policy, ...errors } } },
    (_request, reply) => present(policies.current, reply),
  );

  app.get(
    '/v1/policy/versions',
    {
      ...admin,
      schema: { summary: 'The versions that are kept, the newest first', security, response: { 200: schemas.PolicyVersionList, ...errors } },
    },
    () => ({ versions: policies.versions.list().map((info) => ({ ...described(info), size: info.size })) }),
  );

  app.get(
    '/v1/policy/versions/:version',
    {
      ...admin,
      schema: {
        summary: 'One version with its text',
        security,
        params: schemas.VersionNumber,
        response: { 200: schemas.PolicyVersion, ...errors },
      },
    },
    async (request) => {
      const record = await policies.versions.get(Number(request.params.version));
      return { ...described(record), text: record.text };
    },
  );

  /** A version's text and meaning; 0 is what was before the first. */
  const version = async (name: string): Promise<{ text: string; policy: CompiledPolicy }> => {
    const number = name === 'live' ? policies.current.version : Number(name);
    if (number === policies.current.version) return { text: policies.current.text ?? '', policy: enforcement.policy };
    if (number === 0) return { text: '', policy: enforcement.with(ALLOW_ALL) };
    const { text } = await policies.versions.get(number);
    return { text, policy: enforcement.with(policies.read(text)) };
  };

  app.get(
    '/v1/policy/diff',
    {
      ...admin,
      schema: {
        summary: 'What differs between two versions: the text, and what the peers that there are may do',
        security,
        querystring: schemas.DiffQuery,
        response: { 200: schemas.PolicyDiff, ...errors },
      },
    },
    async (request) => {
      const { from, to } = request.query;
      const [before, after] = [await version(from), await version(to)];
      const difference = await preview.difference(enforcement.policy, before.policy, after.policy);
      return { text: textDiff(before.text, after.text, [`version ${from}`, `version ${to}`]), access: difference };
    },
  );

  app.post(
    '/v1/policy/rollback',
    {
      ...admin,
      schema: {
        summary: 'Put the text of an earlier version in force, as a new version; If-Match takes the version that it replaces',
        security,
        body: schemas.PolicyRollback,
        response: { 200: schemas.Policy, ...errors },
      },
    },
    async (request, reply) => {
      const { version: number, comment = '' } = request.body;
      const about = { author: askingAdmin(adminKeys, request), comment };
      return present(await policies.rollback(number, expected(request.headers['if-match']), about), reply);
    },
  );

  app.get(
    '/v1/policy/export',
    {
      ...admin,
      schema: {
        summary: 'All that is in force as one file, and what a file cannot say',
        security,
        response: { 200: schemas.PolicyExport, ...errors },
      },
    },
    () => {
      const unused = new Set(engine.unusedRules().map(({ rule }) => rule));
      const { text, complete, included, omitted } = exportPolicy(policies.current.text, rules.list(), unused, Date.now());
      return { text, complete, included: [...included], omitted: [...omitted] };
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
          summary: 'Put a policy in force; If-Match takes the version that it replaces',
          security,
          querystring: schemas.PolicyComment,
          body,
          response: { 200: schemas.Policy, ...errors },
        },
      },
      async (request, reply) => {
        const { comment = '' } = request.query as { comment?: string };
        const about = { author: askingAdmin(adminKeys, request), comment };
        return present(await policies.put(hujson(request.body), expected(request.headers['if-match']), about), reply);
      },
    );
    texts.post(
      '/v1/policy/check',
      {
        ...admin,
        bodyLimit: POLICY_LIMIT,
        schema: {
          summary: 'Whether a policy is valid, and what it would change; changes nothing',
          security,
          querystring: schemas.CheckAgainst,
          body,
          response: { 200: schemas.PolicyCheck, ...errors },
        },
      },
      async (request) => {
        const compiled = policies.check(hujson(request.body));
        const count = compiled.rules.length;
        if ((request.query as { against?: string }).against === undefined) return { rules: count };
        const difference = await preview.difference(enforcement.policy, enforcement.policy, enforcement.with(compiled));
        return { rules: count, difference };
      },
    );
    done();
  });
}

function hujson(body: unknown): string {
  if (typeof body !== 'string') throw new GhostwireError('ERR_POLICY_SYNTAX', 'the body is empty; it must be the policy as HuJSON');
  return body;
}

function described({ version, writtenAt, author, comment, rollbackOf }: Omit<VersionInfo, 'size' | 'writtenAt'> & { writtenAt: number | null }) {
  return { version, writtenAt: iso(writtenAt), author, comment, rollbackOf };
}

function present(policy: Policy, reply: FastifyReply) {
  void reply.header('etag', `"${policy.version}"`);
  return { ...described(policy), revision: policy.revision, text: policy.text };
}
