// What the commands of a machine that joins do: talk to the running agent, or be it.

import { existsSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fields, print, table } from '../cli/output.js';
import { GhostwireError } from '../errors.js';
import { agentFor, ServerError, type Remote } from '../http.js';
import { createLog } from '../log.js';
import { checkRoutes } from '../peers/peer.js';
import { VERSION } from '../version.js';
import { ask, listenControl } from './control.js';
import { CoordinatorClient, join, type Joined } from './coordinator.js';
import { endpointsAt, Host, hostLabel, localNetwork, takeDown } from './host.js';
import { removeService, startService } from './service.js';
import { AgentState, type Settings } from './state.js';
import type { Status } from './status.js';
import { has, run } from './system.js';
import { makeKeyPair } from './wireguard.js';

/** Exit code of an agent whom the coordinator has sent away: starting it again would not help. */
const SENT_AWAY = 3;

export interface Common {
  readonly stateDir: string;
  readonly json?: boolean;
}

export interface UpOptions extends Common {
  readonly server?: string;
  readonly key?: string;
  readonly fingerprint?: string;
  readonly insecure?: boolean;
  readonly hostname?: string;
  readonly user?: string;
  readonly tag?: string[];
  readonly interface?: string;
  readonly port?: string;
  readonly acceptRoutes?: boolean;
  readonly exitNode?: string;
  readonly advertiseRoutes?: string;
  readonly advertiseExitNode?: boolean;
  readonly dns: boolean;
  readonly foreground?: boolean;
  readonly logFilter: string;
}

export interface SetOptions extends Common {
  readonly acceptRoutes?: string;
  readonly exitNode?: string;
  readonly advertiseRoutes?: string;
  readonly advertiseExitNode?: boolean;
}

export async function down({ stateDir, json = false, forget = false }: Common & { readonly forget?: boolean }): Promise<void> {
  const did = await bringDown(new AgentState(stateDir), forget);
  print(json, { down: did, forgotten: forget }, did ? 'down' : 'was not up');
}

export async function status({ stateDir, json = false }: Common): Promise<void> {
  const found = await ask<Status>(new AgentState(stateDir).socket, 'GET', '/status');
  print(json, found, statusText(found));
}

export async function rotate({ stateDir, json = false }: Common): Promise<void> {
  const answer = await ask<{ publicKey: string }>(new AgentState(stateDir).socket, 'POST', '/rotate');
  print(json, answer, `the key is now ${answer.publicKey}`);
}

export async function set({ stateDir, json = false, acceptRoutes, exitNode, ...offered }: SetOptions): Promise<void> {
  const advertise = advertised(offered.advertiseRoutes, offered.advertiseExitNode);
  const answer = await ask<Settings>(new AgentState(stateDir).socket, 'POST', '/settings', {
    ...(acceptRoutes !== undefined && { acceptRoutes: acceptRoutes === 'yes' }),
    ...(exitNode !== undefined && { exitNode }),
    ...(advertise !== undefined && { advertise }),
  });
  print(json, answer, fields({ ...answer }));
}

/** @returns undefined when neither was given */
function advertised(routes: string | undefined, exit: boolean | undefined): string[] | undefined {
  if (routes === undefined && exit !== true) return undefined;
  const listed = (routes ?? '').split(',').filter((route) => route.trim() !== '');
  return checkRoutes([...listed.map((route) => route.trim()), ...(exit === true ? ['0.0.0.0/0', '::/0'] : [])], '--advertise-routes');
}

function remoteOf({ server, fingerprint, insecure }: UpOptions): Remote {
  if (server === undefined) throw new GhostwireError('ERR_USAGE', 'no coordinator: give --server, as the join line has it');
  return { url: server.replace(/\/+$/, ''), ...(fingerprint !== undefined && { fingerprint }), ...(insecure === true && { insecure }) };
}

export async function up(options: UpOptions): Promise<number> {
  const state = new AgentState(options.stateDir);
  if (process.getuid?.() !== 0) throw new GhostwireError('ERR_AGENT_SYSTEM', 'the agent makes network interfaces and filters: run it as root');
  if (await ask(state.socket, 'GET', '/alive').then(() => true, () => false))
    throw new GhostwireError('ERR_AGENT_RUNNING', 'an agent runs on this machine already; `ghostwire set` changes it, `ghostwire down` ends it');
  const tools = [['ip', ['-V']], ['wg', ['--version']], ['nft', ['--version']]] as const;
  const found = await Promise.all(tools.map(([tool, args]) => has(tool, args)));
  for (const [index, [tool]] of tools.entries())
    if (found[index] !== true) throw new GhostwireError('ERR_AGENT_SYSTEM', `${tool} is not installed: apt-get install iproute2 wireguard-tools nftables`);
  const settings = settingsOf(options, state.settings.read());
  await register(options, state, settings);
  state.settings.write(settings);
  if (options.foreground === true) return foreground(state, settings, options.logFilter);
  const began = await startService(state);
  print(options.json ?? false, began, `up: ${began.name}.${began.domain} at ${began.addresses.join(' and ')}`);
  return 0;
}

function settingsOf(options: UpOptions, before: Settings | undefined): Settings {
  const name = options.interface ?? before?.interface ?? 'gw0';
  // IFNAMSIZ, and nothing that a tool could take for something else.
  if (!/^[a-z][a-z0-9_-]{0,13}$/.test(name)) throw new GhostwireError('ERR_USAGE', `--interface ${JSON.stringify(name)} is not a name such as gw0`);
  const port = Number(options.port ?? before?.port ?? 51_820);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new GhostwireError('ERR_USAGE', `--port ${options.port} is not 1 to 65535`);
  const exitNode = options.exitNode ?? before?.exitNode;
  return {
    interface: name,
    port,
    acceptRoutes: options.acceptRoutes ?? before?.acceptRoutes ?? false,
    ...(exitNode !== undefined && exitNode !== '' && { exitNode }),
    advertise: advertised(options.advertiseRoutes, options.advertiseExitNode) ?? before?.advertise ?? [],
    dns: options.dns && (before?.dns ?? true),
  };
}

/** Joins, unless this machine has joined this coordinator already. */
async function register(options: UpOptions, state: AgentState, { advertise, port, interface: name }: Settings): Promise<void> {
  const known = state.identity.read();
  if (known !== undefined && (options.server === undefined || remoteOf(options).url === known.server)) {
    if (options.fingerprint !== undefined && options.fingerprint !== known.fingerprint)
      state.identity.write({ ...known, fingerprint: options.fingerprint });
    return;
  }
  if (known !== undefined)
    throw new GhostwireError('ERR_AGENT_STATE', `this machine has joined ${known.server}; \`ghostwire down --forget\` leaves it`, {});
  const remote = remoteOf(options);
  if (options.key === undefined) throw new GhostwireError('ERR_USAGE', 'no pre-auth key: give --key, or set GHOSTWIRE_KEY');
  const { publicKey } = state.key();
  const { peer, token } = await join(remote, {
    ...describe(options, options.hostname ?? hostLabel(), publicKey),
    routes: advertise,
    // So that others can begin with the first netmap; how the world sees this host is learned later.
    endpoints: endpointsAt(localNetwork(name).addresses, port).slice(0, 16),
  });
  const { url, ...proof } = remote;
  state.identity.write({ server: url, ...proof, id: peer.id, token, publicKey });
}

const describe = ({ key = '', user, tag }: UpOptions, hostname: string, wireguardKey: string) => ({
  preauthKey: key,
  wireguardKey,
  hostname,
  os: process.platform,
  version: VERSION,
  ...(user !== undefined && { user }),
  ...(tag !== undefined && { tags: tag }),
});

async function foreground(state: AgentState, settings: Settings, filter: string): Promise<number> {
  const identity = state.identity.read();
  if (identity === undefined) throw new GhostwireError('ERR_AGENT_STATE', `${state.folder} does not say whom this machine has joined`);
  const log = createLog(filter)('ghostwire::agent');
  // The interface is made while the rest is loaded; what is wrong with it is said when the agent starts.
  const host = new Host(settings.interface, state);
  const standing = host.up(settings.port);
  standing.catch(() => undefined);
  // Loaded here, because the other commands are quicker without the addon.
  const { Agent } = await import('./agent.js');
  const agent = new Agent({ state, identity, settings, log, host, standing });
  let leaving = false;
  const close = await listenControl(state.socket, {
    'GET /alive': () => ({ pid: process.pid }),
    'GET /status': () => agent.status(),
    'POST /rotate': () => agent.rotate(),
    'POST /settings': (body) => agent.change(body as Partial<Settings>),
    'POST /down': async (body) => {
      if ((body as { forget?: boolean } | undefined)?.forget === true) await agent.leave();
      leaving = true;
      setImmediate(() => void agent.stop());
      return { pid: process.pid };
    },
  });
  const onSignal = (): void => {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    void agent.stop();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    await agent.start();
    const error = await agent.ended;
    if (error === undefined) {
      log.info(leaving ? 'down' : 'stopping; the tunnel and its filter stay');
      if (leaving) await takeDown(state);
      return 0;
    }
    log.fatal({ reason: error.message }, 'sent away by the coordinator; taking everything down');
    await agent.stop();
    await takeDown(state);
    // The next `up` with a pre-auth key joins anew. Who was only replaced by another agent of its own is still somebody.
    if (!('code' in error && error.code === 'ERR_REPLACED')) {
      state.identity.remove();
      state.netmap.remove();
    }
    return SENT_AWAY;
  } finally {
    await close();
    rmSync(state.socket, { force: true });
  }
}

/** By the running agent, and whatever it has left. */
async function bringDown(state: AgentState, forget: boolean): Promise<boolean> {
  const running = await ask<{ pid: number }>(state.socket, 'POST', '/down', { forget }).catch((error: unknown) => {
    if (error instanceof ServerError) throw error;
    return undefined;
  });
  if (running !== undefined) {
    // Its socket goes last.
    for (let tries = 0; tries < 500 && existsSync(state.socket); tries += 1) await sleep(20);
  } else if (forget) {
    const identity = state.identity.read();
    if (identity !== undefined) await new CoordinatorClient({ ...identity, url: identity.server }, identity.token).leave();
  }
  await removeService();
  const left = await takeDown(state);
  if (forget) state.forget();
  return running !== undefined || left;
}

export async function ping({ stateDir, json = false, count }: Common & { readonly count: string }, name: string): Promise<number> {
  const times = Number(count);
  if (!Number.isInteger(times) || times < 1) throw new GhostwireError('ERR_USAGE', `--count ${count} is not a number from 1`);
  const { socket } = new AgentState(stateDir);
  const find = async (): Promise<Status['peers'][number]> => {
    const { peers, domain } = await ask<Status>(socket, 'GET', '/status');
    const bare = name.toLowerCase().replace(new RegExp(`\\.${domain}\\.?$`), '');
    const peer = peers.find((one) => one.name === bare || one.id === name || one.addresses.includes(name));
    if (peer === undefined) throw new GhostwireError('ERR_PEER_NOT_FOUND', `this machine sees no peer ${JSON.stringify(name)}`, { name });
    return peer;
  };
  const { addresses } = await find();
  const [address = ''] = addresses;
  const answers: { readonly milliseconds: number | null; readonly endpoint: string | null }[] = [];
  for (let round = 0; round < times; round += 1) {
    const began = Date.now();
    const said = await run('ping', ['-n', '-c', '1', '-W', '2', address]).catch(() => '');
    const milliseconds = Number(/time=([\d.]+)/.exec(said)?.[1] ?? NaN);
    const { endpoint } = await find();
    const answer = { milliseconds: Number.isNaN(milliseconds) ? null : milliseconds, endpoint };
    answers.push(answer);
    const way = endpoint === null ? 'no way known' : `at ${endpoint}`;
    if (!json) process.stdout.write(answer.milliseconds === null ? `no answer from ${address} (${way})\n` : `${name} (${address}) ${way}: ${milliseconds} ms\n`);
    if (round < times - 1) await sleep(Math.max(0, 1_000 - (Date.now() - began)));
  }
  if (json) print(true, answers, '');
  return answers.some(({ milliseconds }) => milliseconds !== null) ? 0 : 1;
}

/** Registers, and waits for one netmap. */
export async function wgQuickFor(options: UpOptions, name: string): Promise<string> {
  const remote = remoteOf(options);
  if (options.key === undefined) throw new GhostwireError('ERR_USAGE', 'no pre-auth key: give --key, or set GHOSTWIRE_KEY');
  const [{ Netmap }, { SyncClient }, { wgQuick }] = await Promise.all([import('./netmap.js'), import('../client.js'), import('./wg-quick.js')]);
  const { privateKey, publicKey } = makeKeyPair();
  const joined: Joined = await join(remote, describe(options, name, publicKey));
  const coordinator = new CoordinatorClient(remote, joined.token);
  const netmap = new Netmap();
  const client = new SyncClient({
    credentials: (signal) => coordinator.connection(signal),
    agent: (url) => agentFor({ ...remote, url }),
  });
  try {
    await new Promise<void>((resolve, reject) => {
      client.once('change', (change) => {
        const [refused] = netmap.apply(change);
        if (netmap.self === undefined) reject(new GhostwireError('ERR_NETMAP_REFUSED', `${refused?.subject}: ${refused?.reason}`));
        else resolve();
      });
      client.once('disconnected', ({ error }) => reject(error));
      client.start();
    });
  } finally {
    await client.close();
  }
  if (netmap.self === undefined) throw new GhostwireError('ERR_NETMAP_REFUSED', 'the coordinator sent no map');
  return wgQuick(netmap.self, netmap.peers.values(), privateKey, options.exitNode);
}

function statusText(found: Status): string {
  const { peers, refused, memory, ...own } = found;
  const { pid, ready, revision, connected, publicKey, ...shown } = own;
  const head = fields({ ...shown, coordinator: connected ? `connected, at revision ${revision}` : 'not connected', key: publicKey });
  const rows = peers.map((peer) => [
    peer.name,
    peer.addresses[0] ?? '',
    peer.endpoint ?? '-',
    peer.handshakeAt === null ? 'never' : `${Math.max(0, Math.round((Date.now() - peer.handshakeAt) / 1_000))} s ago`,
    String(peer.received),
    String(peer.sent),
    peer.routes.join(),
  ]);
  const list = rows.length === 0 ? 'no peers are visible' : table(['PEER', 'ADDRESS', 'AT', 'HANDSHAKE', 'RECEIVED', 'SENT', 'ROUTES'], rows);
  const complaints = refused.map(({ subject, reason }) => `refused: ${subject}: ${reason}`);
  return [head, '', list, ...(complaints.length > 0 ? ['', ...complaints] : []), `agent: pid ${pid}, ${Math.round(memory / 2 ** 20)} MB${ready ? '' : ', starting'}`].join('\n');
}

