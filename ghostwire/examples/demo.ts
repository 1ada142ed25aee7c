// `npm run demo`: a coordinator on a temporary file, a thousand peers under a policy, a question, a change, and the update
// as it arrives over a live WebSocket. Uses only what any client has: the command line, REST and the sync protocol.

import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { SyncClient, type Change } from '../dist/client.js';

const PEERS = 1_000;
const AT_ONCE = 64;

const POLICY = `{
  // Engineers reach the servers that they run, everybody reaches the web, and the database answers to the web alone.
  "groups": {
    "group:engineering": ["ada@example.com", "grace@example.com", "edsger@example.com"],
    "group:support": ["barbara@example.com", "donald@example.com"],
  },
  "hosts": { "office": "192.168.10.0/24" },
  "tagOwners": { "tag:web": ["group:engineering"], "tag:db": ["group:engineering"], "tag:ci": ["group:engineering"] },
  "acls": [
    { "action": "accept", "src": ["*"], "dst": ["tag:web:80,443"] },
    { "action": "accept", "src": ["tag:web"], "proto": "tcp", "dst": ["tag:db:5432"] },
    { "action": "accept", "src": ["group:engineering"], "dst": ["tag:web:22", "tag:db:22", "tag:ci:*", "office:*"] },
    { "action": "accept", "src": ["tag:ci"], "dst": ["tag:web:22"] },
  ],
}`;

const USERS = ['ada', 'grace', 'edsger', 'barbara', 'donald', 'kathleen', 'dennis', 'radia'].map((name) => `${name}@example.com`);
const SYSTEMS = [
  { os: 'linux', version: '6.12.48' },
  { os: 'macos', version: '26.1' },
  { os: 'windows', version: '11.26100' },
  { os: 'android', version: '16' },
] as const;
const SITES = ['fra', 'nyc', 'sin', 'syd', 'gru'];

interface Registered {
  readonly peer: { readonly id: string; readonly name: string; readonly tags: string[]; readonly user: string | null };
  readonly token: string;
}

const folder = mkdtempSync(join(tmpdir(), 'ghostwire-demo-'));
let server: ChildProcess | undefined;
try {
  await demo();
} finally {
  if (server !== undefined && server.exitCode === null) {
    server.kill('SIGTERM');
    await once(server, 'exit');
  }
  rmSync(folder, { recursive: true, force: true });
}

async function demo(): Promise<void> {
  const database = join(folder, 'ghostwire.db');
  const { api, adminKey } = await startCoordinator(database);
  say(`coordinator at ${api}, database ${database}`);
  const admin = client(api, adminKey);

  const keys = new Map<string, string>();
  for (const tag of ['tag:web', 'tag:db', 'tag:ci', '']) {
    const { key } = await admin<{ key: string }>('POST', '/v1/preauth-keys', { maxUses: PEERS, ...(tag && { tags: [tag] }) });
    keys.set(tag, key);
  }

  heading(`registering ${PEERS.toLocaleString('en')} peers, ${AT_ONCE} at a time`);
  const registered: Registered[] = [];
  const times: number[] = [];
  let next = 0;
  const began = performance.now();
  const register = async (): Promise<void> => {
    for (let i = next++; i < PEERS; i = next++) {
      const sent = performance.now();
      const body = registration(i);
      registered[i] = await admin<Registered>('POST', '/v1/peers/register', { preauthKey: keys.get(body.role), ...body.fields });
      times.push(performance.now() - sent);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, register));
  const seconds = (performance.now() - began) / 1000;
  say(`${seconds.toFixed(2)} s, ${Math.round(PEERS / seconds).toLocaleString('en')} a second, p50 ${quantile(times, 0.5)}, p99 ${quantile(times, 0.99)}; each is on disk`);

  heading('loading the policy');
  const loading = performance.now();
  await admin('PUT', '/v1/policy', POLICY);
  say(`${since(loading)}: checked, compiled, stored`);

  heading('who may reach whom');
  const one = (role: string): Registered => registered.find(({ peer }) => (role.startsWith('tag:') ? peer.tags.includes(role) : peer.user === role)) ?? fail(`no peer ${role}`);
  const web = one('tag:web');
  const db = one('tag:db');
  const questions: [Registered, Registered, number][] = [
    [one('ada@example.com'), web, 22],
    [one('donald@example.com'), web, 443],
    [one('donald@example.com'), web, 22],
    [web, db, 5432],
    [one('donald@example.com'), db, 5432],
  ];
  for (const [src, dst, port] of questions) {
    const asked = performance.now();
    const { allowed, line } = await admin<{ allowed: boolean; line: number | null }>('POST', '/v1/policy/decide', { src: src.peer.name, dst: dst.peer.name, proto: 'tcp', port });
    say(`${who(src)} -> ${who(dst)} tcp/${port}: ${allowed ? `yes, line ${line} of the policy` : 'no'}  (${since(asked)})`);
  }

  heading('following the netmap of the web server');
  const follower = new SyncClient({
    credentials: async () => {
      const { url, token } = await client(api, web.token)<{ url: string; token: string }>('POST', '/v1/peers/self/connection-token');
      return { url, token };
    },
  });
  const connecting = performance.now();
  follower.start();
  await once(follower, 'connected');
  say(`${since(connecting)}: full map with ${follower.peers.size} peers at revision ${follower.revision}`);

  heading('changing a peer');
  await expectChange(follower, ({ changed }) => changed.some((record) => record.id === db.peer.id && record['name'] === 'db-primary'), `${db.peer.name} is now db-primary`, () =>
    admin('PATCH', `/v1/peers/${db.peer.id}`, { name: 'db-primary' }),
  );

  heading('deleting a peer');
  await expectChange(follower, ({ removed }) => removed.some((record) => record.id === db.peer.id), 'db-primary is gone', () => admin('DELETE', `/v1/peers/${db.peer.id}`));
  await follower.close();

  heading('what it took');
  say(`${(statSync(database).size / 2 ** 20).toFixed(1)} MiB of database, ${(statSync(`${database}-wal`).size / 2 ** 20).toFixed(1)} MiB of log; stopping`);
}

/** Makes a change over REST and waits until the follower is told of it. */
async function expectChange(follower: SyncClient, isIt: (change: Change) => boolean, text: string, change: () => Promise<unknown>): Promise<void> {
  const sent = performance.now();
  const arrived = new Promise<number>((resolve, reject) => {
    const timeout = setTimeout(() => reject(new Error('the update did not arrive within 10 s')), 10_000);
    follower.on('change', (seen) => {
      if (!isIt(seen)) return;
      clearTimeout(timeout);
      resolve(performance.now() - sent);
    });
  });
  await change();
  const answered = performance.now() - sent;
  const told = await arrived;
  say(`${text}: durable and answered after ${answered.toFixed(1)} ms, told over the WebSocket after ${told.toFixed(1)} ms`);
}

async function startCoordinator(database: string): Promise<{ api: string; adminKey: string }> {
  const program = fileURLToPath(new URL('../dist/main.js', import.meta.url));
  server = spawn(process.execPath, [program, 'serve', '--json', '--db-path', database, '--port', '0', '--metrics-port', '0', '--sync-port', '0', '--log-filter', 'warn'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (server.stdout === null) return fail('the coordinator has no output');
  const lines = createInterface({ input: server.stdout });
  const exited = once(server, 'exit').then(() => fail('the coordinator did not start'));
  const [line] = (await Promise.race([once(lines, 'line'), exited])) as [string];
  return JSON.parse(line) as { api: string; adminKey: string };
}

type Client = <Answer>(method: string, path: string, body?: unknown) => Promise<Answer>;

function client(api: string, bearer: string): Client {
  return async <Answer>(method: string, path: string, body?: unknown) => {
    const response = await fetch(api + path, {
      method,
      headers: { authorization: `Bearer ${bearer}`, ...(body === undefined ? {} : { 'content-type': typeof body === 'string' ? 'application/hujson' : 'application/json' }) },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) fail(`${method} ${path}: ${response.status} ${text}`);
    return (text === '' ? undefined : JSON.parse(text)) as Answer;
  };
}

/** One in ten is a server; the rest belong to people, a few machines each. */
function registration(i: number): { role: string; fields: Record<string, unknown> } {
  const role = i % 10 !== 0 ? '' : i % 50 === 0 ? 'tag:db' : i % 30 === 0 ? 'tag:ci' : 'tag:web';
  const site = SITES[i % SITES.length] ?? 'fra';
  const user = USERS[i % USERS.length];
  const system = role === '' ? SYSTEMS[(i * 7) % SYSTEMS.length] : SYSTEMS[0];
  const hostname = role === '' ? `${user?.split('@')[0]}-${system?.os}-${i}` : `${role.slice(4)}-${site}-${i}`;
  return {
    role,
    fields: {
      hostname,
      wireguardKey: randomBytes(32).toString('base64'),
      ...(role === '' && { user }),
      ...system,
      endpoints: [`198.51.100.${i % 250}:${41_000 + (i % 1000)}`],
      metadata: { site, model: role === '' ? 'laptop' : 'rack-1u', serial: randomBytes(5).toString('hex') },
    },
  };
}

function who({ peer }: Registered): string {
  return `${peer.name} (${peer.tags.join(', ') || peer.user})`;
}

function quantile(times: number[], q: number): string {
  const sorted = times.toSorted((a, b) => a - b);
  return `${(sorted[Math.floor(q * (sorted.length - 1))] ?? Number.NaN).toFixed(1)} ms`;
}

function since(start: number): string {
  return `${(performance.now() - start).toFixed(1)} ms`;
}

function heading(text: string): void {
  process.stdout.write(`\n${text}\n`);
}

function say(text: string): void {
  process.stdout.write(`  ${text}\n`);
}

function fail(text: string): never {
  throw new Error(text);
}
