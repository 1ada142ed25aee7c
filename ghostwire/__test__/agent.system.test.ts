// What the agent does to a system that this one may not be: the kernel's WireGuard, systemd, systemd-resolved.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { nameservers, setUpResolver, undoResolver } from '../src/agent/resolver.js';
import { unit, UNIT } from '../src/agent/service.js';
import type { Tools } from '../src/agent/system.js';
import { Tunnel } from '../src/agent/wireguard.js';
import { GhostwireError } from '../src/errors.js';

/** Notes what is run, and answers as told; what is not named succeeds silently, `undefined` fails. */
function recorder(answers: Readonly<Record<string, string | undefined>>): Tools & { readonly lines: string[] } {
  const lines: string[] = [];
  const run = (command: string, args: readonly string[]): Promise<string> => {
    const line = [command, ...args].join(' ');
    lines.push(line);
    const known = Object.keys(answers).find((start) => line.startsWith(start));
    const answer = known === undefined ? '' : answers[known];
    return answer === undefined ? Promise.reject(new GhostwireError('ERR_AGENT_SYSTEM', `${line}: failed`)) : Promise.resolve(answer);
  };
  return { lines, run, attempt: (command, args) => run(command, args).then(() => true, () => false) };
}

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'ghostwire-system-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

test("the kernel's WireGuard where it has one", async (t) => {
  const tools = recorder({ 'ip link show': undefined, 'wg show gw0 listen-port': '40000\n' });
  const tunnel = new Tunnel('gw0', tools);
  await tunnel.up('/key', 51_820, 7);
  t.deepEqual(tools.lines, [
    'ip link show dev gw0',
    'ip link add dev gw0 type wireguard',
    'wg show gw0 listen-port',
    'wg set gw0 private-key /key fwmark 7 listen-port 51820',
    'ip link set dev gw0 mtu 1420 up',
  ]);
  t.is(tunnel.kind, 'kernel');
});

test('else wireguard-go, else a word of what is missing', async (t) => {
  const lacks = { 'ip link show': undefined, 'ip link add': undefined, 'wg show gw0 listen-port': '51820\n' };
  const tools = recorder(lacks);
  const tunnel = new Tunnel('gw0', tools);
  await tunnel.up('/key', 51_820, 7);
  t.is(tunnel.kind, 'wireguard-go');
  t.true(tools.lines.includes('wireguard-go gw0'));
  t.true(tools.lines.includes('wg set gw0 private-key /key fwmark 7'), 'a port that is right is left alone');
  const none = new Tunnel('gw0', recorder({ ...lacks, 'wireguard-go': undefined }));
  await t.throwsAsync(none.up('/key', 51_820, 7), { message: /the kernel has no WireGuard and wireguard-go is not installed/ });
  const broken = new Tunnel('gw0', recorder({ ...lacks, 'wireguard-go --version': '', 'wireguard-go gw0': undefined }));
  await t.throwsAsync(broken.up('/key', 51_820, 7), { message: /wireguard-go gw0: failed/ });
});

test('an interface of an agent before is taken over, whichever kind it is', async (t) => {
  for (const [details, kind] of [['5: gw0: <POINTOPOINT> mtu 1420\n    wireguard numtxqueues 1', 'kernel'], ['5: gw0: <POINTOPOINT> mtu 1420\n    tun type tun', 'wireguard-go']] as const) {
    const tools = recorder({ 'ip -d link show': details, 'wg show gw0 listen-port': '51820\n' });
    const tunnel = new Tunnel('gw0', tools);
    await tunnel.up('/key', 51_820, 7);
    t.is(tunnel.kind, kind);
    t.false(tools.lines.some((line) => line.startsWith('ip link add') || line.startsWith('wireguard-go')));
  }
});

test('systemd-resolved is asked for the domain only, and forgets by itself', async (t) => {
  const path = folder(t);
  const stub = join(path, 'stub-resolv.conf');
  writeFileSync(stub, '');
  const tools = recorder({});
  const file = join(path, 'resolv.conf');
  const setup = await setUpResolver('gw0', '100.64.0.1', 'mesh.internal', { path: file, stub, tools });
  t.deepEqual(setup, { undo: { kind: 'resolved' }, upstream: [] });
  t.deepEqual(tools.lines, ['resolvectl status gw0', 'resolvectl dns gw0 100.64.0.1', 'resolvectl domain gw0 ~mesh.internal']);
  t.notThrows(() => undoResolver({ kind: 'resolved' }));
  // Installed, and not in charge of this interface: the file it is.
  writeFileSync(file, 'nameserver 192.0.2.53\n');
  const other = await setUpResolver('gw0', '100.64.0.1', 'mesh.internal', { path: file, stub, tools: recorder({ 'resolvectl status': undefined }) });
  t.is(other?.undo.kind, 'file');
});

test('else the file, which is put back as it was unless somebody else has changed it', async (t) => {
  const path = join(folder(t), 'resolv.conf');
  const before = '# mine\nsearch example.com\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions edns0\n';
  const set = () => setUpResolver('gw0', '100.64.0.1', 'mesh.internal', { path, stub: '/nowhere' });
  writeFileSync(path, before);
  const first = await set();
  t.deepEqual(first?.upstream, ['192.0.2.53', '2001:db8::53']);
  const text = readFileSync(path, 'utf8');
  t.deepEqual(nameservers(text), ['100.64.0.1', '192.0.2.53', '2001:db8::53']);
  t.regex(text, /^search mesh\.internal example\.com$/m);
  t.regex(text, /^options edns0$/m);
  // The next agent, after one that died: its line is not doubled.
  const second = await set();
  t.is(readFileSync(path, 'utf8').match(/nameserver 100\.64\.0\.1/g)?.length, 1);
  t.deepEqual(second?.upstream, ['192.0.2.53', '2001:db8::53']);
  undoResolver(first!.undo);
  t.is(readFileSync(path, 'utf8'), before);
  writeFileSync(path, 'nameserver 198.51.100.1\n');
  undoResolver(first!.undo);
  t.is(readFileSync(path, 'utf8'), 'nameserver 198.51.100.1\n', 'DHCP was there in between');
  rmSync(path);
  t.notThrows(() => undoResolver(first!.undo));
  t.is(await set(), undefined, 'no file, nothing to change');
});

const withSystemd = spawnSync('systemd-analyze', ['--version']).error === undefined ? test : test.skip;

withSystemd("systemd takes the agent's unit without a word (needs systemd-analyze)", (t) => {
  const path = join(folder(t), UNIT);
  const verify = (command: string[]): string => {
    writeFileSync(path, unit(command));
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' });
    return `${status} ${stdout}${stderr}`;
  };
  t.is(verify([process.execPath, '/a b/main.js', 'up', '--state-dir', '/var/lib/50%']), '0 ');
  t.regex(verify(['/no/such/program']), /not executable|No such file/);
});
