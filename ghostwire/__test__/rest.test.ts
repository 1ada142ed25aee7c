// The REST API over a real socket: what it answers, and that every refusal has the one shape.

import { connect as dial, type AddressInfo } from 'node:net';
import { text as readAll } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { createRest, type RestOptions } from '../src/api/rest.js';
import type { ErrorBody } from '../src/errors.js';
import { createLog, silentLog } from '../src/log.js';
import { startNetwork, wireguardKey, type TestNetwork } from './support/network.js';

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // Bodies are compared with literals, which is all the typing that a test needs.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
}

interface Server extends TestNetwork {
  readonly admin: string;
  readonly port: number;
  readonly adminHeaders: Record<string, string>;
  call(method: string, path: string, options?: { json?: unknown; body?: string; headers?: Record<string, string> }): Promise<Answer>;
  /** With the admin key. */
  ask(method: string, path: string, json?: unknown): Promise<Answer>;
}

async function serve(t: ExecutionContext, options: Partial<RestOptions> = {}): Promise<Server> {
  const network = await startNetwork();
  const rest = createRest({
    domain: network,
    log: silentLog,
    version: '0.0.0',
    connect: ({ handle }) => ({ url: 'ws://sync', token: `token-${handle}`, expiresAt: '2030-01-01T00:00:00.000Z', stun: null }),
    ...options,
  });
  await rest.listen({ host: '127.0.0.1', port: 0 });
  t.teardown(async () => {
    await rest.close();
    await network.stop();
  });
  const { port } = rest.server.address() as AddressInfo;
  const { text: admin } = await network.adminKeys.create({ description: 'test', expiresAt: null });
  const adminHeaders = { authorization: `Bearer ${admin}` };
  const call: Server['call'] = async (method, path, { json, body, headers } = {}) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: { ...(json === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(json === undefined && body === undefined ? {} : { body: body ?? JSON.stringify(json) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === '' ? undefined : (JSON.parse(text) as unknown) };
  };
  return {
    ...network,
    admin,
    port,
    adminHeaders,
    call,
    ask: (method, path, json) => call(method, path, { headers: adminHeaders, ...(json === undefined ? {} : { json }) }),
  };
}

function refused(t: ExecutionContext, { status, body }: Answer, expected: number, code: string, message = /./): void {
  const { error } = body as ErrorBody;
  t.deepEqual([status, error.code], [expected, code], error.message);
  t.deepEqual(Object.keys(error).sort(), ['code', 'details', 'message', 'retryable']);
  t.is(typeof error.retryable, 'boolean');
  t.regex(error.message, message);
}

const registration = (preauthKey: string, more: object = {}): object => ({
  preauthKey,
  wireguardKey: wireguardKey(),
  hostname: 'web',
  ...more,
});

test('register, show, list, change, delete', async (t) => {
  const { call, ask, key } = await serve(t);
  const registered = await call('POST', '/v1/peers/register', {
    json: registration(key, { user: 'ann@example.com', os: 'linux', endpoints: ['192.0.2.1:51820'], metadata: { rack: '7' } }),
  });
  t.is(registered.status, 201);
  t.is(registered.headers.get('cache-control'), 'no-store');
  const { peer, token, sync } = registered.body;
  t.like(peer, { name: 'web', user: 'ann@example.com', os: 'linux', metadata: { rack: '7' } });
  t.deepEqual(peer.addresses, ['100.64.0.1', 'fd7a:115c:a1e0::6440:1']);
  t.regex(token, /^gw_peer_/);
  t.deepEqual(sync, { url: 'ws://sync', token: 'token-1', expiresAt: '2030-01-01T00:00:00.000Z', stun: null });
  t.false(JSON.stringify(registered.body).includes('tokenHash'));

  t.deepEqual((await ask('GET', `/v1/peers/${peer.id}`)).body, peer);
  t.deepEqual((await ask('GET', '/v1/peers')).body, { peers: [peer], next: null });
  const changed = await ask('PATCH', `/v1/peers/${peer.id}`, { name: 'gate', tags: ['tag:x'] });
  t.like(changed.body, { id: peer.id, name: 'gate', tags: ['tag:x'] });

  const other = await call('POST', '/v1/peers/register', { json: registration(key) });
  t.deepEqual((await ask('GET', `/v1/peers/${peer.id}/visible`)).body, {
    peers: [{ id: other.body.peer.id, name: 'web', addresses: other.body.peer.addresses }],
  });

  const connection = await call('POST', '/v1/peers/self/connection-token', { headers: { authorization: `Bearer ${token}` } });
  t.like(connection, { status: 200, body: { token: 'token-1' } });

  const gone = await ask('DELETE', `/v1/peers/${peer.id}`);
  t.deepEqual([gone.status, gone.body], [204, undefined]);
  refused(t, await ask('GET', `/v1/peers/${peer.id}`), 404, 'ERR_PEER_NOT_FOUND', new RegExp(peer.id as string));
  refused(t, await ask('DELETE', `/v1/peers/${peer.id}`), 404, 'ERR_PEER_NOT_FOUND');
  refused(
    t,
    await call('POST', '/v1/peers/self/connection-token', { headers: { authorization: `Bearer ${token}` } }),
    401,
    'ERR_UNAUTHORIZED',
  );
});

test('pages', async (t) => {
  const { ask, register } = await serve(t);
  const ids = (await Promise.all(Array.from({ length: 5 }, () => register()))).map(({ id }) => id).sort();
  const first = (await ask('GET', '/v1/peers?limit=3')).body;
  t.deepEqual(
    first.peers.map(({ id }: { id: string }) => id),
    ids.slice(0, 3),
  );
  const second = (await ask('GET', `/v1/peers?limit=3&after=${first.next}`)).body;
  t.deepEqual([second.peers.map(({ id }: { id: string }) => id), second.next], [ids.slice(3), null]);
  for (const limit of ['0', '1001', '-1', 'x', '1e2', ''])
    refused(t, await ask('GET', `/v1/peers?limit=${limit}`), 400, 'ERR_VALIDATION', /limit/);
  refused(t, await ask('GET', '/v1/peers?limt=3'), 400, 'ERR_VALIDATION', /limt is not a known field/);
});

test('registrations that are malformed, oversize or duplicate', async (t) => {
  const { call, key, directory } = await serve(t);
  const register = (json: unknown): Promise<Answer> => call('POST', '/v1/peers/register', { json });
  refused(t, await register({}), 400, 'ERR_VALIDATION', /preauthKey is required/);
  refused(t, await register([]), 400, 'ERR_VALIDATION', /object/);
  refused(t, await register('x'), 400, 'ERR_VALIDATION');
  refused(t, await register(registration(key, { hostname: 7 })), 400, 'ERR_VALIDATION', /hostname must be string/);
  refused(t, await register(registration(key, { hostnam: 'x' })), 400, 'ERR_VALIDATION', /hostnam is not a known field/);
  refused(t, await register(registration(key, { hostname: 'x'.repeat(64) })), 400, 'ERR_VALIDATION', /hostname/);
  refused(t, await register(registration(key, { hostname: 'no dots.here' })), 400, 'ERR_HOSTNAME');
  refused(t, await register(registration(key, { tags: Array(33).fill('tag:a') })), 400, 'ERR_VALIDATION', /tags/);
  refused(t, await register(registration(key, { metadata: { 'no spaces': 'x' } })), 400, 'ERR_VALIDATION', /metadata/);
  refused(t, await register(registration(key, { os: 'linux\u001b[2J' })), 400, 'ERR_VALIDATION', /os/);
  refused(t, await register(registration(key, { wireguardKey: 'short' })), 400, 'ERR_WIREGUARD_KEY');
  refused(t, await register(registration(key, { metadata: { a: 'x'.repeat(40_000) } })), 413, 'ERR_BODY_TOO_LARGE');
  refused(t, await register(registration('gw_preauth_no')), 401, 'ERR_KEY_INVALID');
  const send = (body: string, type: string): Promise<Answer> =>
    call('POST', '/v1/peers/register', { body, headers: { 'content-type': type } });
  refused(t, await send('{"preauthKey":', 'application/json'), 400, 'ERR_BODY_SYNTAX');
  refused(t, await send('', 'application/json'), 400, 'ERR_BODY_SYNTAX');
  refused(t, await send('{"__proto__": {"x": 1}}', 'application/json'), 400, 'ERR_BODY_SYNTAX');
  refused(t, await send('a=b', 'application/x-www-form-urlencoded'), 415, 'ERR_BODY_TYPE');
  t.is(directory.size, 0);

  const good = registration(key);
  t.is((await register(good)).status, 201);
  refused(t, await register(good), 409, 'ERR_PEER_EXISTS');
  t.is(directory.size, 1);
});

test('who may ask', async (t) => {
  const { call, adminKeys, admin, key, peers } = await serve(t);
  const { token } = await peers.register({ preauthKey: key, wireguardKey: wireguardKey(), hostname: 'a' });
  const guarded = [
    ['GET', '/v1/peers'],
    ['GET', '/v1/peers/x'],
    ['PATCH', '/v1/peers/x'],
    ['DELETE', '/v1/peers/x'],
    ['GET', '/v1/peers/x/visible'],
    ['GET', '/v1/preauth-keys'],
    ['POST', '/v1/preauth-keys'],
    ['DELETE', '/v1/preauth-keys/x'],
    ['GET', '/v1/admin-keys'],
    ['POST', '/v1/admin-keys'],
    ['DELETE', '/v1/admin-keys/x'],
    ['GET', '/v1/policy'],
    ['PUT', '/v1/policy'],
    ['POST', '/v1/policy/check'],
    ['POST', '/v1/policy/decide'],
    ['POST', '/v1/policy/explain'],
    ['POST', '/v1/policy/rollback'],
    ['GET', '/v1/policy/versions'],
    ['GET', '/v1/policy/versions/1'],
    ['GET', '/v1/policy/diff?from=0&to=live'],
    ['GET', '/v1/policy/export'],
    ['GET', '/v1/policy/rules'],
    ['POST', '/v1/policy/rules'],
    ['GET', '/v1/policy/rules/1'],
    ['PATCH', '/v1/policy/rules/1'],
    ['DELETE', '/v1/policy/rules/1'],
    ['GET', '/v1/peers/p_x/filter'],
    ['GET', '/v1/addresses/100.64.0.1'],
    ['POST', '/v1/peers/self/connection-token'],
  ] as const;
  for (const [method, path] of guarded) {
    const answer = await call(method, path);
    refused(t, answer, 401, 'ERR_UNAUTHORIZED');
    t.is(answer.headers.get('www-authenticate'), 'Bearer');
  }
  for (const authorization of [
    'Bearer',
    'Bearer ',
    `Basic ${admin}`,
    `Bearer ${key}`,
    `Bearer ${token}`,
    `Bearer ${admin}x`,
    `bearer ${'x'.repeat(5_000)}`,
  ]) {
    refused(t, await call('GET', '/v1/peers', { headers: { authorization } }), 401, 'ERR_UNAUTHORIZED');
  }
  t.is((await call('GET', '/v1/peers', { headers: { authorization: `bearer ${admin}` } })).status, 200);
  refused(
    t,
    await call('POST', '/v1/peers/self/connection-token', { headers: { authorization: `Bearer ${admin}` } }),
    401,
    'ERR_UNAUTHORIZED',
  );
  const spare = await adminKeys.create({ description: '', expiresAt: null });
  await adminKeys.revoke(spare.key.id);
  refused(t, await call('GET', '/v1/peers', { headers: { authorization: `Bearer ${spare.text}` } }), 401, 'ERR_UNAUTHORIZED');
});

test('pre-auth keys: make, use up, list, revoke', async (t) => {
  const { call, ask } = await serve(t);
  const made = await ask('POST', '/v1/preauth-keys', { description: 'ci', tags: ['tag:ci'], expiresAt: '2099-01-01T00:00:00Z' });
  t.is(made.status, 201);
  t.like(made.body, { state: 'active', maxUses: 1, uses: 0, user: null, expiresAt: '2099-01-01T00:00:00.000Z' });
  const { key, ...shown } = made.body;
  t.is((await call('POST', '/v1/peers/register', { json: registration(key as string) })).body.peer.preauthKey, shown.id);
  refused(t, await call('POST', '/v1/peers/register', { json: registration(key as string) }), 403, 'ERR_KEY_USED_UP');
  const listed = (await ask('GET', '/v1/preauth-keys')).body.keys;
  t.deepEqual(
    listed.find(({ id }: { id: string }) => id === shown.id),
    { ...shown, uses: 1, state: 'used-up' },
  );
  t.false(JSON.stringify(listed).includes(key.split('_').at(-1)));

  const second = (await ask('POST', '/v1/preauth-keys', { maxUses: null })).body;
  t.like((await ask('DELETE', `/v1/preauth-keys/${second.id}`)).body, { id: second.id, state: 'revoked' });
  refused(t, await call('POST', '/v1/peers/register', { json: registration(second.key as string) }), 403, 'ERR_KEY_REVOKED');
  refused(t, await ask('DELETE', '/v1/preauth-keys/none'), 404, 'ERR_KEY_NOT_FOUND');
  refused(t, await ask('POST', '/v1/preauth-keys', { expiresAt: '2001-01-01T00:00:00Z' }), 400, 'ERR_VALIDATION', /future/);
  refused(t, await ask('POST', '/v1/preauth-keys', { expiresAt: 'tomorrow' }), 400, 'ERR_VALIDATION', /expiresAt/);
  refused(t, await ask('POST', '/v1/preauth-keys', { maxUses: 0 }), 400, 'ERR_VALIDATION', /maxUses/);
  refused(t, await ask('POST', '/v1/preauth-keys', { tags: ['x'] }), 400, 'ERR_TAG');
});

test('admin keys', async (t) => {
  const { call, ask } = await serve(t);
  const made = (await ask('POST', '/v1/admin-keys', { description: 'second' })).body;
  const headers = { authorization: `Bearer ${made.key}` };
  t.is((await call('GET', '/v1/admin-keys', { headers })).body.keys.length, 2);
  const first = (await ask('GET', '/v1/admin-keys')).body.keys.find(({ id }: { id: string }) => id !== made.id);
  t.is((await call('DELETE', `/v1/admin-keys/${first.id}`, { headers })).status, 200);
  refused(t, await call('DELETE', `/v1/admin-keys/${made.id}`, { headers }), 409, 'ERR_LAST_ADMIN_KEY');
});

test('the policy: set with If-Match, read, ask', async (t) => {
  const { call, ask, adminHeaders, register } = await serve(t);
  const a = await register({ hostname: 'a' });
  await register({ hostname: 'b' });
  t.deepEqual((await ask('GET', '/v1/policy')).body, {
    version: 0,
    writtenAt: null,
    author: null,
    comment: '',
    rollbackOf: null,
    revision: 0,
    text: null,
  });
  const put = (body: string, headers: Record<string, string> = {}): Promise<Answer> =>
    call('PUT', '/v1/policy', { body, headers: { ...adminHeaders, ...headers } });
  const text = '// mine\n{"acls": [\n  {"action": "accept", "src": ["*"], "dst": ["*:22"]},\n]}';
  const first = await put(text, { 'if-match': '"0"', 'content-type': 'application/hujson' });
  t.like(first, { status: 200, body: { text } });
  t.is(first.headers.get('etag'), '"1"');
  t.deepEqual((await ask('GET', '/v1/policy')).body, first.body);

  const stale = await put('{}', { 'if-match': '0' });
  refused(t, stale, 412, 'ERR_POLICY_CHANGED');
  t.is(stale.body.error.details.version, 1);
  refused(t, await put('{}', { 'if-match': 'W/"x"' }), 400, 'ERR_VALIDATION', /If-Match/);
  const bad = await put('{"acls": [\n{"action": "drop"}]}', { 'content-type': 'application/json' });
  refused(t, bad, 400, 'ERR_POLICY_INVALID', /line 2/);
  t.like(bad.body.error.details, { line: 2, column: 12 });
  refused(t, await put('{"acls": ['), 400, 'ERR_POLICY_SYNTAX');
  refused(t, await put('{}'.padEnd(800_000)), 413, 'ERR_BODY_TOO_LARGE');
  refused(t, await call('PUT', '/v1/policy', { headers: adminHeaders }), 400, 'ERR_VALIDATION');
  t.is((await ask('GET', '/v1/policy')).body.revision, first.body.revision, 'the old one stays');

  const decide = (question: object): Promise<Answer> => ask('POST', '/v1/policy/decide', question);
  t.deepEqual((await decide({ src: 'a', dst: 'b', port: 22 })).body, { allowed: true, line: 3, rule: null });
  t.deepEqual((await decide({ src: a.id, dst: 'b', proto: 'udp', port: 23 })).body, { allowed: false, line: null, rule: null });
  t.deepEqual((await decide({ src: a.record.ipv4, dst: 'b', proto: 'icmp' })).body, { allowed: true, line: 3, rule: null });
  t.deepEqual((await decide({ src: 'a', dst: 'b', proto: 132, port: 22 })).body, { allowed: false, line: null, rule: null });
  refused(t, await decide({ src: 'nobody', dst: 'b' }), 404, 'ERR_PEER_NOT_FOUND', /nobody/);
  refused(t, await decide({ src: 'a', dst: 'b', proto: 'tpc' }), 400, 'ERR_VALIDATION', /proto/);
  refused(t, await decide({ src: 'a', dst: 'b', port: 65_536 }), 400, 'ERR_VALIDATION', /port/);
  const check = (body: string): Promise<Answer> => call('POST', '/v1/policy/check', { body, headers: adminHeaders });
  t.deepEqual((await check(text)).body, { rules: 2 });
  refused(t, await check('{"x": 1}'), 400, 'ERR_POLICY_INVALID');
});

test('paths and methods that do not exist', async (t) => {
  const { call, ask } = await serve(t);
  for (const path of ['/', '/v1', '/v2/peers', '/v1/peers/a/b', '/v1/peers/register/x'])
    refused(t, await call('GET', path), 404, 'ERR_NOT_FOUND');
  refused(t, await ask('GET', '/v1/peers/'), 404, 'ERR_PEER_NOT_FOUND');
  const wrong = await ask('PUT', '/v1/peers');
  refused(t, wrong, 405, 'ERR_METHOD_NOT_ALLOWED');
  t.deepEqual([wrong.headers.get('allow'), wrong.body.error.details.allowed], ['GET', ['GET']]);
  const known = await call('POST', '/v1/peers/p_x');
  refused(t, known, 405, 'ERR_METHOD_NOT_ALLOWED');
  t.is(known.headers.get('allow'), 'DELETE, GET, PATCH');
  refused(t, await ask('GET', `/v1/peers/${'x'.repeat(65)}`), 400, 'ERR_REQUEST');
  refused(t, await ask('GET', '/v1/peers/%zz'), 400, 'ERR_REQUEST');
});

/** Sends bytes and reads whatever comes back until the other side closes. */
async function raw(port: number, ...chunks: string[]): Promise<string> {
  const socket = dial(port, '127.0.0.1');
  socket.on('error', () => undefined);
  for (const chunk of chunks) socket.write(chunk);
  return readAll(socket);
}

test('what is not HTTP, or never ends, is answered and closed', async (t) => {
  const { port, call } = await serve(t, { requestTimeout: 300 });
  const body = (text: string): ErrorBody => JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)) as ErrorBody;
  const nonsense = await raw(port, 'hello\r\n\r\n');
  t.regex(nonsense, /^HTTP\/1\.1 400 /);
  t.is(body(nonsense).error.code, 'ERR_REQUEST');
  const large = await raw(port, `GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`);
  t.regex(large, /^HTTP\/1\.1 431 /);
  t.is(body(large).error.code, 'ERR_REQUEST');
  const slow = await raw(
    port,
    'POST /v1/peers/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{',
  );
  t.regex(slow, /^HTTP\/1\.1 408 /);
  t.is(body(slow).error.code, 'ERR_REQUEST_TIMEOUT');
  const slowHeaders = await raw(port, 'GET / HTTP/1.1\r\nhost: x\r\n');
  t.regex(slowHeaders, /^HTTP\/1\.1 408 /);
  t.is((await call('GET', '/openapi.json')).status, 200, 'others are served meanwhile');
});

test('a request under way is finished when the server closes; new ones are turned away', async (t) => {
  const network = await startNetwork();
  const rest = createRest({ domain: network, log: silentLog, version: '0', connect: () => ({ url: '', token: null, expiresAt: null, stun: null }) });
  await rest.listen({ host: '127.0.0.1', port: 0 });
  const { port } = rest.server.address() as AddressInfo;
  const commit = network.journal.commit.bind(network.journal);
  let enter: () => void = () => undefined;
  const entered = new Promise<void>((resolve) => (enter = resolve));
  network.journal.commit = async (change, options) => {
    enter();
    await new Promise((resolve) => setTimeout(resolve, 100));
    return commit(change, options);
  };
  const under = fetch(`http://127.0.0.1:${port}/v1/peers/register`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(registration(network.key)),
  });
  await entered;
  const closed = rest.close();
  t.is((await under).status, 201);
  await closed;
  await t.throwsAsync(fetch(`http://127.0.0.1:${port}/openapi.json`));
  await network.stop();
});

test('an unexpected failure says nothing of its inside, and no log holds a secret', async (t) => {
  let logged = '';
  const log = createLog('trace', { write: (line: string) => void (logged += line) });
  const { call, ask, journal, key, admin, port } = await serve(t, { log });
  const registered = await call('POST', '/v1/peers/register', { json: registration(key) });
  await call('POST', '/v1/peers/register', { json: registration(`${key}x`) });
  await ask('GET', '/v1/peers');
  await raw(port, `GET /${key} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
  journal.commit = () => Promise.reject(new Error(`exploded with ${key}`));
  refused(t, await call('POST', '/v1/peers/register', { json: registration(key) }), 500, 'ERR_SERVER', /^((?!exploded).)*$/);
  t.regex(logged, /exploded with gw_preauth_[a-z2-7]{16}_\*\*\*/);
  t.regex(logged, /answered/);
  for (const text of [key, admin, registered.body.token as string]) t.false(logged.includes(text.split('_').at(-1)!));
});

test('an address is given, kept for a key, and asked for', async (t) => {
  const { call, ask, key } = await serve(t);
  const { peer } = (await call('POST', '/v1/peers/register', { json: registration(key, { routes: ['10.1.0.0/16'] }) })).body;
  const changed = await ask('PATCH', `/v1/peers/${peer.id}`, { ipv4: '100.70.0.7', approvedRoutes: ['10.1.0.0/16'] });
  t.deepEqual([changed.status, changed.body.addresses], [200, ['100.70.0.7', 'fd7a:115c:a1e0::6446:7']]);
  refused(t, await ask('PATCH', `/v1/peers/${peer.id}`, { ipv4: '10.0.0.1' }), 400, 'ERR_ADDRESS', /not within the network/);
  refused(t, await ask('PATCH', `/v1/peers/${peer.id}`, { ipv4: 7 }), 400, 'ERR_VALIDATION', /ipv4/);
  const second = (await call('POST', '/v1/peers/register', { json: registration(key) })).body.peer;
  const taken = await ask('PATCH', `/v1/peers/${second.id}`, { ipv4: '100.70.0.7' });
  refused(t, taken, 409, 'ERR_ADDRESS_TAKEN', /belongs to peer web/);
  t.deepEqual(taken.body.error.details, { path: 'ipv4', address: '100.70.0.7', id: peer.id });

  const made = (await ask('POST', '/v1/preauth-keys', { ipv4: '100.70.0.8' })).body;
  t.is(made.ipv4, '100.70.0.8');
  t.deepEqual((await ask('GET', '/v1/preauth-keys')).body.keys.map(({ ipv4 }: { ipv4: unknown }) => ipv4), ['100.70.0.8', null]);
  refused(t, await ask('POST', '/v1/preauth-keys', { ipv4: '100.70.0.9', maxUses: null }), 400, 'ERR_VALIDATION', /one use/);
  refused(t, await ask('POST', '/v1/preauth-keys', { ipv4: '100.70.0.8' }), 409, 'ERR_ADDRESS_TAKEN', new RegExp(made.id as string));

  const nothing = { peer: null, preauthKey: null, restsUntil: null, pool: '100.64.0.0/10', routes: [] };
  const who = async (address: string): Promise<unknown> => (await ask('GET', `/v1/addresses/${encodeURIComponent(address)}`)).body;
  const named = { id: peer.id, name: peer.name };
  t.deepEqual(await who('100.70.0.7'), { ...nothing, address: '100.70.0.7', state: 'held', peer: named });
  t.deepEqual(await who('FD7A:115C:A1E0:0:0:0:6446:0007'), { ...nothing, address: 'fd7a:115c:a1e0::6446:7', state: 'held', peer: named });
  t.deepEqual(await who('100.70.0.8'), { ...nothing, address: '100.70.0.8', state: 'kept', preauthKey: made.id });
  t.deepEqual(await who('100.100.100.100'), { ...nothing, address: '100.100.100.100', state: 'reserved' });
  t.deepEqual(await who('100.70.0.9'), { ...nothing, address: '100.70.0.9', state: 'free' });
  const routes = [{ prefix: '10.1.0.0/16', primary: named, routers: [named] }];
  t.deepEqual(await who('10.1.2.3'), { ...nothing, address: '10.1.2.3', state: 'outside', pool: null, routes });
  const joined = await call('POST', '/v1/peers/register', { json: registration(made.key as string) });
  t.is(joined.body.peer.addresses[0], '100.70.0.8');
  refused(t, await ask('GET', '/v1/addresses/10.1.0.0%2F16'), 400, 'ERR_VALIDATION', /not an IPv4 or IPv6 address/);
  refused(t, await ask('GET', '/v1/addresses/web'), 400, 'ERR_VALIDATION', /"web" is not/);
});

test('the OpenAPI document names every route and the schemas that validate', async (t) => {
  const { call } = await serve(t);
  const { body } = await call('GET', '/openapi.json');
  t.is(body.openapi, '3.1.0');
  t.deepEqual(Object.keys(body.paths).sort(), [
    '/openapi.json',
    '/v1/addresses/{address}',
    '/v1/admin-keys',
    '/v1/admin-keys/{id}',
    '/v1/peers',
    '/v1/peers/register',
    '/v1/peers/self',
    '/v1/peers/self/connection-token',
    '/v1/peers/{id}',
    '/v1/peers/{id}/filter',
    '/v1/peers/{id}/visible',
    '/v1/policy',
    '/v1/policy/check',
    '/v1/policy/decide',
    '/v1/policy/diff',
    '/v1/policy/explain',
    '/v1/policy/export',
    '/v1/policy/rollback',
    '/v1/policy/rules',
    '/v1/policy/rules/{id}',
    '/v1/policy/versions',
    '/v1/policy/versions/{version}',
    '/v1/preauth-keys',
    '/v1/preauth-keys/{id}',
  ]);
  t.deepEqual(body.paths['/v1/peers/register'].post.requestBody.content['application/json'].schema.required, [
    'preauthKey',
    'wireguardKey',
    'hostname',
  ]);
  t.deepEqual(body.paths['/v1/peers'].get.security, [{ admin: [] }]);
  t.truthy(body.paths['/v1/policy'].put.requestBody.content['application/hujson']);
  t.truthy(body.paths['/v1/peers/{id}'].get.responses['4XX'].content['application/json'].schema.properties.error);
});

test('every answer is observed by its route', async (t) => {
  const seen: unknown[][] = [];
  const { call, key } = await serve(t, {
    observe: (method, route, status, seconds) => seen.push([method, route, status, seconds > 0 && seconds < 60]),
  });
  await call('POST', '/v1/peers/register', { json: registration(key) });
  await call('GET', '/v1/peers/p_x');
  await call('GET', '/nowhere');
  t.deepEqual(seen, [
    ['POST', '/v1/peers/register', 201, true],
    ['GET', '/v1/peers/:id', 401, true],
    ['GET', 'unknown', 404, true],
  ]);
});

test('a peer that keeps changing what it says of itself is slowed down, and the others are not', async (t) => {
  let limited = 0;
  const { call, key } = await serve(t, { limited: () => (limited += 1) });
  const join = async (hostname: string): Promise<string> => {
    const { body } = await call('POST', '/v1/peers/register', { json: registration(key, { hostname }) });
    return (body as { token: string }).token;
  };
  const [loud, quiet] = [await join('loud'), await join('quiet')];
  const report = (token: string, port: number) =>
    call('PATCH', '/v1/peers/self', { json: { endpoints: [`192.0.2.1:${port}`] }, headers: { authorization: `Bearer ${token}` } });
  const answers = [];
  for (let port = 1; port <= 30; port += 1) answers.push(await report(loud, port));
  const turned = answers.filter(({ status }) => status === 429);
  t.true(turned.length >= 5 && turned.length <= 10, `${turned.length}`);
  t.is(answers.filter(({ status }) => status === 200).length, 30 - turned.length);
  t.is(limited, turned.length);
  t.like(turned[0]!.body, { error: { code: 'ERR_RATE_LIMITED', retryable: true } });
  t.regex(turned[0]!.headers.get('retry-after') ?? '', /^[1-3]$/);
  t.is((await report(quiet, 1)).status, 200);
});
