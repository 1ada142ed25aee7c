// TLS: what is served, to whom it proves itself, and certificates that change under way.

import { once } from 'node:events';
import { renameSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { Netmap } from '../src/agent/netmap.js';
import { SyncClient } from '../src/client.js';
import { loadConfig } from '../src/config.js';
import { startCoordinator, type Coordinator } from '../src/coordinator.js';
import { agentFor, send } from '../src/http.js';
import { silentLog } from '../src/log.js';
import { selfSigned } from '../src/sync.js';
import { isFingerprint, isLoopback, readCertificate, tlsFiles } from '../src/tls.js';
import { wireguardKey } from './support/network.js';
import { temporaryFolder } from './support/process.js';

const OTHER = `sha256:${'A'.repeat(43)}`;

function writeCertificate(folder: string): { chain: string; key: string } {
  const made = selfSigned(['127.0.0.1', 'localhost']);
  const files = { chain: join(folder, 'tls.pem'), key: join(folder, 'tls.key') };
  for (const part of ['key', 'chain'] as const) {
    writeFileSync(`${files[part]}.new`, made[part]);
    renameSync(`${files[part]}.new`, files[part]);
  }
  return files;
}

async function start(t: ExecutionContext): Promise<{ coordinator: Coordinator; folder: string; files: { chain: string; key: string } }> {
  const folder = temporaryFolder();
  const files = writeCertificate(folder);
  const flags = { '--db-path': join(folder, 'gw.db'), '--port': '0', '--metrics-port': '0', '--sync-port': '0', '--server-tls-certificate': files.chain, '--server-tls-key': files.key };
  const { config } = loadConfig({ flags });
  const coordinator = await startCoordinator({ config, log: silentLog, version: '0', onFailure: (error) => t.fail(String(error)) });
  t.teardown(() => coordinator.close());
  return { coordinator, folder, files };
}

const refusedWith = async (t: ExecutionContext, work: Promise<unknown>, code: string): Promise<void> => {
  const error = await t.throwsAsync(work);
  t.is((error as Error & { code?: string }).code, code, error?.message);
};

test('a netmap is followed over a pinned connection, and over no other', async (t) => {
  const { coordinator } = await start(t);
  const { domain, urls, fingerprint = '' } = coordinator;
  t.true(isFingerprint(fingerprint));
  t.regex(urls.api, /^https:/);
  t.regex(urls.sync, /^wss:/);
  const { text: preauthKey } = await domain.preauthKeys.create({ description: '', expiresAt: null, maxUses: null, tags: [], user: null });
  const remote = { url: urls.api, fingerprint };
  const join_ = (to: typeof remote) =>
    send<{ token: string }>(to, { method: 'POST', path: '/v1/peers/register', token: '', body: JSON.stringify({ preauthKey, wireguardKey: wireguardKey(), hostname: 'a' }) });
  await refusedWith(t, join_({ ...remote, fingerprint: OTHER }), 'ERR_CERTIFICATE');
  await refusedWith(t, send({ url: urls.api }, { method: 'GET', path: '/openapi.json', token: '' }), 'ERR_UNREACHABLE');
  t.is(domain.directory.size, 0, 'nothing was sent to a server that is not the pinned one');
  const { token } = await join_(remote);

  const follow = (pin: string): SyncClient =>
    new SyncClient({
      credentials: () => send<{ url: string; token: string }>(remote, { method: 'POST', path: '/v1/peers/self/connection-token', token }),
      agent: (url) => agentFor({ url, fingerprint: pin }),
      backoff: { firstMs: 20, maxMs: 50 },
    });
  const client = follow(fingerprint).start();
  t.teardown(() => client.close());
  const [change] = await once(client, 'change') as [Parameters<Netmap['apply']>[0]];
  t.deepEqual(new Netmap().apply(change), [], 'and what an agent believes');
  const wrong = follow(OTHER);
  wrong.once('connected', () => t.fail('connected to another server'));
  wrong.start();
  const [{ error }] = (await once(wrong, 'disconnected')) as [{ error: Error }];
  t.regex(error.message, /not the pinned/);
  await wrong.close();
});

test('nothing older than TLS 1.3 is spoken', async (t) => {
  const { coordinator } = await start(t);
  for (const url of [coordinator.urls.api, coordinator.urls.sync]) {
    const port = Number(new URL(url).port);
    const older = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, maxVersion: 'TLSv1.2' });
    const [error] = (await once(older, 'error')) as [Error];
    t.regex(error.message, /protocol version|handshake failure|alert/i, url);
    const now = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
    await once(now, 'secureConnect');
    t.is(now.getProtocol(), 'TLSv1.3');
    now.destroy();
  }
});

test('a changed certificate is used from then on; one that does not work is not', async (t) => {
  t.timeout(60_000);
  const { coordinator, folder, files } = await start(t);
  const keyOf = async (url: string): Promise<string> => {
    const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port), rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const found = socket.getPeerX509Certificate()?.fingerprint256 ?? '';
    socket.destroy();
    return found;
  };
  const { api, sync } = coordinator.urls;
  const first = await keyOf(api);
  t.is(await keyOf(sync), first);
  writeFileSync(files.chain, 'nonsense');
  process.emit('SIGHUP');
  t.is(await keyOf(api), first);
  writeCertificate(folder);
  process.emit('SIGHUP');
  const second = await keyOf(api);
  t.not(second, first);
  t.is(await keyOf(sync), second);
  // And without a signal.
  writeCertificate(folder);
  const until = Date.now() + 20_000;
  while ((await keyOf(sync)) === second && Date.now() < until);
  t.not(await keyOf(sync), second);
  t.is(await keyOf(sync), await keyOf(api));
});

test('plain text is for this machine, or for those who insist', async (t) => {
  const server = createServer((_, response) => response.end('{"ok":true}'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  t.deepEqual(await send({ url: `http://127.0.0.1:${port}` }, { method: 'GET', path: '/', token: '' }), { ok: true });
  for (const url of ['http://203.0.113.1', 'ws://203.0.113.1', 'http://127.0.0.1.example.com', 'http://localhost.example.com'])
    t.throws(() => agentFor({ url }), { code: 'ERR_INSECURE' }, url);
  t.notThrows(() => agentFor({ url: 'http://203.0.113.1', insecure: true }));
  t.throws(() => agentFor({ url: 'http://127.0.0.1', fingerprint: OTHER, insecure: true }), { code: 'ERR_INSECURE' }, 'a pin does not turn into plain text');
  t.throws(() => agentFor({ url: 'ftp://127.0.0.1' }), { code: 'ERR_USAGE' });
  t.throws(() => agentFor({ url: 'https://127.0.0.1', fingerprint: 'sha256:short' }), { code: 'ERR_USAGE' });
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', 'localhost']) t.true(isLoopback(host), host);
});

test('which certificate is served', (t) => {
  const folder = temporaryFolder();
  const config = (flags: Record<string, string>) => loadConfig({ flags: { '--db-path': join(folder, 'gw.db'), ...flags } }).config;
  let made = 0;
  const make = (names: readonly string[]) => {
    made += 1;
    return selfSigned(names);
  };
  t.is(tlsFiles(config({}), make), undefined, 'loopback');
  t.is(tlsFiles(config({ '--host': '0.0.0.0', '--insecure': 'true' }), make), undefined);
  t.throws(() => tlsFiles(config({ '--server-tls-certificate': 'x' }), make), { code: 'ERR_CONFIG' });
  const files = tlsFiles(config({ '--host': '0.0.0.0', '--server-public-url': 'https://mesh.example.com' }), make);
  t.is(statSync(files?.key ?? '').mode & 0o777, 0o600);
  const { fingerprint } = readCertificate(files!);
  t.is(readCertificate(tlsFiles(config({ '--host': '0.0.0.0' }), make)!).fingerprint, fingerprint, 'the second start has the same');
  t.is(made, 1);
  const other = selfSigned(['x']);
  writeFileSync(files?.key ?? '', other.key);
  t.throws(() => readCertificate(files!), { code: 'ERR_CERTIFICATE' });
});
