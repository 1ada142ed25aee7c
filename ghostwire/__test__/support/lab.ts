// Machines for the end-to-end tests of the agent: each with a network, files, a name and processes of its own.
//
// A machine is a set of Linux namespaces whose first process reads a pipe of ours until its end. So nothing outlives the
// test, however it ends: with that process the kernel ends all others, and with them interfaces and filters.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** npm's own PATH has programs called like the system's. */
const ENVIRONMENT = { ...process.env, PATH: `/usr/sbin:/usr/bin:/sbin:/bin:${process.env['PATH']}` };

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function execute(command: string, args: readonly string[], input = ''): Promise<Output> {
  return new Promise((resolve) => {
    const child = execFile(command, [...args], { timeout: 60_000, maxBuffer: 64 * 2 ** 20, env: ENVIRONMENT }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1) || 1, stdout, stderr });
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

async function must(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await execute(command, args);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}${stdout}`);
  return stdout;
}

/** What this machine lacks for the tests; empty when they can run. */
export async function lacking(): Promise<string[]> {
  const missing: string[] = [];
  if (process.getuid?.() !== 0) return ['root'];
  if (!existsSync('/dev/net/tun')) missing.push('/dev/net/tun');
  for (const [tool, args] of [
    ['wireguard-go', ['--version']],
    ['wg', ['--version']],
    ['nft', ['--version']],
    ['ip', ['-V']],
    ['ping', ['-V']],
    ['unshare', ['--version']],
  ] as const)
    if ((await execute(tool, args)).code !== 0) missing.push(tool);
  if (missing.length > 0) return missing;
  const probe = await execute('unshare', ['-n', 'nft', 'add', 'table', 'inet', 'probe']);
  return probe.code === 0 ? [] : [`nftables in the kernel (${probe.stderr.trim()})`];
}

export class Machine {
  readonly name: string;
  readonly folder: string;
  readonly #bin: string;
  readonly #holder: ChildProcess;
  readonly #pid: number;

  private constructor(name: string, folder: string, bin: string, holder: ChildProcess, pid: number) {
    this.name = name;
    this.#bin = bin;
    this.folder = folder;
    this.#holder = holder;
    this.#pid = pid;
  }

  static async start(name: string, folder: string, bin: string): Promise<Machine> {
    for (const part of ['state', 'run/wireguard', 'tmp', 'lib/ghostwire-agent']) mkdirSync(join(folder, part), { recursive: true });
    writeFileSync(join(folder, 'resolv.conf'), 'nameserver 192.0.2.53\n');
    const setUp = [
      `hostname ${name}`,
      // Nothing of this is made outside, where another lab may be.
      `mount --bind ${folder}/lib /var/lib`,
      `mount --bind ${folder}/run "$(readlink -f /var/run)"`,
      `mount --bind ${folder}/state /var/lib/ghostwire-agent`,
      `mount --bind ${folder}/resolv.conf /etc/resolv.conf`,
      'ip link set lo up',
      'echo ready',
      'exec cat > /dev/null',
    ].join(' && ');
    const holder = spawn('unshare', ['-n', '-m', '-u', '-p', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private', 'sh', '-c', setUp], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    const children = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8').trim().split(' ');
    return new Machine(name, folder, bin, holder, Number(children[0]));
  }

  #inside(command: readonly string[]): string[] {
    return ['-t', String(this.#pid), '-n', '-m', '-u', '-p', '--', 'env', `PATH=${this.#bin}:${ENVIRONMENT.PATH}`, 'GHOSTWIRE_DEBUG=1', ...command];
  }

  /** Runs a command to its end, whatever that is. */
  run(...command: string[]): Promise<Output> {
    return execute('nsenter', this.#inside(command));
  }

  /** Runs a shell's command line. */
  sh(line: string): Promise<Output> {
    return this.run('sh', '-c', line);
  }

  /** @throws Error when the command fails */
  async do(...command: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...command);
    if (code !== 0) throw new Error(`${this.name}: ${command.join(' ')} ended with ${code}: ${stderr}${stdout}${this.log()}`);
    return stdout;
  }

  /** A process that goes on. */
  spawn(...command: string[]): ChildProcess {
    return spawn('nsenter', this.#inside(command), { stdio: ['pipe', 'pipe', 'pipe'], env: ENVIRONMENT });
  }

  get namespace(): string {
    return String(this.#pid);
  }

  /** The end of its agent's log. */
  log(lines = 15): string {
    const path = join(this.folder, 'state/agent.log');
    return existsSync(path) ? `\n--- ${this.name}\n${readFileSync(path, 'utf8').trim().split('\n').slice(-lines).join('\n')}\n` : '';
  }

  async stop(): Promise<void> {
    if (this.#holder.exitCode !== null) return;
    this.#holder.stdin?.end();
    await once(this.#holder, 'exit');
  }
}

/** A switch with machines on it, 203.0.113.0/24 and 2001:db8::/64, and machines behind NATs. */
export class Lab {
  readonly base = mkdtempSync(join(tmpdir(), 'ghostwire-lab-'));
  readonly #bin = join(this.base, 'bin');
  readonly #machines: Machine[] = [];
  #switch: Machine | undefined;
  #links = 0;

  constructor() {
    mkdirSync(this.#bin);
    writeFileSync(join(this.#bin, 'ghostwire'), `#!/bin/sh\nexec ${process.execPath} ${MAIN} "$@"\n`, { mode: 0o755 });
  }

  async #machine(name: string): Promise<Machine> {
    // A new machine may have an old one's name, and nothing else of it.
    const folder = join(this.base, String(this.#machines.length));
    const machine = await Machine.start(name, folder, this.#bin);
    this.#machines.push(machine);
    return machine;
  }

  async #hub(): Promise<Machine> {
    if (this.#switch === undefined) {
      this.#switch = await this.#machine('switch');
      await this.#switch.do('ip', 'link', 'add', 'br0', 'type', 'bridge');
      await this.#switch.do('ip', 'link', 'set', 'br0', 'up');
    }
    return this.#switch;
  }

  /** A cable between two machines. */
  async link(a: Machine, nameA: string, b: Machine, nameB: string): Promise<void> {
    const [left, right] = [`gwl${process.pid % 10_000}x${this.#links}`, `gwr${process.pid % 10_000}x${this.#links}`];
    this.#links += 1;
    await must('ip', ['link', 'add', left, 'type', 'veth', 'peer', 'name', right]);
    for (const [machine, temporary, name] of [
      [a, left, nameA],
      [b, right, nameB],
    ] as const) {
      await must('ip', ['link', 'set', temporary, 'netns', machine.namespace]);
      await machine.do('ip', 'link', 'set', temporary, 'name', name, 'up');
    }
  }

  /** A machine on the switch, 203.0.113.<number>. */
  async public(name: string, number: number): Promise<Machine> {
    const [hub, machine] = [await this.#hub(), await this.#machine(name)];
    await this.link(machine, 'eth0', hub, `port${number}`);
    await hub.do('ip', 'link', 'set', `port${number}`, 'master', 'br0');
    await machine.do('ip', 'address', 'add', `203.0.113.${number}/24`, 'dev', 'eth0');
    await machine.do('ip', 'address', 'add', `2001:db8::${number}/64`, 'dev', 'eth0', 'nodad');
    return machine;
  }

  /** A machine at 192.168.<number>.2 behind a router at 203.0.113.<number> that drops what it has not been asked for. */
  async behindNat(name: string, number: number): Promise<Machine> {
    const router = await this.public(`nat${number}`, number);
    const machine = await this.#machine(name);
    await this.link(machine, 'eth0', router, 'inside');
    await router.do('ip', 'address', 'add', `192.168.${number}.1/24`, 'dev', 'inside');
    await machine.do('ip', 'address', 'add', `192.168.${number}.2/24`, 'dev', 'eth0');
    await machine.do('ip', 'route', 'add', 'default', 'via', `192.168.${number}.1`);
    await router.do('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
    await router.do(
      'nft',
      `table ip nat { chain leaving { type nat hook postrouting priority 100; oifname "eth0" masquerade; }; };
       table ip filter {
         chain arriving { type filter hook input priority 0; policy drop; iifname != "eth0" accept; ct state established accept; };
         chain passing { type filter hook forward priority 0; policy drop; iifname "inside" accept; ct state established,related accept; };
       }`,
    );
    return machine;
  }

  /** A machine on a network behind another: `network`.2, and that one `network`.1. */
  async behind(name: string, router: Machine, network: string): Promise<Machine> {
    const machine = await this.#machine(name);
    await this.link(machine, 'eth0', router, 'lan0');
    await router.do('ip', 'address', 'add', `${network}.1/24`, 'dev', 'lan0');
    await machine.do('ip', 'address', 'add', `${network}.2/24`, 'dev', 'eth0');
    return machine;
  }

  /** Puts further machines on the network of the first one, a machine that is `behind` the second: `network`.3 and on. */
  async bridge([host, router, ...more]: readonly Machine[], network: string): Promise<void> {
    if (host === undefined || router === undefined) throw new Error('a network needs a host and its router');
    // The host's side of the cable becomes a switch.
    await host.do('sh', '-c', `ip link add lan type bridge && ip link set lan up && ip address del ${network}.2/24 dev eth0 && ip link set eth0 master lan && ip address add ${network}.2/24 dev lan`);
    for (const [index, machine] of more.entries()) {
      await this.link(machine, 'lan0', host, `port${index}`);
      await host.do('ip', 'link', 'set', `port${index}`, 'master', 'lan');
      await machine.do('ip', 'address', 'add', `${network}.${index + 3}/24`, 'dev', 'lan0');
    }
  }

  logs(): string {
    return this.#machines.map((machine) => machine.log()).join('');
  }

  async close(): Promise<void> {
    await Promise.all(this.#machines.map((machine) => machine.stop()));
    rmSync(this.base, { recursive: true, force: true });
  }
}

/** Until a condition holds. @returns milliseconds that it took @throws Error after `patience` */
export async function until(what: string, condition: () => Promise<boolean> | boolean, patience = 30_000): Promise<number> {
  const began = performance.now();
  while (!(await condition())) {
    if (performance.now() - began > patience) throw new Error(`not within ${patience} ms: ${what}`);
    await sleep(50);
  }
  return performance.now() - began;
}
