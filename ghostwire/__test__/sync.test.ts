// The peers' port as the domain uses it, over real sockets.

import { readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { syncErrorCodes } from '../native.cjs';
import { digestOf } from '../src/client.js';
import { CATALOGUE, GhostwireError } from '../src/errors.js';
import { SyncServer, type SyncBatch } from '../src/sync.js';
import { RawPeer } from './support/sockets.js';
import { put, startSync } from './support/sync.js';

const connect = (server: SyncServer, handle: number, position: object = {}): Promise<RawPeer> =>
  RawPeer.connect(server.port, { token: server.issueToken(handle, 60_000), ...position });

const fails = (t: ExecutionContext, code: string, call: () => unknown): GhostwireError => {
  const error = t.throws(call, { instanceOf: GhostwireError, code });
  return error;
};

test('a peer is sent a full map, then what changes', async (t) => {
  const server = await startSync(t);
  const peer = await connect(server, 1);
  const other = (handle: number) => ({ id: `p${handle}`, text: 'a' });
  t.deepEqual(await peer.next(), { type: 'full', epoch: 'e', revision: 1, self: { me: 1 }, packetFilter: null, peers: [other(2), other(3)] });

  const bytes = new TextEncoder().encode('{"id":"p2","text":"é"}');
  server.publish({ revision: 2, puts: [{ handle: 2, id: 'p2', record: bytes }] });
  t.deepEqual(await peer.next(), { type: 'delta', epoch: 'e', revision: 2, changed: [{ id: 'p2', text: 'é' }], removed: [] });

  server.publish({ revision: 3, removes: Uint32Array.of(3) });
  t.deepEqual(await peer.next(), { type: 'delta', epoch: 'e', revision: 3, changed: [], removed: ['p3'] });

  server.publish({ revision: 4, views: [{ view: 2, add: [] }, { view: 1, drop: true }], recipients: [{ handle: 1, view: 2 }, { handle: 2, revoked: true }, { handle: 3, revoked: true }] });
  t.deepEqual(await peer.next(), { type: 'delta', epoch: 'e', revision: 4, changed: [], removed: ['p2'] });
});

test('a revoked peer is told, and cannot come back', async (t) => {
  const server = await startSync(t);
  const [revoked, other] = [await connect(server, 1), await connect(server, 2)];
  const token = server.issueToken(1, 60_000);
  await Promise.all([revoked.next(), other.next()]);
  server.publish({ revision: 2, removes: [1], recipients: [{ handle: 1, revoked: true }] });
  t.like(await other.next(), { removed: ['p1'] });
  t.deepEqual(await revoked.next(), { type: 'revoked' });
  t.is(await revoked.next(), 4001);
  fails(t, 'ERR_SYNC_RECIPIENT', () => server.issueToken(1, 60_000));
  const again = await RawPeer.connect(server.port, { token });
  t.like(await again.next(), { type: 'error', code: 'ERR_TOKEN_INVALID' });
  t.is(await again.next(), 4003);
});

test('who came and went is reported', async (t) => {
  const server = await startSync(t);
  const seen: [number, boolean][] = [];
  const stopListening = server.onEvents((events) => {
    for (const { handle, connected } of events) seen.push([handle, connected]);
  });
  const reported = async (count: number): Promise<void> => {
    while (seen.length < count) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  const peer = await connect(server, 2);
  await reported(1);
  t.is(server.connections(), 1);
  peer.socket.close();
  await reported(2);
  t.deepEqual(seen, [[2, true], [2, false]]);
  t.deepEqual(server.takeEvents(), []);
  stopListening();
  const again = await connect(server, 3);
  await again.next();
  await new Promise((resolve) => setTimeout(resolve, 400));
  t.like(server.takeEvents(), [{ handle: 3, connected: true }]);
});

test('metrics count', async (t) => {
  const server = await startSync(t);
  const peer = await connect(server, 1);
  await peer.next();
  t.like(server.metrics(), { connected: 1, fulls: 1, tokensIssued: 1, publishes: 1, connections: 1, sockets: 1, records: 3, views: 1, recipients: 3, tokens: 0, revision: 1 });
});

test('what contradicts is refused whole', async (t) => {
  const server = await startSync(t);
  const wrong: SyncBatch[] = [
    { revision: 0 },
    { revision: -1 },
    { revision: 1.5 },
    { revision: 2 ** 60 },
    { revision: 2, puts: [{ handle: 4.5, id: 'p4', record: '{"id":"p4"}' }] },
    { revision: 2, puts: [{ handle: -1, id: 'p4', record: '{"id":"p4"}' }] },
    { revision: 2, puts: [{ handle: 2 ** 32, id: 'p4', record: '{"id":"p4"}' }] },
    { revision: 2, puts: [put(4), { handle: 5, id: 'p5', record: '{"id":"p4"}' }] },
    { revision: 2, puts: [put(4), { handle: 5, id: 'p5', record: 'p5' }] },
    { revision: 2, puts: [put(4), { handle: 5, id: 'p1', record: '{"id":"p1"}' }] },
    { revision: 2, puts: [put(4)], views: [{ view: 1, add: [9] }] },
    { revision: 2, puts: [put(4)], views: [{ view: 1, add: [-1] }] },
    { revision: 2, puts: [put(4)], views: [{ view: 1, remove: [2 ** 32 + 1] }] },
    { revision: 2, removes: [1.5] },
    { revision: 2, puts: [put(4)], views: [{ view: 1, drop: true }] },
    { revision: 2, puts: [put(4)], recipients: [{ handle: 4, view: 7 }] },
    { revision: 2, puts: [put(4)], recipients: [{ handle: 4, view: 1, self: '[]' }] },
    { revision: 2, puts: [put(4)], recipients: [{ handle: 4 } as never] },
  ];
  for (const batch of wrong) fails(t, 'ERR_SYNC_BATCH', () => server.publish(batch));
  fails(t, 'ERR_SERVER', () => server.publish({ revision: '2' } as never));
  fails(t, 'ERR_SERVER', () => server.publish({ revision: 2, puts: [{ handle: 4, id: 'p4', record: {} }] } as never));
  fails(t, 'ERR_SERVER', () => server.publish(null as never));
  for (const ttl of [0, 3_600_001]) fails(t, 'ERR_SYNC_OPTION', () => server.issueToken(1, ttl));
  fails(t, 'ERR_SERVER', () => server.issueToken(1, -1));
  t.like(server.metrics(), { revision: 1, records: 3, views: 1, recipients: 3, publishes: 1 });
});

test('an error has the stack of its caller', async (t) => {
  const server = await startSync(t);
  const error = fails(t, 'ERR_SYNC_BATCH', function theCaller() {
    server.publish({ revision: 0 });
  });
  t.regex(error.stack ?? '', /theCaller/);
  t.is(error.message, 'revision 0 is behind the published revision 1');
  t.true(error.cause instanceof Error);
});

test('outstanding tokens are bounded', async (t) => {
  const server = await startSync(t, { maxTokens: 2 });
  server.issueToken(1, 60_000);
  server.issueToken(2, 60_000);
  t.true(fails(t, 'ERR_SYNC_TOKENS_FULL', () => server.issueToken(3, 60_000)).retryable);
});

test('a start that fails says why', async (t) => {
  const server = await startSync(t);
  const start_ = (options: object) => SyncServer.start({ host: '127.0.0.1', port: 0, epoch: 'e', ...options });
  const taken = await t.throwsAsync(start_({ port: server.port }), { code: 'ERR_PORT_TAKEN' });
  t.true(taken?.message.includes(`127.0.0.1:${server.port}`));
  await t.throwsAsync(start_({ host: 'no-such-host.invalid' }), { code: 'ERR_LISTEN', message: /no-such-host\.invalid/ });
  // Not an address of this machine (RFC 5737).
  await t.throwsAsync(start_({ host: '192.0.2.1' }), { code: 'ERR_LISTEN', message: /192\.0\.2\.1/ });
  for (const [name, value] of [['port', 65_536], ['threads', 0], ['maxHelloBytes', 2 ** 40], ['pingEveryMs', 0], ['epoch', '']] as const) {
    await t.throwsAsync(start_({ [name]: value }), { code: 'ERR_SYNC_OPTION', message: new RegExp(name) });
  }
});

test('a stop says goodbye and frees the port', async (t) => {
  const server = await startSync(t);
  const { port } = server;
  const peer = await connect(server, 1);
  await peer.next();
  await server.stop();
  t.is(await peer.next(), 1001);
  fails(t, 'ERR_SHUTTING_DOWN', () => server.publish({ revision: 2 }));
  fails(t, 'ERR_SHUTTING_DOWN', () => server.issueToken(1, 1000));
  await server.stop();
  const again = await startSync(t, { port });
  t.is(again.port, port);
});

test('native error codes are of the catalogue', (t) => {
  for (const { code, retryable } of syncErrorCodes()) t.is(CATALOGUE[code as keyof typeof CATALOGUE]?.retryable, retryable, code);
});

test('the document names every code that peers are told, and its digests are right', (t) => {
  const source = readFileSync(new URL('../../crates/ghostwire-sync/src/farewell.rs', import.meta.url), 'utf8');
  const document = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');
  const codes = source.match(/ERR_[A-Z_]+/g) ?? [];
  t.is(new Set(codes).size, 6);
  for (const code of codes) t.true(document.includes(code), code);
  for (const ids of [[], ['abc'], ['p2', 'p3'], ['p_2']]) t.true(document.includes(digestOf(ids)), `the digest of ${ids.join(' ')}`);
});
