// What a coordinator says, believed only as far as it can be right. Pure.
//
// A coordinator, or whoever speaks for it, may be hostile: every field is checked before it is used for anything, and
// what fails is refused with a reason. A refused record leaves the last good one of its peer in place; a peer that is
// taken away is always taken away.

import { Compile, type XStatic } from 'typebox/schema';
import { parseAddress, parsePrefix, type Prefix } from '../addresses/ip.js';
import { covers, parseRange, rangeOf } from '../addresses/ranges.js';
import type { Change } from '../client.js';
import { checkEndpoints, checkWireguardKey } from '../peers/peer.js';
import { FILTER_LIMITS, type FilterRule } from '../topology/filter.js';

/** Another machine of the network. */
export interface MeshPeer {
  readonly id: string;
  /** A DNS label. */
  readonly name: string;
  readonly user: string | null;
  /** IPv4, then IPv6. */
  readonly addresses: readonly [string, string];
  readonly publicKey: string;
  readonly endpoints: readonly string[];
  readonly routes: readonly string[];
  readonly labels: readonly string[];
}

/** This machine, as the network knows it. */
export interface MeshSelf extends MeshPeer {
  readonly domain: string;
  /** The prefixes that all addresses of the network are in: IPv4, then IPv6. */
  readonly pools: readonly [string, string];
  readonly advertisedRoutes: readonly string[];
  /** What it may be sent packets for, beside its own addresses. */
  readonly approvedRoutes: readonly string[];
}

/** Something that is not believed: whose it is, and why. */
export interface Refusal {
  readonly subject: string;
  readonly reason: string;
}

/** One more than what no honest network needs, and one host can bear. */
export const MAX_PEERS = 4_096;
/** Bytes of one message: 4,096 peers of 1 KiB, with room. */
export const MAX_MESSAGE = 16 * 1024 * 1024;

// Plain JSON Schema, as in client.ts.
const text = <const N extends number>(maxLength: N) => ({ type: 'string', maxLength }) as const;
const strings = <const N extends number, const L extends number>(maxItems: N, maxLength: L) => ({ type: 'array', items: text(maxLength), maxItems }) as const;
/** Exactly two of them. */
const pair = <const A, const B>(first: A, second: B) => ({ type: 'array', items: [first, second], additionalItems: false, minItems: 2 }) as const;
const record = {
  id: { type: 'string', pattern: '^[A-Za-z0-9_-]{1,64}$' },
  name: { type: 'string', pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' },
  user: { anyOf: [{ type: 'null' }, text(254)] },
  addresses: pair(text(15), text(45)),
  wireguardKey: text(44),
  endpoints: strings(16, 56),
  routes: strings(64, 49),
  labels: strings(1_024, 320),
} as const;
const RECORD = ['id', 'name', 'user', 'addresses', 'wireguardKey', 'endpoints', 'routes', 'labels'] as const;
const Peer = { type: 'object', required: RECORD, properties: record } as const;
const port = { type: 'integer', minimum: 0, maximum: 65_535 } as const;
const Rule = {
  type: 'object',
  required: ['action', 'sources', 'destinations'],
  properties: {
    action: { enum: ['allow', 'deny'] },
    sources: strings(FILTER_LIMITS.sources, 320),
    destinations: strings(FILTER_LIMITS.destinations, 91),
    protocols: { type: 'array', items: { type: 'integer', minimum: 0, maximum: 255 }, maxItems: 256 },
    ports: { type: 'array', items: pair(port, port), maxItems: 1_000 },
    sameOwner: { const: true },
    family: { enum: [4, 6] },
    expiresAt: { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
  },
} as const;
const Self = {
  type: 'object',
  required: [...RECORD, 'domain', 'network', 'advertisedRoutes', 'approvedRoutes'],
  properties: {
    ...record,
    domain: { type: 'string', maxLength: 190, pattern: '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' },
    network: pair(text(18), text(43)),
    advertisedRoutes: strings(64, 49),
    approvedRoutes: strings(64, 49),
  },
} as const;
const Rules = { type: 'array', items: Rule, maxItems: FILTER_LIMITS.rules } as const;
const peerShape = Compile(Peer);
const selfShape = Compile(Self);
const rulesShape = Compile(Rules);

class Refused extends Error {}

function refuse(reason: string): never {
  throw new Refused(reason);
}

/** @throws Refused */
function member(value: XStatic<typeof Peer>, pools: readonly [Prefix, Prefix]): MeshPeer {
  const { id, name, user, addresses, wireguardKey, endpoints, routes, labels } = value;
  const [ipv4, ipv6] = addresses;
  if (!within(ipv4, pools[0]) || !within(ipv6, pools[1])) refuse(`its addresses ${shown(addresses.join(', '))} are not of the network's prefixes`);
  try {
    checkWireguardKey(wireguardKey);
    checkEndpoints(endpoints, 'endpoints');
  } catch (error) {
    refuse((error as Error).message);
  }
  for (const route of routes) if (parsePrefix(route) === undefined) refuse(`route ${shown(route)} is not a prefix without host bits`);
  for (const label of labels) if (!isPlain(label)) refuse(`label ${shown(label)} holds control characters`);
  if (user !== null && !isPlain(user)) refuse('its user holds control characters');
  const usable = endpoints.filter((endpoint) => isReachable(hostOf(endpoint), pools));
  return { id, name, user, addresses: [ipv4, ipv6], publicKey: wireguardKey, endpoints: usable, routes, labels };
}

/** Where a packet may be sent to: a machine, and not through the tunnel itself. */
function isReachable(host: string, pools: readonly [Prefix, Prefix]): boolean {
  const value = parseAddress(host);
  if (value === undefined || within(host, pools[0]) || within(host, pools[1])) return false;
  if (value.family === 6) return value.value > 1n && value.value >> 120n !== 0xffn && value.value >> 118n !== 0x3fan;
  const first = Number(value.value >> 24n);
  return first !== 0 && first !== 127 && first < 224;
}

export const hostOf = (endpoint: string): string => endpoint.slice(0, endpoint.lastIndexOf(':')).replace(/^\[|\]$/g, '');

export function within(address: string, prefix: Prefix): boolean {
  const found = parseAddress(address);
  return found !== undefined && covers(rangeOf(prefix), { family: found.family, first: found.value, last: found.value });
}

/** Prefixes that a network may be: none that takes over what every host has. */
function poolsOf([v4, v6]: readonly [string, string]): readonly [Prefix, Prefix] {
  const [ipv4, ipv6] = [parsePrefix(v4), parsePrefix(v6)];
  if (ipv4?.family !== 4 || ipv4.length < 8) refuse(`${shown(v4)} cannot be a network's IPv4 prefix`);
  if (ipv6?.family !== 6 || ipv6.length < 16) refuse(`${shown(v6)} cannot be a network's IPv6 prefix`);
  const first = Number(ipv4.value >> 24n);
  if (first === 0 || first === 127 || first >= 224) refuse(`${shown(v4)} cannot be a network's IPv4 prefix`);
  if (ipv6.value >> 120n === 0xffn || ipv6.value >> 118n === 0x3fan || ipv6.value === 0n) refuse(`${shown(v6)} cannot be a network's IPv6 prefix`);
  return [ipv4, ipv6];
}

function rule({ sources, destinations, ports = [], ...rest }: XStatic<typeof Rule>): FilterRule {
  for (const source of sources)
    if (source !== '*' && parseRange(source) === undefined && !/^[a-z]+:[^\p{Cc}\s"\\]+$/u.test(source)) refuse(`filter: ${shown(source)} is no source`);
  for (const to of destinations) if (to !== 'self' && to !== 'routes' && parseRange(to) === undefined) refuse(`filter: ${shown(to)} is no destination`);
  for (const [first, last] of ports) if (first > last) refuse(`filter: ports ${first}-${last} are no range`);
  return { ...rest, sources, destinations, ...(ports.length > 0 && { ports }) } as FilterRule;
}

/** @throws Refused */
function believed(rules: readonly unknown[]): FilterRule[] {
  if (!rulesShape.Check(rules)) refuse(wrongField(rulesShape.Errors(rules)));
  return rules.map(rule);
}

/** The last good state, and what it takes to change it. */
export class Netmap {
  readonly #peers = new Map<string, MeshPeer>();
  #self: MeshSelf | undefined;
  /** Lets nothing in until there is one that is right. */
  #filter: readonly FilterRule[] = [];
  #pools: readonly [Prefix, Prefix] | undefined;
  /** What this host holds for its own: the address and pools that it was given first stay. */
  #pinned: readonly [string, string] | undefined;

  /** @param pools of the network that this host has joined, once it has */
  constructor(pools?: readonly [string, string]) {
    this.#pinned = pools;
  }

  get self(): MeshSelf | undefined {
    return this.#self;
  }

  get filter(): readonly FilterRule[] {
    return this.#filter;
  }

  get peers(): ReadonlyMap<string, MeshPeer> {
    return this.#peers;
  }

  /** Takes over what is right and says what is not. */
  apply({ changed, removed, self, packetFilter }: Pick<Change, 'changed' | 'removed' | 'self' | 'packetFilter'>): Refusal[] {
    const refused: Refusal[] = [];
    const attempt = (subject: string, work: () => void): void => {
      try {
        work();
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        refused.push({ subject, reason: error.message });
      }
    };
    for (const { id } of removed) this.#peers.delete(id);
    if (self !== undefined && self !== null) attempt('self', () => this.#takeSelf(self));
    if (packetFilter !== undefined) attempt('packet filter', () => (this.#filter = packetFilter === null ? [] : believed(packetFilter.rules)));
    for (const peer of changed) {
      const subject = `peer ${shown(peer.id)}`;
      attempt(subject, () => {
        if (this.#pools === undefined) refuse('nothing is known of the network yet');
        if (!peerShape.Check(peer)) refuse(wrongField(peerShape.Errors(peer)));
        if (!this.#peers.has(peer.id) && this.#peers.size >= MAX_PEERS) refuse(`more than ${MAX_PEERS} peers`);
        this.#peers.set(peer.id, member(peer, this.#pools));
      });
    }
    return refused;
  }

  #takeSelf(value: unknown): void {
    if (!selfShape.Check(value)) refuse(wrongField(selfShape.Errors(value)));
    const pools = poolsOf(value.network);
    if (this.#pinned !== undefined && this.#pinned.join() !== value.network.join())
      refuse(`the network was ${this.#pinned.join(' and ')} and cannot become ${shown(value.network.join(' and '))}`);
    for (const route of [...value.advertisedRoutes, ...value.approvedRoutes]) if (parsePrefix(route) === undefined) refuse(`route ${shown(route)} is no prefix`);
    const own = member(value, pools);
    this.#pinned = [...value.network];
    this.#pools = pools;
    this.#self = { ...own, domain: value.domain, pools: [...value.network], advertisedRoutes: value.advertisedRoutes, approvedRoutes: value.approvedRoutes };
  }
}

const isPlain = (value: string): boolean => !/\p{Cc}/u.test(value);

/** Text of a stranger's, fit for a log line. */
export const shown = (value: string): string => JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value).replace(/\p{Cc}/gu, '?');

function wrongField([, errors]: [boolean, readonly { readonly instancePath: string; readonly message: string }[]]): string {
  const [first] = errors;
  return first === undefined ? 'it has not the form of a record' : `${first.instancePath.slice(1) || 'record'}: ${first.message}`;
}

