// The reference client, against the real server and against servers that make no sense.

import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { WebSocket } from 'ws';
import { SyncClient, SyncClientError, digestOf, type Change, type Snapshot, type SyncClientOptions } from '../src/client.js';
import { SyncServer } from '../src/sync.js';
import { Link, ScriptedServer } from './support/sockets.js';
import { put, startSync } from './support/sync.js';

const FAST = { firstMs: 20, maxMs: 100 };

function client(t: ExecutionContext, options: SyncClientOptions): SyncClient {
  const made = new SyncClient({ backoff: FAST, ...options });
  t.teardown(() => made.close());
  return made;
}

/** A client of `server` over `link`. */
const peerOf = (t: ExecutionContext, server: () => SyncServer, handle: number, link: { port: number }, options: Partial<SyncClientOptions> = {}): SyncClient =>
  client(t, { credentials: async () => ({ url: `ws://127.0.0.1:${link.port}/v1/sync`, token: server().issueToken(handle, 60_000) }), ...options });

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const ids = (peers: Iterable<{ readonly id: string }>): string[] => Array.from(peers, ({ id }) => id);

test('holds what it may see, and says what changes', async (t) => {
  const server = await startSync(t);
  const peer = peerOf(t, () => server, 1, server);
  const changes: Change[] = [];
  peer.on('change', (change) => changes.push(change));
  peer.start();
  const [{ resumed }] = (await once(peer, 'connected')) as [{ resumed: boolean }];
  t.false(resumed);
  t.deepEqual([...peer.peers.keys()], ['p2', 'p3']);
  t.deepEqual([peer.epoch, peer.revision, peer.self, peer.digest], ['e', 1, { me: 1 }, digestOf(['p3', 'p2'])]);

  server.publish({ revision: 2, puts: [put(2, 'b')], removes: [3] });
  await until(() => peer.revision === 2);
  t.deepEqual([...peer.peers.values()], [{ id: 'p2', text: 'b' }]);
  t.deepEqual(changes.map(({ revision, changed, removed }) => [revision, ids(changed), ids(removed)]), [
    [1, ['p2', 'p3'], []],
    [2, ['p2'], ['p3']],
  ]);
});

test('resumes after a broken connection', async (t) => {
  const server = await startSync(t);
  const link = await Link.to(() => server.port);
  t.teardown(() => link.close());
  const peer = peerOf(t, () => server, 1, link).start();
  await once(peer, 'connected');
  server.publish({ revision: 2, puts: [put(2, 'b')] });
  await until(() => peer.revision === 2);

  const lost = once(peer, 'disconnected') as Promise<[{ error: SyncClientError; retryMs: number }]>;
  link.cut();
  const [{ error, retryMs }] = await lost;
  t.is(error.code, 'ERR_DISCONNECTED');
  t.true(retryMs <= FAST.maxMs);
  server.publish({ revision: 3, removes: [3], puts: [put(4)], views: [{ view: 1, add: [4] }] });
  const [{ resumed }] = (await once(peer, 'connected')) as [{ resumed: boolean }];
  t.true(resumed);
  t.deepEqual([...peer.peers.keys()].sort(), ['p2', 'p4']);
  t.like(server.metrics(), { fulls: 1, resumes: 1 });
});

test('resumes from a snapshot of another client', async (t) => {
  const server = await startSync(t);
  const first = peerOf(t, () => server, 1, server).start();
  await once(first, 'connected');
  const snapshot = first.snapshot();
  t.truthy(snapshot);
  await first.close();
  server.publish({ revision: 2, puts: [put(2, 'b')] });
  const second = peerOf(t, () => server, 1, server, { from: structuredClone(snapshot!) });
  t.deepEqual([...second.peers.keys()], ['p2', 'p3']);
  const [{ resumed }] = (await once(second.start(), 'connected')) as [{ resumed: boolean }];
  t.true(resumed);
  t.deepEqual([...second.peers.values()], [{ id: 'p2', text: 'b' }, { id: 'p3', text: 'a' }]);
});

test('a packet filter comes once, changes with the view, and is not sent again to one who resumes with it', async (t) => {
  const server = await startSync(t);
  server.publish({ revision: 2, filters: ['[{"a":1}]'], views: [{ view: 1, filter: 0 }] });
  const first = peerOf(t, () => server, 1, server).start();
  await once(first, 'connected');
  t.deepEqual(first.packetFilter?.rules, [{ a: 1 }]);
  const changes: Change[] = [];
  first.on('change', (change) => changes.push(change));
  server.publish({ revision: 3, filters: ['[]', '[{"a":2}]'], views: [{ view: 1, filter: 1 }], recipients: [{ handle: 1, view: 1, self: '{"n":1}' }] });
  await until(() => first.revision === 3);
  t.deepEqual(changes.map(({ self, packetFilter }) => [self, packetFilter?.rules]), [[{ n: 1 }, [{ a: 2 }]]]);
  server.publish({ revision: 4, puts: [put(2, 'b')], filters: ['[{"a":2}]'], views: [{ view: 1, filter: 0 }] });
  await until(() => first.revision === 4);
  t.is(changes.at(-1)?.packetFilter, undefined, 'it is the same');
  t.like(server.metrics(), { filters: 1 });
  const snapshot = structuredClone(first.snapshot()!);
  await first.close();

  const resume = async (from: Snapshot): Promise<Change> => {
    const next = peerOf(t, () => server, 1, server, { from });
    const told = once(next, 'change') as Promise<[Change]>;
    next.start();
    const [change] = await told;
    t.deepEqual(next.packetFilter?.rules, [{ a: 2 }]);
    await next.close();
    return change;
  };
  t.is((await resume(snapshot)).packetFilter, undefined);
  t.deepEqual((await resume({ ...snapshot, packetFilter: { digest: 'f'.repeat(64), rules: [] } })).packetFilter?.rules, [{ a: 2 }]);
  t.deepEqual((await resume({ ...snapshot, packetFilter: null })).packetFilter?.rules, [{ a: 2 }]);
  t.throws(() => server.publish({ revision: 5, filters: ['{}'], views: [{ view: 1, filter: 0 }] }), { message: /filter: not a JSON list/ });
  t.throws(() => server.publish({ revision: 5, filters: ['[]'], views: [{ view: 1, filter: 1 }] }), { message: /filter 1/ });
});

test('comes back to a server that was restarted', async (t) => {
  let server = await startSync(t);
  const peer = peerOf(t, () => server, 1, { port: server.port }).start();
  await once(peer, 'connected');
  const lost = once(peer, 'disconnected');
  await server.stop();
  await lost;
  t.deepEqual([...peer.peers.keys()], ['p2', 'p3'], 'the last good state stays');
  server = await startSync(t, { port: server.port });
  await once(peer, 'connected');
  server.publish({ revision: 2, puts: [put(3, 'b')] });
  await until(() => peer.revision === 2);
  t.deepEqual(peer.peers.get('p3'), { id: 'p3', text: 'b' });
});

test('ends when it is revoked, and when it is replaced', async (t) => {
  const server = await startSync(t);
  const revoked = peerOf(t, () => server, 1, server).start();
  await once(revoked, 'connected');
  server.publish({ revision: 2, recipients: [{ handle: 1, revoked: true }] });
  t.like(await once(revoked, 'ended'), [{ error: { code: 'ERR_REVOKED', retryable: false } }]);

  const first = peerOf(t, () => server, 2, server).start();
  await once(first, 'connected');
  const ended = once(first, 'ended');
  const second = peerOf(t, () => server, 2, server).start();
  t.like(await ended, [{ error: { code: 'ERR_REPLACED', retryable: false } }]);
  await until(() => second.revision === 2);
  t.is(server.connections(), 1);
});

test('keeps asking for credentials, unless there is no use', async (t) => {
  const server = await startSync(t);
  let asked = 0;
  const peer = client(t, {
    credentials: async () => {
      asked += 1;
      if (asked < 3) throw new Error('not now');
      return { url: `ws://127.0.0.1:${server.port}/v1/sync`, token: asked === 3 ? 'wrong' : server.issueToken(1, 1000) };
    },
  });
  const errors: Error[] = [];
  peer.on('disconnected', ({ error }) => errors.push(error));
  await once(peer.start(), 'connected');
  t.deepEqual(errors.map((error) => (error instanceof SyncClientError ? error.code : error.message)), ['not now', 'not now', 'ERR_TOKEN_INVALID']);

  const gone = Object.assign(new Error('this peer is gone'), { retryable: false });
  const hopeless = client(t, { credentials: () => Promise.reject(gone) });
  t.deepEqual(await once(hopeless.start(), 'ended'), [{ error: gone }]);
});

test('close ends it at any time', async (t) => {
  const server = await startSync(t);
  const states: (() => SyncClientOptions['credentials'])[] = [
    () => async () => ({ url: `ws://127.0.0.1:${server.port}/v1/sync`, token: server.issueToken(1, 1000) }),
    () => () => Promise.reject(new Error('waiting to retry')),
    () => (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('asking')))),
  ];
  for (const credentials of states) {
    const peer = client(t, { credentials: credentials(), backoff: { firstMs: 60_000, maxMs: 60_000 } });
    const ended = once(peer, 'ended');
    peer.start();
    await new Promise((resolve) => setTimeout(resolve, 50));
    await peer.close();
    t.deepEqual(await ended, [{}]);
  }
  await until(() => server.connections() === 0);
});

// ---- servers that make no sense -----------------------------------------------------------------------------------

const full = (peers: object[], more: object = {}): object => ({ type: 'full', epoch: 'e', revision: 5, self: null, packetFilter: null, peers, ...more });
const delta = (more: object = {}): object => ({ type: 'delta', epoch: 'e', revision: 6, changed: [], removed: [], ...more });
const say =
  (...messages: unknown[]) =>
  (socket: WebSocket): void => {
    for (const message of messages) socket.send(typeof message === 'string' || Buffer.isBuffer(message) ? message : JSON.stringify(message));
  };

const NONSENSE: [name: string, message: unknown][] = [
  ['no JSON', '{'],
  ['an empty message', ''],
  ['no object', '[]'],
  ['null', 'null'],
  ['bytes', Buffer.from(JSON.stringify(delta()))],
  ['an unknown type', { type: 'other' }],
  ['no lists', { type: 'delta', epoch: 'e', revision: 6 }],
  ['a peer without an id', delta({ changed: [{ name: 'x' }] })],
  ['an id that is no text', delta({ changed: [{ id: 7 }] })],
  ['an empty id', delta({ changed: [{ id: '' }] })],
  ['an endless id', delta({ removed: ['x'.repeat(200)] })],
  ['a revision that is no number', delta({ revision: '6' })],
  ['a negative revision', delta({ revision: -6 })],
  ['a revision back in time', delta({ revision: 4 })],
  ['another epoch', delta({ epoch: 'other' })],
  ['a self that is no object', delta({ self: [] })],
  ['a packet filter without a digest', delta({ packetFilter: { rules: [] } })],
  ['a full map that says nothing of the packet filter', full([], { packetFilter: undefined })],
  ['a visible peer that is unknown', delta({ visible: ['p2', 'p3', 'p9'] })],
  ['a peer that is sent but not visible', delta({ changed: [{ id: 'p9' }], visible: ['p2', 'p3'] })],
  ['the same peer twice', full([{ id: 'p4' }, { id: 'p4' }])],
  ['too many peers', delta({ changed: Array.from({ length: 9 }, (_, i) => ({ id: `q${i}` })) })],
  ['too many peers at once', full(Array.from({ length: 11 }, (_, i) => ({ id: `q${i}` })))],
];

for (const [name, message] of NONSENSE) {
  test(`nonsense: ${name}`, async (t) => {
    const held = [{ id: 'p2', text: 'a' }, { id: 'p3', text: 'a' }];
    const server = await ScriptedServer.start(say(full(held), message, delta({ removed: ['p2', 'p3'] })), say(full([{ id: 'p8' }])));
    t.teardown(() => server.close());
    const peer = client(t, { credentials: async () => ({ url: server.url, token: 't' }), maxPeers: 10 });
    const [{ error }] = (await once(peer.start(), 'disconnected')) as [{ error: SyncClientError }];
    t.is(error.code, 'ERR_PROTOCOL');
    t.deepEqual([...peer.peers.values()], held, 'the last good state stays, and nothing is taken after it');
    await once(peer, 'connected');
    t.deepEqual(server.hellos, [{ type: 'hello', token: 't' }, { type: 'hello', token: 't' }], 'nothing is resumed from nonsense');
    t.deepEqual([...peer.peers.keys()], ['p8']);
  });
}

test('a delta before any map is nonsense', async (t) => {
  const server = await ScriptedServer.start(say(delta()));
  t.teardown(() => server.close());
  const peer = client(t, { credentials: async () => ({ url: server.url, token: 't' }) });
  t.like(await once(peer.start(), 'disconnected'), [{ error: { code: 'ERR_PROTOCOL' } }]);
});

test('a message over the limit is not read', async (t) => {
  const server = await ScriptedServer.start(say(full([{ id: 'p2', text: 'x'.repeat(10_000) }])));
  t.teardown(() => server.close());
  const peer = client(t, { credentials: async () => ({ url: server.url, token: 't' }), maxMessageBytes: 5_000 });
  t.like(await once(peer.start(), 'disconnected'), [{ error: { code: 'ERR_DISCONNECTED' } }]);
  t.is(peer.peers.size, 0);
});

test('a silent server is given up', async (t) => {
  const server = await ScriptedServer.start(say(full([])));
  t.teardown(() => server.close());
  const peer = client(t, { credentials: async () => ({ url: server.url, token: 't' }), silentMs: 100 });
  t.like(await once(peer.start(), 'disconnected'), [{ error: { code: 'ERR_DISCONNECTED', message: 'the server was silent' } }]);
});

test('a ping is a sign of life', async (t) => {
  const server = await ScriptedServer.start((socket) => {
    say(full([]))(socket);
    const pings = setInterval(() => socket.ping(), 50);
    socket.on('close', () => clearInterval(pings));
  });
  t.teardown(() => server.close());
  const peer = client(t, { credentials: async () => ({ url: server.url, token: 't' }), silentMs: 1_000 });
  const losses: unknown[] = [];
  peer.on('disconnected', (loss) => losses.push(loss));
  await once(peer.start(), 'connected');
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  t.deepEqual(losses, []);
});

test('what the server says of itself is passed on', async (t) => {
  const server = await ScriptedServer.start(say({ type: 'error', code: 'ERR_SOMETHING', message: 'so it is' }));
  t.teardown(() => server.close());
  const peer = client(t, { credentials: async () => ({ url: server.url, token: 't' }) });
  t.like(await once(peer.start(), 'disconnected'), [{ error: { code: 'ERR_SOMETHING', message: 'so it is' } }]);
});

test('a resume tells epoch, revision and digest', async (t) => {
  const sayAndClose = (socket: WebSocket): void => {
    say(full([{ id: 'p2' }, { id: 'p3' }]))(socket);
    socket.close();
  };
  const server = await ScriptedServer.start(sayAndClose, say(delta({ visible: ['p3'] })));
  t.teardown(() => server.close());
  const peer = client(t, { credentials: async () => ({ url: server.url, token: 't' }) });
  await once(peer.start(), 'disconnected');
  await once(peer, 'connected');
  t.deepEqual(server.hellos[1], { type: 'hello', token: 't', epoch: 'e', revision: 5, digest: digestOf(['p2', 'p3']) });
  t.deepEqual([...peer.peers.keys()], ['p3']);
});

// ---- laws -----------------------------------------------------------------------------------------------------------

test('the digest is that of FIPS 180-4, whatever the order', (t) => {
  t.is(digestOf([]), '0000000000000000');
  t.is(digestOf(['abc']), 'ba7816bf8f01cfea');
  fc.assert(
    fc.property(fc.uniqueArray(fc.string(), { minLength: 1 }), ([first, ...rest]) => {
      t.is(digestOf([first!, ...rest]), digestOf([...rest.toReversed(), first!]));
      t.not(digestOf([first!, ...rest]), digestOf(rest));
    }),
  );
});

test('over links that break, clients come to hold what they may see', async (t) => {
  const HANDLES = [1, 2, 3, 4, 5, 6];
  const handle = fc.constantFrom(...HANDLES);
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('put' as const), handle }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), handle }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('show' as const), handle, view: fc.constantFrom(1, 2) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('move' as const), handle: fc.constantFrom(1, 2), view: fc.constantFrom(1, 2) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('cut' as const) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 15 }) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const server = await SyncServer.start({ host: '127.0.0.1', port: 0, epoch: 'e' });
      const link = await Link.to(() => server.port);
      const recipients = [1, 2];
      const views = new Map([[1, new Set<number>()], [2, new Set<number>()]]);
      const records = new Map<number, string>();
      const sees = new Map(recipients.map((recipient) => [recipient, 1]));
      let revision = 1;
      server.publish({ revision, views: [{ view: 1 }, { view: 2 }], recipients: recipients.map((recipient) => ({ handle: recipient, view: 1, self: '{}' })) });
      const clients = recipients.map((recipient) => peerOf(t, () => server, recipient, link, { backoff: { firstMs: 5, maxMs: 10 } }).start());
      try {
        for (const [n, action] of steps.entries()) {
          revision += 1;
          switch (action.kind) {
            case 'put':
              records.set(action.handle, `${n}`);
              server.publish({ revision, puts: [put(action.handle, `${n}`)] });
              break;
            case 'remove':
              records.delete(action.handle);
              for (const shown of views.values()) shown.delete(action.handle);
              server.publish({ revision, removes: [action.handle] });
              break;
            case 'show':
              if (!records.has(action.handle)) break;
              if (views.get(action.view)!.delete(action.handle)) {
                server.publish({ revision, views: [{ view: action.view, remove: [action.handle] }] });
              } else {
                views.get(action.view)!.add(action.handle);
                server.publish({ revision, views: [{ view: action.view, add: [action.handle] }] });
              }
              break;
            case 'move':
              sees.set(action.handle, action.view);
              server.publish({ revision, recipients: [{ handle: action.handle, view: action.view }] });
              break;
            case 'cut':
              link.cut();
              break;
            case 'wait':
              await new Promise((resolve) => setTimeout(resolve, action.ms));
          }
        }
        // One last change for everybody, so that all have something to wait for.
        revision += 1;
        server.publish({ revision, recipients: recipients.map((recipient) => ({ handle: recipient, view: sees.get(recipient)!, self: '{"done":true}' })) });
        await until(() => clients.every((peer) => peer.self?.['done'] === true));
        for (const [i, peer] of clients.entries()) {
          const shown = [...views.get(sees.get(recipients[i]!)!)!].filter((other) => other !== recipients[i]);
          const expected = shown.map((other) => ({ id: `p${other}`, text: records.get(other) }));
          t.deepEqual([...peer.peers.values()].sort((a, b) => (a.id < b.id ? -1 : 1)), expected.sort((a, b) => (a.id < b.id ? -1 : 1)));
        }
      } finally {
        await Promise.all(clients.map((peer) => peer.close()));
        link.close();
        await server.stop();
      }
    }),
    { numRuns: 25 },
  );
});
