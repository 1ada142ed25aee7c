// From a REST call to what another peer's client holds: coordinator, sync and client together, on a file.

import { once } from 'node:events';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { SyncClient, type Snapshot } from '../src/client.js';
import { loadConfig } from '../src/config.js';
import { startCoordinator, type Coordinator } from '../src/coordinator.js';
import { silentLog } from '../src/log.js';
import type { Peer } from '../src/peers/peer.js';
import { wireguardKey } from './support/network.js';
import { temporaryFolder } from './support/process.js';

interface Member {
  readonly peer: Peer;
  readonly token: string;
}

function start(t: ExecutionContext, database: string, syncPort = 0): Promise<Coordinator> {
  const flags = { '--db-path': database, '--port': '0', '--metrics-port': '0', '--sync-port': String(syncPort) };
  const { config } = loadConfig({ flags });
  return startCoordinator({ config, log: silentLog, version: '0', onFailure: (error) => t.fail(String(error)) });
}

function joiner({ domain }: Coordinator): (hostname: string, user?: string) => Promise<Member> {
  const key = domain.preauthKeys.create({ description: '', expiresAt: null, maxUses: null, tags: [], user: null });
  return async (hostname, user = 'ann@example.com') =>
    domain.peers.register({ preauthKey: (await key).text, wireguardKey: wireguardKey(), hostname, user });
}

/** A client that gets its tokens as a real one does. @param api asked each time, since a restart may move it */
function follow(t: ExecutionContext, api: () => string, { token }: Member, from?: Snapshot): SyncClient {
  const client = new SyncClient({
    ...(from === undefined ? {} : { from }),
    credentials: async () => {
      const response = await fetch(`${api()}/v1/peers/self/connection-token`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}` },
      });
      if (!response.ok) throw Object.assign(new Error(await response.text()), { retryable: response.status !== 401 });
      return (await response.json()) as { url: string; token: string };
    },
    backoff: { firstMs: 20, maxMs: 200 },
  });
  t.teardown(() => client.close());
  return client.start();
}

const names = (client: SyncClient): string[] => [...client.peers.values()].map((peer) => String(peer['name'])).sort();

async function until(client: SyncClient, condition: () => boolean): Promise<void> {
  while (!condition()) await once(client, 'change', { signal: AbortSignal.timeout(20_000) });
}

test('changes arrive: a new peer, a rename, a policy, a deletion', async (t) => {
  const coordinator = await start(t, join(temporaryFolder(), 'gw.db'));
  t.teardown(() => coordinator.close());
  const { domain, urls } = coordinator;
  const register = joiner(coordinator);
  const a = await register('a');
  const b = await register('b');
  const client = follow(t, () => urls.api, a);
  await once(client, 'connected');
  t.deepEqual(names(client), ['b']);
  t.like(client.self, { name: 'a', domain: 'mesh.internal' });
  t.like(client.peers.get(b.peer.id), { wireguardKey: b.peer.record.wireguardKey });

  const c = await register('c', 'bob@example.com');
  await until(client, () => names(client).join() === 'b,c');
  await domain.peers.update(c.peer.id, { name: 'renamed' });
  await until(client, () => names(client).join() === 'b,renamed');
  await domain.policies.put('{"acls": [{"action": "accept", "src": ["ann@example.com"], "dst": ["ann@example.com:22"]}]}', 0);
  await until(client, () => names(client).join() === 'b');
  await domain.peers.update(a.peer.id, { name: 'me' });
  await until(client, () => client.self?.['name'] === 'me');
  await domain.peers.delete(b.peer.id);
  await until(client, () => names(client).length === 0);

  const ended = once(client, 'ended', { signal: AbortSignal.timeout(20_000) });
  await domain.peers.delete(a.peer.id);
  const [{ error }] = (await ended) as [{ error?: Error & { code?: string } }];
  t.is(error?.code, 'ERR_REVOKED');
});

test('a peer that was deleted while a client was away is gone when it resumes', async (t) => {
  const coordinator = await start(t, join(temporaryFolder(), 'gw.db'));
  t.teardown(() => coordinator.close());
  const { domain, urls } = coordinator;
  const register = joiner(coordinator);
  const [a, b, c] = [await register('a'), await register('b'), await register('c')];
  const before = follow(t, () => urls.api, a);
  await once(before, 'connected');
  t.deepEqual(names(before), ['b', 'c']);
  await before.close();
  await domain.peers.delete(b.peer.id);
  await domain.peers.update(c.peer.id, { name: 'c2' });
  const after = follow(t, () => urls.api, a, before.snapshot());
  const [{ resumed }] = (await once(after, 'connected')) as [{ resumed: boolean }];
  t.true(resumed, 'without a full map');
  t.deepEqual(names(after), ['c2']);
});

test('a client outlives a restart of the coordinator, and what happens right after it', async (t) => {
  const database = join(temporaryFolder(), 'gw.db');
  let coordinator = await start(t, database);
  t.teardown(() => coordinator.close());
  const register = joiner(coordinator);
  const [a, b, c] = [await register('a'), await register('b'), await register('c')];
  const client = follow(t, () => coordinator.urls.api, a);
  await once(client, 'connected');
  const { epoch, revision } = client;
  const disconnected = once(client, 'disconnected');
  await coordinator.close();
  await disconnected;
  t.deepEqual(names(client), ['b', 'c'], 'the last good state stays');

  const next = await start(t, database);
  await next.domain.peers.delete(b.peer.id);
  await next.domain.peers.update(c.peer.id, { name: 'c2' });
  const connected = once(client, 'connected', { signal: AbortSignal.timeout(20_000) });
  // The ports have changed; the client learns the new address with its next token.
  coordinator = next;
  await connected;
  t.is(client.epoch, epoch);
  t.true(client.revision! > revision!);
  t.deepEqual(names(client), ['c2']);
});

test('a token for the netmap is good once, and only for a peer that exists', async (t) => {
  const coordinator = await start(t, join(temporaryFolder(), 'gw.db'));
  const { domain, urls } = coordinator;
  t.teardown(() => coordinator.close());
  const { peer, token } = await joiner(coordinator)('a');
  const ask = (bearer: string): Promise<Response> =>
    fetch(`${urls.api}/v1/peers/self/connection-token`, { method: 'POST', headers: { authorization: `Bearer ${bearer}` } });
  const connection = (await (await ask(token)).json()) as { url: string; token: string; expiresAt: string };
  t.is(connection.url, urls.sync);
  t.true(Date.parse(connection.expiresAt) > Date.now());
  const client = new SyncClient({ credentials: async () => connection, backoff: { firstMs: 10, maxMs: 10 } });
  client.start();
  await once(client, 'connected');
  await client.close();
  const again = new SyncClient({ credentials: async () => connection, backoff: { firstMs: 10, maxMs: 10 } });
  again.start();
  const [{ error }] = (await once(again, 'disconnected')) as [{ error: Error & { code?: string } }];
  t.regex(error.code ?? '', /TOKEN/);
  await again.close();
  await domain.peers.delete(peer.id);
  t.is((await ask(token)).status, 401);
});

test('bound to every address, it hands out the one by which the caller came', async (t) => {
  const flags = {
    '--db-path': join(temporaryFolder(), 'gw.db'),
    '--host': '0.0.0.0',
    '--insecure': 'true',
    '--port': '0',
    '--metrics-port': '0',
    '--sync-port': '0',
  };
  const { config } = loadConfig({ flags });
  const coordinator = await startCoordinator({ config, log: silentLog, version: '0', onFailure: (error) => t.fail(String(error)) });
  t.teardown(() => coordinator.close());
  const { token } = await joiner(coordinator)('a');
  const { port } = new URL(coordinator.urls.api);
  for (const host of ['127.0.0.1', 'localhost']) {
    const response = await fetch(`http://${host}:${port}/v1/peers/self/connection-token`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
    });
    const { url } = (await response.json()) as { url: string };
    t.is(url, `ws://${host}:${new URL(coordinator.urls.sync).port}/v1/sync`);
  }
});

test('closing twice is closing once, and a closed database opens again', async (t) => {
  const database = join(temporaryFolder(), 'gw.db');
  const coordinator = await start(t, database);
  await Promise.all([coordinator.close(), coordinator.close()]);
  await (await start(t, database)).close();
  t.pass();
});
