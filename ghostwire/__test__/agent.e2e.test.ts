// Real packets: a coordinator and machines in network namespaces, from the README's walk to the last one's leaving.
//
// One network, built up test after test. What needs root, wireguard-go and nftables is skipped, loudly, without them.

import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import anyTest, { type ExecutionContext } from 'ava';
import type { Status } from '../src/agent/status.js';
import { Lab, lacking, until, type Machine, type Output } from './support/lab.js';

const missing = await lacking();
if (missing.length > 0)
  process.stderr.write(`\n*** SKIPPED: the end-to-end tests of the agent need ${missing.join(', ')}. NOTHING of real packets is tested here. ***\n\n`);
const test = missing.length > 0 ? anyTest.skip : anyTest.serial;

const ADDON = fileURLToPath(new URL('../native.cjs', import.meta.url));
const TRAFFIC = fileURLToPath(new URL('support/traffic.mjs', import.meta.url));
const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

let lab: Lab;
let coord: Machine;
let server: ChildProcess;
/** What `serve` has printed: keys, fingerprint and the line to join with. */
const printed = { admin: '', preauth: '', fingerprint: '', join: '' };
const machines = new Map<string, Machine>();
const machine = (name: string): Machine => {
  const found = machines.get(name);
  if (found === undefined) throw new Error(`no machine is called ${name}`);
  return found;
};

anyTest.before(async (t) => {
  t.timeout(300_000);
  if (missing.length > 0) return;
  lab = new Lab();
  coord = await lab.public('coord', 1);
  machines.set('coord', coord);
  for (const [name, number] of [['laptop', 11], ['web', 12]] as const) machines.set(name, await lab.public(name, number));
});
anyTest.after.always(async () => {
  if (missing.length === 0) await lab.close();
});
anyTest.afterEach.always(async (t) => {
  if (missing.length > 0 || t.passed) return;
  t.log(lab.logs());
  for (const [name, one] of machines) {
    const [filter, tunnel] = await Promise.all([one.run('nft', 'list', 'ruleset'), one.run('wg')]);
    t.log(name, tunnel.stdout, /chain requests \{[^}]*\}/.exec(filter.stdout)?.[0] ?? 'no filter');
  }
});

/** Waits for something that a process prints. */
function says(child: ChildProcess, pattern: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stderr?.on('data', (part: Buffer) => (text += part.toString()));
    child.stdout?.on('data', (part: Buffer) => {
      text += part.toString();
      if (pattern.test(text)) resolve(text);
    });
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${text}`)));
  });
}

async function serve(...command: string[]): Promise<string> {
  server = coord.spawn(...command);
  return says(server, /sync .*[^]*\n\n/);
}

const admin = (line: string): Promise<Output> =>
  coord.sh(`export GHOSTWIRE_URL=https://203.0.113.1:8080 GHOSTWIRE_ADMIN_KEY=${printed.admin} GHOSTWIRE_FINGERPRINT=${printed.fingerprint}; ${line}`);

async function mustAdmin(t: ExecutionContext, line: string): Promise<string> {
  const { code, stdout, stderr } = await admin(line);
  t.is(code, 0, `${line}: ${stderr}`);
  return stdout;
}

const setPolicy = (t: ExecutionContext, policy: object): Promise<string> =>
  mustAdmin(t, `echo '${JSON.stringify(policy)}' | ghostwire policy set -`);

const statusOf = async (name: string): Promise<Status> => JSON.parse(await machine(name).do('ghostwire', 'status', '--json')) as Status;

const pings = async (from: string, to: string): Promise<boolean> => (await machine(from).run('ping', '-n', '-c', '1', '-W', '1', to)).code === 0;

const connects = async (from: string, to: string, port: number): Promise<boolean> =>
  (await machine(from).run(process.execPath, TRAFFIC, 'connect', to, String(port))).code === 0;

/** Brings a machine up by the line that `serve` has printed. */
async function up(t: ExecutionContext, name: string, ...more: string[]): Promise<void> {
  const { code, stderr } = await machine(name).sh([printed.join, ...more].join(' '));
  t.is(code, 0, `${name}: ${stderr}`);
}

/** When the last line came of a process that prints one for each thing that arrives. */
function arrivals(child: ChildProcess): { readonly count: () => number; readonly last: () => number } {
  let count = 0;
  let last = 0;
  child.stdout?.on('data', (part: Buffer) => {
    count += part.toString().split('\n').length - 1;
    last = Date.now();
  });
  return { count: () => count, last: () => last };
}

const laptopPing = (to: string): ChildProcess => machine('laptop').spawn('ping', '-n', '-i', '0.2', to);

test("the README's walk, to the letter", async (t) => {
  t.timeout(300_000);
  const [, block = ''] = /```sh walk\n(.*?)```/s.exec(README) ?? [];
  const began = performance.now();
  let on: string[] = [];
  let steps = 0;
  let environment = '';
  for (const line of block.split('\n').filter((text) => text !== '')) {
    const named = /^# on ([a-z, ]+?):/.exec(line)?.[1];
    if (named !== undefined) {
      on = named.split(/,| and /).map((name) => name.trim());
      continue;
    }
    steps += 1;
    const text = line
      .replace('gw_admin_…', printed.admin)
      .replace('gw_preauth_…', printed.preauth)
      .replace('sha256:…', printed.fingerprint);
    if (text.startsWith('ghostwire serve')) {
      const said = await serve('sh', '-c', `cd ${coord.folder}/tmp && exec ${text}`);
      printed.admin = /gw_admin_\S+/.exec(said)?.[0] ?? '';
      printed.preauth = /gw_preauth_\S+/.exec(said)?.[0] ?? '';
      printed.fingerprint = /sha256:\S+/.exec(said)?.[0] ?? '';
      printed.join = /^ +(ghostwire up .*)$/m.exec(said)?.[1] ?? '';
      continue;
    }
    if (text.startsWith('ghostwire up')) t.is(text, printed.join, 'the README joins by the line that serve prints');
    if (text.startsWith('export ')) {
      environment = `${text}; `;
      continue;
    }
    for (const name of on) {
      const { code, stdout, stderr } = await machine(name).sh(`cd ${machine(name).folder}/tmp; ${environment}${text}`);
      t.is(code, 0, `${name}: ${text}: ${stderr}${stdout}`);
    }
  }
  t.true(steps >= 7, 'the README has its walk');
  t.true(performance.now() - began < 300_000, 'two machines in under five minutes');
  const { peers, implementation } = await statusOf('laptop');
  t.is(peers.length, 1);
  t.is(implementation, 'wireguard-go');
});

test('what only its owner may read', async (t) => {
  for (const [path, mode] of [['/var/lib/ghostwire-agent/private.key', '600'], ['/var/lib/ghostwire-agent/identity.json', '600'], ['/var/lib/ghostwire-agent', '700']] as const)
    t.is((await machine('laptop').do('stat', '-c', '%a', path)).trim(), mode, path);
  t.is((await coord.do('stat', '-c', '%a', `${coord.folder}/tmp/ghostwire-tls.key`)).trim(), '600');
  const key = readFileSync(join(machine('laptop').folder, 'state/private.key'), 'utf8').trim();
  t.false((await mustAdmin(t, 'ghostwire peers list --json')).includes(key));
});

test('a server with another key is not spoken to', async (t) => {
  const other = `sha256:${'A'.repeat(43)}`;
  const { code, stderr } = await coord.sh(printed.join.replace(/sha256:\S+/, other).replace('up', `up --state-dir ${coord.folder}/tmp/other`));
  t.not(code, 0);
  t.regex(stderr, /ERR_CERTIFICATE/);
  const plain = await coord.sh(printed.join.replace('https:', 'http:').replace(/--fingerprint \S+/, '').replace('up', `up --state-dir ${coord.folder}/tmp/other`));
  t.regex(plain.stderr, /ERR_INSECURE/);
});

test('TCP and ping where the policy allows, in both families, and nothing else', async (t) => {
  t.timeout(150_000);
  await says(machine('web').spawn(process.execPath, TRAFFIC, 'serve', '80', '81', '82'), /serving/);
  const [, v6 = ''] = (await statusOf('web')).addresses;
  const [, from6 = ''] = (await statusOf('laptop')).addresses;
  const hosts = { web: '100.64.0.2', laptop: '100.64.0.1', web6: v6, laptop6: from6 };
  const acls = [
    { action: 'accept', proto: 'tcp', src: ['laptop'], dst: ['web:80', 'web:82'] },
    { action: 'accept', proto: 'udp', src: ['laptop'], dst: ['web:80'] },
  ];
  await setPolicy(t, { hosts, acls });
  await until('port 81 is closed', async () => !(await connects('laptop', 'web.mesh.internal', 81)));
  t.false(await connects('laptop', v6, 80), 'what names IPv4 addresses says nothing of IPv6');
  await setPolicy(t, { hosts, acls: [...acls, { action: 'accept', proto: 'tcp', src: ['laptop6'], dst: ['web6:80'] }] });
  await until('port 80 is open over IPv6', () => connects('laptop', v6, 80));
  t.true(await connects('laptop', '100.64.0.2', 80), 'port 80');
  t.true(await connects('laptop', v6, 80), 'port 80 over IPv6');
  t.false(await connects('laptop', '100.64.0.2', 81), 'port 81');
  t.false(await connects('laptop', v6, 81), 'port 81 over IPv6');
  t.false(await pings('laptop', '100.64.0.2'), 'ping');
  t.false(await pings('laptop', v6), 'ping over IPv6');
  t.false(await pings('web', '100.64.0.1'), 'the way back');
});

test('a policy edit cuts live flows within a second, whichever way they stream', async (t) => {
  t.timeout(150_000);
  const flows = (['stream', 'datagrams'] as const).map((mode) => ({
    mode,
    tcpOrUdp: arrivals(machine('laptop').spawn(process.execPath, TRAFFIC, mode, '100.64.0.2', '80')),
  }));
  const stays = arrivals(machine('laptop').spawn(process.execPath, TRAFFIC, 'stream', '100.64.0.2', '82'));
  for (const { mode, tcpOrUdp } of flows) await until(`${mode} flows`, () => tcpOrUdp.count() > 5);
  await until('the other flows', () => stays.count() > 5);
  await setPolicy(t, { hosts: { web: '100.64.0.2', laptop: '100.64.0.1' }, acls: [{ action: 'accept', proto: 'tcp', src: ['laptop'], dst: ['web:82'] }] });
  const edited = Date.now();
  await sleep(1_000);
  const before = flows.map(({ tcpOrUdp }) => tcpOrUdp.count());
  const stayed = stays.count();
  await sleep(1_500);
  for (const [index, { mode, tcpOrUdp }] of flows.entries()) {
    t.is(tcpOrUdp.count(), before[index] ?? NaN, `${mode} goes on`);
    t.log(`${mode}: cut ${tcpOrUdp.last() - edited} ms after the edit`);
  }
  t.true(stays.count() > stayed, 'what is still allowed flows on');
  await setPolicy(t, { acls: [{ action: 'accept', src: ['*'], dst: ['*:*'] }] });
  await until('ping again', () => pings('laptop', '100.64.0.2'));
});

test('two machines behind separate NATs reach each other directly', async (t) => {
  t.timeout(150_000);
  for (const [name, number] of [['home', 21], ['office', 22]] as const) {
    machines.set(name, await lab.behindNat(name, number));
    await up(t, name);
  }
  t.false((await machine('home').run('ping', '-n', '-c', '1', '-W', '1', '192.168.22.2')).code === 0, 'there is no other way');
  const took = await until('home reaches office', () => pings('home', 'office.mesh.internal'), 20_000);
  t.true(await pings('office', 'home.mesh.internal'));
  t.log(`connected through both NATs after ${Math.round(took)} ms`);
  const { peers, reflexive } = await statusOf('home');
  t.is(reflexive, '203.0.113.21:51820');
  t.is(peers.find(({ name }) => name === 'office')?.endpoint, '203.0.113.22:51820');
  t.true(await pings('laptop', 'office.mesh.internal'), 'a public machine reaches one behind a NAT');
});

test('a coordinator that is killed and comes back costs no packet', async (t) => {
  t.timeout(150_000);
  const ping = machine('home').spawn('ping', '-n', '-q', '-i', '0.05', '-w', '9', '100.64.0.2');
  const result = says(ping, /packet loss/);
  await sleep(1_500);
  server.kill('SIGKILL');
  await coord.run('pkill', '-KILL', '-f', 'main.js serve');
  await sleep(2_000);
  await serve('sh', '-c', `cd ${coord.folder}/tmp && exec ghostwire serve --host 203.0.113.1`);
  const said = await result;
  t.regex(said, / 0% packet loss/, said);
  const sent = Number(/(\d+) packets transmitted/.exec(said)?.[1]);
  t.true(sent > 100, said);
  await until('the agents are back', async () => (await statusOf('home')).connected && (await statusOf('web')).connected, 20_000);
  // Endpoints are soft: the agents tell them again.
  await until('endpoints are known again', async () => (await mustAdmin(t, 'ghostwire peers list --json')).includes('203.0.113.21:51820'));
});

test('a machine that moves to another address goes on', async (t) => {
  t.timeout(150_000);
  const laptop = machine('laptop');
  await laptop.do('sh', '-c', 'ip address del 203.0.113.11/24 dev eth0 && ip address add 203.0.113.99/24 dev eth0');
  const took = await until('the others know', async () => (await mustAdmin(t, 'ghostwire peers list --json')).includes('203.0.113.99:51820'));
  t.log(`reported after ${Math.round(took)} ms`);
  await until('it is reached from behind a NAT', () => pings('home', '100.64.0.1'));
  await until('and reaches', () => pings('laptop', '100.64.0.2'));
  t.true((await statusOf('laptop')).connected);
});

test('a key is replaced under traffic', async (t) => {
  t.timeout(150_000);
  const before = await statusOf('web');
  await machine('web').do('ghostwire', 'rotate');
  const after = await statusOf('web');
  t.not(after.publicKey, before.publicKey);
  await until('laptop has the new key', async () => (await machine('laptop').do('wg')).includes(after.publicKey));
  t.false((await machine('laptop').do('wg')).includes(before.publicKey));
  await until('traffic goes on', () => pings('laptop', '100.64.0.2'));
  await until('and through the NAT', () => pings('home', '100.64.0.2'), 20_000);
});

test('a machine is given another address, and all follow', async (t) => {
  t.timeout(150_000);
  const [before, after] = ['100.64.0.2', '100.77.0.9'];
  t.true(await pings('laptop', before));
  t.is(await mustAdmin(t, `ghostwire peers set-address web ${after}`), `web has ${after} and fd7a:115c:a1e0::644d:9\n`);
  const took = await until('it is reached there', () => pings('laptop', after));
  t.log(`reached after ${Math.round(took)} ms`);
  t.true(await pings('laptop', 'fd7a:115c:a1e0::644d:9'));
  t.false(await pings('laptop', before), 'and no longer where it was');
  t.deepEqual((await statusOf('web')).addresses, [after, 'fd7a:115c:a1e0::644d:9']);
  t.regex(await machine('web').do('ip', '-4', 'address', 'show', 'dev', 'gw0'), /100\.77\.0\.9\/32/);
  t.notRegex(await machine('web').do('ip', '-4', 'address', 'show', 'dev', 'gw0'), /100\.64\.0\.2/);
  t.regex(await mustAdmin(t, `ghostwire whois ${before}`), /state: +resting/);
  await mustAdmin(t, `ghostwire peers set-address web ${before}`);
  await until('it is back', () => pings('laptop', before));
  t.true((await statusOf('web')).connected);
});

test('a route is offered, approved, used, and withdrawn', async (t) => {
  t.timeout(150_000);
  machines.set('printer', await lab.behind('printer', machine('web'), '10.9.0'));
  await machine('web').do('ghostwire', 'set', '--advertise-routes', '10.9.0.0/24');
  await machine('laptop').do('ghostwire', 'set', '--accept-routes');
  t.false(await pings('laptop', '10.9.0.2'), 'before it is approved');
  await mustAdmin(t, 'ghostwire routes approve web 10.9.0.0/24');
  await until('the printer is reached', () => pings('laptop', '10.9.0.2'));
  t.false(await pings('home', '10.9.0.2'), 'who does not accept routes has none');
  await setPolicy(t, { acls: [{ action: 'accept', src: ['*'], dst: ['100.64.0.0/10:*'] }] });
  await until('the policy is for routes too', async () => !(await pings('laptop', '10.9.0.2')));
  await setPolicy(t, { acls: [{ action: 'accept', src: ['*'], dst: ['*:*'] }] });
  await until('the printer again', () => pings('laptop', '10.9.0.2'));
  await mustAdmin(t, 'ghostwire routes withdraw web 10.9.0.0/24');
  await until('it is gone', async () => !(await pings('laptop', '10.9.0.2')));
});

test('another router of the same network takes over when the one in use is gone, and keeps it', async (t) => {
  t.timeout(150_000);
  // The two stand on the same network, and the printer asks neither: each sends in its own name.
  const [web, spare] = [machine('web'), await lab.public('spare', 15)];
  machines.set('spare', spare);
  await lab.bridge([machine('printer'), web, spare], '10.9.0');
  await up(t, 'spare', '--advertise-routes', '10.9.0.0/24');
  for (const name of ['web', 'spare']) await mustAdmin(t, `ghostwire routes approve ${name} 10.9.0.0/24`);
  await until('the printer is reached', () => pings('laptop', '10.9.0.2'));
  const router = async (): Promise<string | undefined> => (await statusOf('laptop')).peers.find(({ routes }) => routes.includes('10.9.0.0/24'))?.name;
  t.is(await router(), 'web', 'the first one');
  const flow = arrivals(laptopPing('10.9.0.2'));
  await until('it flows', () => flow.count() > 3);
  await web.do('ghostwire', 'down');
  const took = await until('spare carries it', async () => (await router()) === 'spare', 20_000);
  const before = flow.count();
  await until('it flows again', () => flow.count() > before + 3, 20_000);
  t.log(`another router after ${Math.round(took)} ms`);
  await web.do('ghostwire', 'up');
  await until('web is back', async () => (await statusOf('web')).connected);
  await sleep(1_000);
  t.is(await router(), 'spare', 'it stays');
  const listed = JSON.parse(await mustAdmin(t, 'ghostwire routes list --json')) as { prefix: string; peer: string; primary: boolean }[];
  const primaries = listed.filter(({ prefix }) => prefix === '10.9.0.0/24').map(({ peer, primary }) => [peer, primary]);
  t.deepEqual(Object.fromEntries(primaries), { web: false, spare: true });
  // Revoked: at once.
  await mustAdmin(t, `ghostwire peers delete ${(await statusOf('spare')).id}`);
  const revoked = await until('web carries it again', () => pings('laptop', '10.9.0.2'), 5_000);
  t.log(`after a revocation: ${Math.round(revoked)} ms`);
  await mustAdmin(t, 'ghostwire routes withdraw web 10.9.0.0/24');
});

test('the reflexive address is learned over IPv6 too', async (t) => {
  t.timeout(150_000);
  // Asks the coordinator's own responder through a raw socket, in the name of WireGuard's port.
  const ask = (responder: string): Promise<string> =>
    machine('laptop').do(process.execPath, '-e', `require(${JSON.stringify(ADDON)}).stunProbe(${JSON.stringify(responder)}, 51820, 3000).then(console.log)`);
  await coord.do('sh', '-c', `cd ${coord.folder}/tmp && mkdir six && cd six && (ghostwire serve --insecure --host 2001:db8::1 --port 9080 --metrics-port 9081 --sync-port 9082 > log 2>&1 &)`);
  await until('a coordinator listens on IPv6', async () => (await coord.run('sh', '-c', `grep -q sync ${coord.folder}/tmp/six/log`)).code === 0);
  t.is((await ask('[2001:db8::1]:9082')).trim(), '[2001:db8::11]:51820');
  t.is((await ask('203.0.113.1:8082')).trim(), '203.0.113.99:51820', 'and over IPv4');
  await t.throwsAsync(ask('[2001:db8::99]:9082'), { message: /did not answer|unreachable/i });
  await coord.do('pkill', '-f', 'sync-port 9082');
});

test('an exit node is used by those who ask for it', async (t) => {
  t.timeout(150_000);
  const far = await lab.public('far', 200);
  // Somewhere that only the exit knows the way to.
  await far.do('ip', 'address', 'add', '198.51.100.1/32', 'dev', 'lo');
  await machine('web').do('ip', 'route', 'add', '198.51.100.1', 'via', '203.0.113.200');
  await machine('web').do('ghostwire', 'set', '--advertise-exit-node');
  await mustAdmin(t, 'ghostwire routes approve web 0.0.0.0/0 ::/0');
  await sleep(500);
  t.false(await pings('laptop', '198.51.100.1'), 'nobody is sent through it unasked');
  await machine('laptop').do('ghostwire', 'set', '--exit-node', 'web');
  await until('through the exit', () => pings('laptop', '198.51.100.1'));
  t.true((await statusOf('laptop')).connected);
  t.true(await pings('laptop', 'home.mesh.internal'), 'the network itself');
  await machine('laptop').do('ghostwire', 'set', '--exit-node', '');
  await until('and no more', async () => !(await pings('laptop', '198.51.100.1')));
});

test('a plain WireGuard client, by wg-quick', async (t) => {
  t.timeout(150_000);
  machines.set('plain', await lab.public('plain', 13));
  const plain = machine('plain');
  const line = printed.join.replace('ghostwire up', 'ghostwire wg-quick phone');
  t.is((await plain.sh(`umask 077; ${line} > ${plain.folder}/tmp/wgq.conf`)).code, 0);
  const { code, stderr } = await plain.sh(`WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go wg-quick up ${plain.folder}/tmp/wgq.conf`);
  t.is(code, 0, stderr);
  await until('the plain client reaches web', () => pings('plain', '100.64.0.2'));
  await until('and is reached by its name', () => pings('web', 'phone.mesh.internal'));
});

test("an agent's death leaves its filter, and the next one takes over without losing a packet", async (t) => {
  t.timeout(150_000);
  await setPolicy(t, { hosts: { web: '100.64.0.2' }, acls: [{ action: 'accept', proto: 'tcp', src: ['*'], dst: ['web:80'] }, { action: 'accept', proto: 'icmp', src: ['*'], dst: ['web:*'] }] });
  await until('81 is closed', async () => !(await connects('laptop', '100.64.0.2', 81)));
  const { pid } = await statusOf('web');
  await machine('web').do('kill', '-KILL', String(pid));
  t.true(await connects('laptop', '100.64.0.2', 80), 'the tunnel stands');
  t.false(await connects('laptop', '100.64.0.2', 81), 'the filter stands');
  const ping = machine('laptop').spawn('ping', '-n', '-q', '-i', '0.05', '-w', '5', '100.64.0.2');
  const result = says(ping, /packet loss/);
  await sleep(300);
  await machine('web').do('ghostwire', 'up');
  t.regex(await result, / 0% packet loss/);
  t.false(await connects('laptop', '100.64.0.2', 81));
  await setPolicy(t, { acls: [{ action: 'accept', src: ['*'], dst: ['*:*'] }] });
  await until('it follows again', () => connects('laptop', '100.64.0.2', 81));
});

test('a revoked machine is gone, and another takes its name', async (t) => {
  t.timeout(150_000);
  const { id } = await statusOf('web');
  await mustAdmin(t, `ghostwire peers delete ${id}`);
  await until('web is not reached', async () => !(await pings('laptop', '100.64.0.2')));
  await until('web has no interface', async () => (await machine('web').run('ip', 'link', 'show', 'gw0')).code !== 0);
  t.false((await statusOf('laptop')).peers.some(({ name }) => name === 'web'));
  t.regex((await machine('web').run('ghostwire', 'up')).stderr, /ERR_USAGE: no coordinator/, 'it is nobody any more');
  machines.set('web', await lab.public('web', 14));
  await up(t, 'web');
  await until('the new one is reached by the name', () => pings('laptop', 'web.mesh.internal'));
  t.not((await statusOf('web')).id, id);
});

test('down leaves nothing behind', async (t) => {
  t.timeout(150_000);
  for (const name of ['laptop', 'home']) {
    await machine(name).do('ghostwire', 'down');
    t.not((await machine(name).run('ip', 'link', 'show', 'gw0')).code, 0);
    t.is((await machine(name).do('nft', 'list', 'ruleset')).trim(), '');
    t.is((await machine(name).do('cat', '/etc/resolv.conf')).trim(), 'nameserver 192.0.2.53');
    t.is((await machine(name).do('ip', 'rule')).trim().split('\n').length, 3);
    t.is((await machine(name).do('cat', '/proc/sys/net/ipv4/conf/all/src_valid_mark')).trim(), '0');
    t.notRegex(await machine(name).do('ip', 'route', 'show', 'table', 'all'), /gw0|100\.64/);
    t.regex((await machine(name).run('ghostwire', 'status')).stderr, /ERR_AGENT_NOT_RUNNING/);
  }
  // Who it is, is not forgotten.
  const before = (await mustAdmin(t, 'ghostwire peers list --json')).match(/"id"/g)?.length;
  await machine('laptop').do('ghostwire', 'up');
  t.is((await mustAdmin(t, 'ghostwire peers list --json')).match(/"id"/g)?.length, before);
  await machine('laptop').do('ghostwire', 'down', '--forget');
  t.is((await mustAdmin(t, 'ghostwire peers list --json')).match(/"id"/g)?.length, (before ?? 0) - 1);
});

/** Registers a thousand machines that will never be there, all of one link. */
const REGISTER = `
  const register = (n) => fetch('https://203.0.113.1:8080/v1/peers/register', { method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ preauthKey: process.argv[1], hostname: 'absent-' + n, wireguardKey: require('crypto').randomBytes(32).toString('base64'), endpoints: ['192.168.31.250:51820'] }) })
  ;(async () => {
    for (let n = 0; n < 1000; n += 50) {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => register(n + i)))
      for (const answer of answers) if (!answer.ok) throw new Error(await answer.text())
    }
  })()`;

test('a thousand machines that are not there keep nobody from the others', async (t) => {
  t.timeout(150_000);
  await setPolicy(t, { acls: [{ action: 'accept', src: ['*'], dst: ['*:*'] }] });
  const { key } = JSON.parse(await mustAdmin(t, 'ghostwire preauth-key create --uses 1000 --json')) as { key: string };
  await coord.do('env', 'NODE_TLS_REJECT_UNAUTHORIZED=0', process.execPath, '-e', REGISTER, key);
  // Behind a NAT, where handshakes are begun with everybody; and the absent are neighbours, for whom packets wait.
  machines.set('crowded', await lab.behindNat('crowded', 31));
  await up(t, 'crowded');
  await until('web is reached', () => pings('crowded', 'web.mesh.internal'), 10_000);
  const { stdout } = await machine('crowded').run('ping', '-n', '-i', '0.1', '-c', '150', 'web.mesh.internal');
  t.regex(stdout, / 0% packet loss/);
  const longest = Number(/= [\d.]+\/[\d.]+\/([\d.]+)\//.exec(stdout)?.[1]);
  t.log(`the longest of 150 round trips: ${longest} ms`);
  t.true(longest < 1_000, stdout.split('\n').slice(-3).join('\n'));
  t.is((await statusOf('crowded')).peers.filter(({ name }) => name.startsWith('absent-')).length, 1_000);
});
