// The host as the agent changes it: packet filter, interface, addresses and routes, in the order that is safe, and back.

import { hostname, networkInterfaces } from 'node:os';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { GhostwireError } from '../errors.js';
import { prefixOf, type Plan, type PlannedPeer } from './plan.js';
import { closed, tableOf } from './ruleset.js';
import { clearExit, MARK, restoreKernel, Routing, setKernel } from './routing.js';
import { undoResolver } from './resolver.js';
import type { AgentState, Undo } from './state.js';
import { attempt, run } from './system.js';
import { Tunnel } from './wireguard.js';

export class Host {
  readonly tunnel: Tunnel;
  readonly #routing: Routing;
  readonly #state: AgentState;
  #ruleset = '';

  constructor(name: string, state: AgentState) {
    this.tunnel = new Tunnel(name);
    this.#routing = new Routing(name);
    this.#state = state;
  }

  /**
   * Filter first, then the interface. An earlier agent's filter and interface stay as they are until there is a plan.
   * @throws GhostwireError ERR_AGENT_SYSTEM
   */
  async up(port: number): Promise<void> {
    const { name } = this.tunnel;
    const adopted = await this.tunnel.exists();
    if (adopted && this.#state.undo.read()?.interface !== name)
      throw new GhostwireError('ERR_AGENT_SYSTEM', `an interface ${name} exists that is not this agent's; choose another name with --interface`, { name });
    this.note({ interface: name });
    if (!adopted || !(await attempt('nft', ['list', 'table', 'inet', tableOf(name)]))) await run('nft', ['-f', '-'], closed(name));
    // A filter that is only believed to stand is worse than none.
    if (!/hook input/.test(await run('nft', ['list', 'chain', 'inet', tableOf(name), 'incoming'])))
      throw new GhostwireError('ERR_AGENT_SYSTEM', 'nft says that it has made the packet filter, and there is none');
    await this.tunnel.up(this.#state.keyFile, port, MARK);
    if (adopted) {
      await clearExit();
      await this.#routing.adopt();
    }
  }

  /** What is stricter comes first: the filter, then peers, then what is sent to them. Returns the peers touched. */
  async apply(
    plan: Plan,
    servers: readonly string[],
    keepalive: number,
    endpoint: (peer: PlannedPeer) => string | undefined,
  ): Promise<number> {
    if (plan.ruleset !== this.#ruleset) {
      await run('nft', ['-f', '-'], plan.ruleset);
      this.#ruleset = plan.ruleset;
    }
    if (plan.exit) await this.kernel('marked');
    const touched = await this.tunnel.apply(plan.peers, keepalive, endpoint);
    await this.#routing.apply(plan, servers);
    return touched;
  }

  /** Turns kernel settings on, until `takeDown`. */
  async kernel(what: 'forwarding' | 'marked'): Promise<void> {
    const kernel = await setKernel(what);
    // What was so before the first change is what is to be put back.
    if (Object.keys(kernel).length > 0) this.note({ kernel: { ...kernel, ...this.#state.undo.read()?.kernel } });
  }

  /** Remembers, on disk, what is to be put back. */
  note(undo: Partial<Undo>): void {
    this.#state.undo.write({ interface: this.tunnel.name, ...this.#state.undo.read(), ...undo });
  }
}

/** Puts the host back as it was, whether the agent lives or not. Returns whether there was anything to put back. */
export async function takeDown(state: AgentState): Promise<boolean> {
  const undo = state.undo.read();
  if (undo === undefined) return false;
  if (undo.resolver !== undefined) undoResolver(undo.resolver);
  await clearExit();
  await new Tunnel(undo.interface).down();
  // Last: as long as there is an interface there is a filter.
  await attempt('nft', ['delete', 'table', 'inet', tableOf(undo.interface)]);
  await restoreKernel(undo.kernel ?? {});
  state.undo.remove();
  return true;
}

export interface LocalNetwork {
  /** Addresses that others may try. */
  readonly addresses: readonly string[];
  /** Prefixes of the host's interfaces. */
  readonly onLink: readonly string[];
}

/** The host's addresses and links, without loopback, link-local ones and the tunnel's own. */
export function localNetwork(tunnel: string): LocalNetwork {
  const found = Object.entries(networkInterfaces())
    .filter(([name]) => name !== tunnel)
    .flatMap(([, addresses]) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:') && !address.startsWith('169.254.'));
  const onLink = found.map(({ cidr }) => (cidr === null ? undefined : prefixOf(cidr))).filter((prefix) => prefix !== undefined);
  return { addresses: found.map(({ address }) => address).slice(0, 14), onLink: [...new Set(onLink)] };
}

/** All addresses of a server; none when its name is not known now. */
export async function addressesOf(url: string): Promise<string[]> {
  const name = new URL(url).hostname.replace(/^\[|\]$/g, '');
  if (isIP(name) !== 0) return [name];
  return lookup(name, { all: true }).then(
    (found) => found.map(({ address }) => address),
    () => [],
  );
}

/** Addresses with a port behind each. */
export const endpointsAt = (addresses: readonly string[], port: number): string[] =>
  addresses.map((address) => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`));

/** What this machine calls itself, as a DNS label. */
export const hostLabel = (): string =>
  (hostname().split('.', 1)[0] ?? '')
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 63) || 'host';
