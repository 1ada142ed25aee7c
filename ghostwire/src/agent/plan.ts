// From what the network says and this host consents to, to what the host is to be like. Pure: the same input, the same plan.
//
// Nothing here is taken because a coordinator says so alone: a prefix that the host has itself is never given away,
// everything that others route needs `--accept-routes`, and the way out of the host needs `--exit-node`.

import { formatPrefix, parseAddress, parsePrefix, type Prefix } from '../addresses/ip.js';
import { overlap, parseRange, rangeOf } from '../addresses/ranges.js';
import type { FilterRule } from '../topology/filter.js';
import { shown, within, type MeshPeer, type MeshSelf, type Refusal } from './netmap.js';
import { ruleset } from './ruleset.js';

/** What the host's owner agreed to. */
export interface Consent {
  readonly acceptRoutes: boolean;
  /** Name of the peer through which everything else goes. */
  readonly exitNode?: string | undefined;
}

/** What is so on the host. */
export interface HostFacts {
  readonly interface: string;
  /** Prefixes of the host's other interfaces. */
  readonly onLink: readonly string[];
  /** The coordinator's addresses. */
  readonly servers: readonly string[];
  /** Milliseconds since 1970. */
  readonly now: number;
}

export interface PlannedPeer {
  readonly id: string;
  readonly name: string;
  readonly publicKey: string;
  readonly allowedIps: readonly string[];
  readonly endpoints: readonly string[];
}

export interface Plan {
  readonly addresses: readonly string[];
  /** Prefixes to send into the tunnel; without the two of an exit node. */
  readonly routes: readonly string[];
  /** Whether everything else goes through the tunnel too. */
  readonly exit: boolean;
  readonly peers: readonly PlannedPeer[];
  /** nftables */
  readonly ruleset: string;
  /** Addresses by name without the domain. */
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly domain: string;
  readonly refused: readonly Refusal[];
}

/** Shorter prefixes take over most of what a host may want to reach: they are an exit under another name. */
const BROAD = { 4: 8, 6: 16 } as const;
const EVERYTHING = new Set(['0.0.0.0/0', '::/0']);

/** What a netmap says, of which `Netmap` is one. */
export interface Told {
  readonly self: MeshSelf;
  readonly filter: readonly FilterRule[];
  readonly peers: Iterable<MeshPeer>;
}

export function plan({ self, filter, peers: all }: Told, consent: Consent, host: HostFacts): Plan {
  const refused: Refusal[] = [];
  const refuse = (peer: MeshPeer, reason: string): void => void refused.push({ subject: `peer ${peer.name} (${peer.id})`, reason });

  const held = new Map<string, string>([self.publicKey, ...self.addresses].map((mine) => [mine, 'this host']));
  const names = new Map<string, readonly string[]>([[self.name, self.addresses]]);
  const members: MeshPeer[] = [];
  // In the order of ids, so that of two who claim the same the same one has it every time.
  for (const peer of [...all].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    const taken = [peer.publicKey, ...peer.addresses].find((what) => held.has(what));
    if (taken !== undefined) {
      refuse(peer, `${taken} belongs to ${held.get(taken)}`);
      continue;
    }
    for (const what of [peer.publicKey, ...peer.addresses]) held.set(what, peer.name);
    if (names.has(peer.name)) refuse(peer, `the name ${peer.name} belongs to another; it is reached by address only`);
    else names.set(peer.name, peer.addresses);
    members.push(peer);
  }

  const taken = new Map<string, string>();
  const exit = consent.exitNode === undefined ? undefined : members.find(({ name }) => name === consent.exitNode);
  const peers = members.map((peer): PlannedPeer => {
    const allowedIps = peer.addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`);
    for (const text of peer.routes) {
      const route = parsePrefix(text);
      if (route === undefined) continue;
      const why = objection(route, self, host);
      if (EVERYTHING.has(text)) {
        if (peer === exit) allowedIps.push(text);
        // Offered to all and used by those who choose: nothing to complain of.
        continue;
      }
      if (!consent.acceptRoutes) continue;
      if (why !== undefined) refuse(peer, `route ${text} ${why}`);
      else if (taken.has(text)) refuse(peer, `route ${text} goes through ${taken.get(text)}`);
      else {
        taken.set(text, peer.name);
        allowedIps.push(text);
      }
    }
    return { id: peer.id, name: peer.name, publicKey: peer.publicKey, allowedIps, endpoints: peer.endpoints };
  });
  if (consent.exitNode !== undefined && !peers.some(({ allowedIps }) => allowedIps.includes('0.0.0.0/0')))
    refused.push({ subject: `exit node ${shown(consent.exitNode)}`, reason: 'no visible peer of this name is approved as one' });

  return {
    addresses: self.addresses,
    routes: [...self.pools, ...taken.keys()],
    // Asked for and not to be had: nothing leaves another way than the one that was chosen.
    exit: consent.exitNode !== undefined,
    peers,
    ruleset: ruleset({
      interface: host.interface,
      addresses: self.addresses,
      pools: self.pools,
      user: self.user,
      routes: self.approvedRoutes,
      rules: filter,
      peers: members,
      now: host.now,
    }),
    names,
    domain: self.domain,
    refused,
  };
}

/** Why a route must not be taken over. */
function objection(route: Prefix, self: MeshSelf, { onLink, servers }: HostFacts): string | undefined {
  if (route.length < BROAD[route.family]) return 'would take over most of what this host reaches; that is for --exit-node';
  const text = formatPrefix(route);
  const meets = (prefix: string): boolean => {
    const other = parseRange(prefix);
    return other !== undefined && overlap(rangeOf(route), other);
  };
  for (const pool of self.pools) if (meets(pool)) return `is within the network's own ${pool}`;
  for (const prefix of onLink) if (meets(prefix)) return `would take over ${prefix}, which this host is on itself`;
  const server = servers.find((address) => within(address, route));
  if (server !== undefined) return `would take over the way to the coordinator, ${server}`;
  const first = Number(route.value >> (route.family === 4 ? 24n : 120n));
  if (route.family === 4 && (first === 0 || first === 127 || first >= 224)) return `${text} is not an address of other machines`;
  if (route.family === 6 && (first === 0xff || route.value >> 118n === 0x3fan || route.value >> 32n === 0n)) return 'is not an address of other machines';
  return undefined;
}

/** `address/length` of an interface, without its host bits. */
export function prefixOf(cidr: string): string | undefined {
  const [host = '', digits] = cidr.split('/');
  const address = parseAddress(host);
  if (address === undefined) return undefined;
  const shift = BigInt((address.family === 4 ? 32 : 128) - Number(digits));
  return formatPrefix({ ...address, value: (address.value >> shift) << shift, length: Number(digits) });
}
