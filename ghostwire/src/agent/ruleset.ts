// The packet filter as an nftables ruleset, both families in one table. Pure.
//
// Three decisions. A packet in the direction in which its flow began must be let in by a rule, every time and not only when
// the flow begins: a rule that goes takes its flows with it. A packet of ours that answers such a flow is held to
// the same rules with the ends exchanged, so that nothing streams on to a peer that may no longer ask. What answers a flow
// that began here is let in; whether it may begin is for the other end's filter to say.
//
// The text replaces the whole table in one transaction: no packet ever sees half of it.

import type { Family } from '../addresses/ip.js';
import { covers, formatAddress, formatRange, joined, overlap, parseRange, type AddressRange } from '../addresses/ranges.js';
import type { FilterRule } from '../topology/filter.js';

export interface FilterInput {
  readonly interface: string;
  /** This host's own addresses of the network. */
  readonly addresses: readonly string[];
  /** The network's prefixes: their addresses come through the tunnel or not at all. */
  readonly pools: readonly string[];
  readonly user: string | null;
  /** What this host routes for others; nothing else is passed on, whatever a rule names. */
  readonly routes: readonly string[];
  readonly rules: readonly FilterRule[];
  readonly peers: readonly { readonly addresses: readonly string[]; readonly labels: readonly string[]; readonly user: string | null }[];
  /** Milliseconds since 1970. */
  readonly now: number;
}

const FAMILIES = [4, 6] as const;
const KEYWORD = { 4: 'ip', 6: 'ip6' } as const;
/** Protocols whose header begins with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite. */
const WITH_PORTS = [6, 17, 33, 132, 136];
/** Marks packets that go on to other networks through this host, to be sent in its name. */
const FORWARDED = '0x00020000';

export const tableOf = (name: string): string => `ghostwire_${name.replace(/[^a-zA-Z0-9]/g, '_')}`;

/** Lets nothing in: what stands before anything is known. */
export const closed = (name: string, addresses: readonly string[] = [], pools: readonly string[] = []): string =>
  ruleset({ interface: name, addresses, pools, user: null, routes: [], rules: [], peers: [], now: 0 });

export function ruleset({ interface: name, addresses, pools, user, routes, rules, peers, now }: FilterInput): string {
  const table = tableOf(name);
  const sets = new Sets();
  const own = rangesOf(addresses);
  const routed = rangesOf(routes);
  const requests: string[] = [];
  const replies: string[] = [];
  for (const rule of rules) {
    if (rule.expiresAt !== undefined && rule.expiresAt <= now) continue;
    const any = rule.sources.includes('*') && rule.sameOwner !== true;
    const sources = any ? [] : sourcesOf(rule, user, peers);
    const destinations = joined(rule.destinations.flatMap((text) => (text === 'self' ? own : text === 'routes' ? routed : common(text, routed))));
    const verdict = rule.action === 'allow' ? 'accept' : 'drop';
    for (const family of FAMILIES) {
      if (rule.family !== undefined && rule.family !== family) continue;
      const to = sets.named(family, destinations);
      const from = any ? undefined : sets.named(family, sources);
      if (to === undefined || (!any && from === undefined)) continue;
      const ip = KEYWORD[family];
      for (const { protocols, ports } of services(rule)) {
        const match = (source: string, target: string, port: string): string =>
          [
            from === undefined ? '' : `${ip} ${source} @${from}`,
            `${ip} ${target} @${to}`,
            protocols === undefined ? '' : `meta l4proto { ${protocols.join(', ')} }`,
            ports === undefined ? '' : `th ${port} { ${ports} }`,
            verdict,
          ]
            .filter((part) => part !== '')
            .join(' ');
        requests.push(match('saddr', 'daddr', 'dport'));
        replies.push(match('daddr', 'saddr', 'sport'));
      }
    }
  }
  const foreign = pools.map((pool) => `iifname != { "${name}", "lo" } ${KEYWORD[pool.includes(':') ? 6 : 4]} saddr ${pool} drop`);
  const chain = (title: string, lines: readonly string[]): string => `  chain ${title} {\n${lines.map((line) => `    ${line}\n`).join('')}  }\n`;
  return [
    // Made if it is missing, so that it can be deleted, so that it can be made anew.
    `table inet ${table}\ndelete table inet ${table}\ntable inet ${table} {\n`,
    sets.text(),
    chain('requests', [...requests, 'counter drop']),
    chain('replies', [...replies, 'counter drop']),
    chain('from_peer', [
      'ct state related accept',
      'ct state established ct direction reply accept',
      'ct state invalid drop',
      'jump requests',
    ]),
    chain('to_peer', ['ct state related accept', 'ct direction reply jump replies']),
    chain('incoming', ['type filter hook input priority filter - 5; policy accept;', ...foreign, `iifname "${name}" jump from_peer`]),
    chain('outgoing', ['type filter hook output priority filter - 5; policy accept;', `oifname "${name}" jump to_peer`]),
    chain('passing', [
      'type filter hook forward priority filter - 5; policy accept;',
      ...foreign,
      `iifname "${name}" oifname "${name}" drop`,
      `iifname "${name}" meta mark set meta mark | ${FORWARDED}`,
      `iifname "${name}" jump from_peer`,
      `oifname "${name}" jump to_peer`,
    ]),
    // Networks behind this host need no route back to the mesh.
    chain('leaving', [
      'type nat hook postrouting priority srcnat; policy accept;',
      `oifname != "${name}" meta mark & ${FORWARDED} != 0 masquerade`,
    ]),
    '}\n',
  ].join('');
}

/** Who a rule lets in, written out: the networks that it names, and every address of every peer that it selects. */
function sourcesOf({ sources, sameOwner }: FilterRule, user: string | null, peers: FilterInput['peers']): AddressRange[] {
  const networks = sources.map((source) => parseRange(source)).filter((range) => range !== undefined);
  const labels = new Set(sources);
  const any = labels.has('*');
  const selected = peers.filter(
    (peer) =>
      (sameOwner !== true || (user !== null && peer.user === user)) &&
      (any ||
        peer.labels.some((label) => labels.has(label)) ||
        rangesOf(peer.addresses).some((address) => networks.some((network) => covers(network, address)))),
  );
  return joined([...(sameOwner === true ? [] : networks), ...selected.flatMap(({ addresses }) => rangesOf(addresses))]);
}

/** Matches that together are the rule's protocols and ports. */
function services({ protocols, ports }: FilterRule): { readonly protocols?: readonly number[]; readonly ports?: string }[] {
  if (ports === undefined) return [protocols === undefined ? {} : { protocols }];
  const able = (protocols ?? WITH_PORTS).filter((protocol) => WITH_PORTS.includes(protocol));
  const ranges = ports.toSorted(([a], [b]) => a - b).reduce<[number, number][]>((merged, [first, last]) => {
    const before = merged.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
    return merged;
  }, []);
  if (able.length === 0) return [];
  return [{ protocols: able, ports: ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(', ') }];
}

/** Each different set of addresses once. */
class Sets {
  readonly #names = new Map<string, string>();
  readonly #text: string[] = [];

  named(family: Family, ranges: readonly AddressRange[]): string | undefined {
    const elements = ranges.filter((range) => range.family === family).map(textOf);
    if (elements.length === 0) return undefined;
    const content = `${family} ${elements.join(', ')}`;
    let name = this.#names.get(content);
    if (name === undefined) {
      name = `s${this.#names.size}`;
      this.#names.set(content, name);
      const type = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
      this.#text.push(`  set ${name} { type ${type}; flags interval; elements = { ${elements.join(', ')} }; }\n`);
    }
    return name;
  }

  text(): string {
    return this.#text.join('');
  }
}

const rangesOf = (texts: readonly string[]): AddressRange[] => texts.map((text) => parseRange(text)).filter((range) => range !== undefined);

/** What a network and the routes have in common. */
function common(text: string, routed: readonly AddressRange[]): AddressRange[] {
  const network = parseRange(text);
  if (network === undefined) return [];
  return routed
    .filter((route) => overlap(route, network))
    .map(({ family, first, last }) => ({
      family,
      first: first > network.first ? first : network.first,
      last: last < network.last ? last : network.last,
    }));
}

/** As an element of a set. */
const textOf = (range: AddressRange): string =>
  range.first === range.last ? formatAddress({ family: range.family, value: range.first }) : formatRange(range);
