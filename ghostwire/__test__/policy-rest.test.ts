// The policy's routes over a real socket: versions, diffs, dry runs, explanations, rules; and that refusals change nothing.

import type { AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { createRest } from '../src/api/rest.js';
import { silentLog } from '../src/log.js';
import { startNetwork, type TestNetwork } from './support/network.js';

interface Answer {
  readonly status: number;
  readonly etag: string | null;
  // Bodies are compared with literals, which is all the typing that a test needs.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
}

interface Server extends TestNetwork {
  readonly adminId: string;
  ask(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
}

async function serve(t: ExecutionContext): Promise<Server> {
  const network = await startNetwork();
  const connect = () => ({ url: 'ws://sync', token: null, expiresAt: null, stun: null });
  const rest = createRest({ domain: network, log: silentLog, version: '0.0.0', connect });
  await rest.listen({ host: '127.0.0.1', port: 0 });
  t.teardown(async () => {
    await rest.close();
    await network.stop();
  });
  const { port } = rest.server.address() as AddressInfo;
  const { text, key } = await network.adminKeys.create({ description: 'test', expiresAt: null });
  return {
    ...network,
    adminId: key.id,
    ask: async (method, path, body, headers) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${text}`,
          ...(typeof body === 'object' ? { 'content-type': 'application/json' } : {}),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      const answer = await response.text();
      return { status: response.status, etag: response.headers.get('etag'), body: answer === '' ? undefined : (JSON.parse(answer) as unknown) };
    },
  };
}

function refused(t: ExecutionContext, { status, body }: Answer, expected: number, code: string, message = /./): void {
  t.deepEqual([status, body.error.code], [expected, code], body.error.message);
  t.regex(body.error.message, message);
}

const OPEN = '{"acls": [\n  {"action": "accept", "src": ["*"], "dst": ["*:*"]},\n]}';
const WEB = '{"acls": [\n  {"action": "accept", "src": ["*"], "dst": ["*:80"]},\n]}';

test('versions: listed, shown, compared, brought back', async (t) => {
  const { ask, adminId, populate } = await serve(t);
  await populate({ hostname: 'a' }, { hostname: 'b' });
  const first = await ask('PUT', '/v1/policy?comment=first%20try', OPEN, { 'if-match': '"0"' });
  t.like(first, { status: 200, etag: '"1"', body: { version: 1, author: adminId, comment: 'first try' } });
  t.is((await ask('PUT', '/v1/policy', WEB, { 'if-match': first.etag! })).body.version, 2);

  const { body } = await ask('GET', '/v1/policy/versions');
  t.like(body.versions, { length: 2, 0: { version: 2, comment: '', size: WEB.length }, 1: { version: 1, author: adminId } });
  t.false('text' in body.versions[0]);
  t.like((await ask('GET', '/v1/policy/versions/1')).body, { version: 1, text: OPEN });
  refused(t, await ask('GET', '/v1/policy/versions/3'), 404, 'ERR_POLICY_VERSION');
  refused(t, await ask('GET', '/v1/policy/versions/0'), 400, 'ERR_VALIDATION');

  const diff = (await ask('GET', '/v1/policy/diff?from=1&to=live')).body;
  t.regex(diff.text, /^--- version 1\n\+\+\+ version live\n@@ /);
  t.regex(diff.text, /^-.*"\*:\*"/m);
  t.regex(diff.text, /^\+.*"\*:80"/m);
  t.like(diff.access, { pairs: { gaining: 0, losing: 2, opened: 0, closed: 0 }, concerned: 2, complete: true });
  t.deepEqual(diff.access.changes[0].sources.names, ['a', 'b']);
  t.true(diff.access.changes[0].lost.some(({ ports }: { ports: number[][] }) => ports.some(([low]) => low === 81)));
  t.is((await ask('GET', '/v1/policy/diff?from=2&to=2')).body.text, '');
  t.like((await ask('GET', '/v1/policy/diff?from=0&to=1')).body.access.pairs, { gaining: 0, losing: 0 }, 'without a policy everything passes');
  refused(t, await ask('GET', '/v1/policy/diff?from=1'), 400, 'ERR_VALIDATION', /to is required/);
  refused(t, await ask('GET', '/v1/policy/diff?from=7&to=1'), 404, 'ERR_POLICY_VERSION');

  refused(t, await ask('POST', '/v1/policy/rollback', { version: 1 }, { 'if-match': '"1"' }), 412, 'ERR_POLICY_CHANGED');
  const back = await ask('POST', '/v1/policy/rollback', { version: 1, comment: 'oops' }, { 'if-match': '"2"' });
  t.like(back, { status: 200, etag: '"3"', body: { version: 3, rollbackOf: 1, text: OPEN, comment: 'oops', author: adminId } });
  refused(t, await ask('POST', '/v1/policy/rollback', { version: 9 }), 404, 'ERR_POLICY_VERSION');
  refused(t, await ask('POST', '/v1/policy/rollback', {}), 400, 'ERR_VALIDATION');
});

test('writers at once with one ETag: one gets through', async (t) => {
  const { ask, policies } = await serve(t);
  await ask('PUT', '/v1/policy', OPEN);
  const { etag } = await ask('GET', '/v1/policy');
  const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => ask('PUT', '/v1/policy', `${WEB} // ${index}`, { 'if-match': etag! })));
  t.deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array.from({ length: 9 }, () => 412)]);
  for (const { status, body } of answers) if (status === 412) t.like(body.error, { code: 'ERR_POLICY_CHANGED', retryable: false, details: { version: 2 } });
  t.is(policies.current.version, 2);
});

test('a dry run tells who gains and loses, and changes nothing', async (t) => {
  const { ask, policies, populate } = await serve(t);
  await populate({ hostname: 'a' }, { hostname: 'b' });
  await ask('PUT', '/v1/policy', OPEN);
  t.deepEqual((await ask('POST', '/v1/policy/check', WEB)).body, { rules: 2 });
  const { status, body } = await ask('POST', '/v1/policy/check?against=live', WEB);
  t.is(status, 200);
  t.like(body.difference, { pairs: { losing: 2, gaining: 0 }, concerned: 2, complete: true });
  t.is(policies.current.version, 1);
  refused(t, await ask('POST', '/v1/policy/check?against=1', WEB), 400, 'ERR_VALIDATION');
  refused(t, await ask('POST', '/v1/policy/check?against=live', '{"acls": [1]}'), 400, 'ERR_POLICY_INVALID', /line 1/);
});

test('a policy of 10 MB is refused, and the old one stays', async (t) => {
  const { ask, policies } = await serve(t);
  await ask('PUT', '/v1/policy', OPEN);
  for (const [method, path] of [['PUT', '/v1/policy'], ['POST', '/v1/policy/check'], ['POST', '/v1/policy/check?against=live']] as const)
  {
    refused(t, await ask(method, path, `${OPEN}//${'x'.repeat(800_000)}`), 413, 'ERR_BODY_TOO_LARGE');
    // The server answers and closes while it is still being sent to: not every client hears the answer.
    const answer = await ask(method, path, `${OPEN}//${'x'.repeat(10_000_000)}`).catch(() => undefined);
    if (answer !== undefined) refused(t, answer, 413, 'ERR_BODY_TOO_LARGE');
  }
  refused(t, await ask('PUT', '/v1/policy', `{"acls": []} //${'"'.repeat(700_000)}`), 413, 'ERR_JOURNAL_LIMIT');
  refused(t, await ask('PUT', '/v1/policy', '['.repeat(700_000)), 400, 'ERR_POLICY_SYNTAX', /nested/);
  t.like(policies.current, { version: 1, text: OPEN });
});

test('rules: added, listed, switched, removed; and what they do', async (t) => {
  const { ask, adminId, register } = await serve(t);
  const a = await register({ hostname: 'a', user: 'ann@x' });
  const b = await register({ hostname: 'b' });
  await ask('PUT', '/v1/policy', OPEN);
  const made = await ask('POST', '/v1/policy/rules', {
    action: 'deny',
    sources: ['Ann@x'],
    destinations: ['*'],
    protocols: [6],
    ports: [[22, 22]],
    comment: 'no ssh',
    expiresAt: '2999-01-01T00:00:00.000Z',
  });
  t.is(made.status, 201);
  t.like(made.body, { id: 1, state: 'active', action: 'deny', priority: 100, enabled: true, author: adminId, expiresAt: '2999-01-01T00:00:00.000Z' });
  t.deepEqual(made.body.sources, ['ann@x']);
  const question = { src: 'a', dst: 'b', port: 22 };
  t.deepEqual((await ask('POST', '/v1/policy/decide', question)).body, { allowed: false, line: null, rule: 1 });
  const explained = (await ask('POST', '/v1/policy/explain', question)).body;
  t.like(explained, { allowed: false, reason: 'denied by native rule 1 (priority 100), before 1 other', routed: null, matches: 2 });
  t.deepEqual(explained.matching, [
    { line: null, rule: 1, action: 'deny', priority: 100, shadowed: false, text: 'no ssh' },
    { line: 2, rule: null, action: 'allow', priority: 0, shadowed: true, text: '{"action": "accept", "src": ["*"], "dst": ["*:*"]},' },
  ]);
  const filter = (await ask('GET', `/v1/peers/${b.id}/filter`)).body.rules as { sources: string[]; protocols: number[]; ports: number[][] }[];
  const fromAnn = filter.filter(({ sources, protocols }) => protocols.includes(6) && sources.includes(`${a.record.ipv4}/32`));
  t.deepEqual(fromAnn.map(({ ports }) => ports), [[[0, 21], [23, 65_535]]]);
  t.like((await ask('GET', '/v1/policy/export')).body, { complete: false, omitted: [{ id: 1, reason: 'a policy file cannot deny' }] });

  t.is((await ask('GET', '/v1/policy/rules')).body.rules.length, 1);
  t.deepEqual((await ask('GET', '/v1/policy/rules/1')).body, made.body);
  refused(t, await ask('PATCH', '/v1/policy/rules/1', { enabled: false }, { 'if-match': '"1"' }), 412, 'ERR_RULE_CHANGED');
  const off = await ask('PATCH', '/v1/policy/rules/1', { enabled: false, expiresAt: null }, { 'if-match': made.etag! });
  t.like(off.body, { state: 'disabled', expiresAt: null, comment: 'no ssh' });
  t.like((await ask('POST', '/v1/policy/decide', question)).body, { allowed: true, line: 2 });
  refused(t, await ask('PATCH', '/v1/policy/rules/1', {}), 400, 'ERR_VALIDATION');
  refused(t, await ask('PATCH', '/v1/policy/rules/2', { enabled: true }), 404, 'ERR_RULE_NOT_FOUND');
  t.is((await ask('DELETE', '/v1/policy/rules/1')).status, 204);
  refused(t, await ask('GET', '/v1/policy/rules/1'), 404, 'ERR_RULE_NOT_FOUND');

  const add = (more: object): Promise<Answer> => ask('POST', '/v1/policy/rules', { action: 'deny', sources: ['*'], destinations: ['*'], ...more });
  refused(t, await add({ action: 'drop' }), 400, 'ERR_VALIDATION', /action/);
  refused(t, await add({ sources: [] }), 400, 'ERR_VALIDATION', /sources/);
  refused(t, await add({ sources: ['group:none'] }), 400, 'ERR_RULE_INVALID', /group:none/);
  refused(t, await add({ ports: [[1]] }), 400, 'ERR_VALIDATION', /ports/);
  refused(t, await add({ ports: [[9, 1]] }), 400, 'ERR_RULE_INVALID', /9/);
  refused(t, await add({ expiresAt: '2001-01-01T00:00:00Z' }), 400, 'ERR_VALIDATION', /not in the future/);
  refused(t, await add({ priority: 1.5 }), 400, 'ERR_VALIDATION', /priority/);
  refused(t, await add({ colour: 'red' }), 400, 'ERR_VALIDATION', /colour is not a known field/);
});
