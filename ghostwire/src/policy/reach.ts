// What a policy's grants mean in one tailnet: for each grant, who may send, and to what on which machine.
//
// Filters and visibility are two views of this.

import type { Prefix } from '../addresses/ip.js';
import { AddressSet, covers, overlap, parseRange, prefixText, rangeOf, type AddressRange } from '../addresses/ranges.js';
import type { Grant } from './grants.js';
import { networkText, type Selector } from './selectors.js';
import { isExitNode, isExitRoute, subnetRoutes, type Tailnet, type TailnetNode } from './tailnet.js';

/** Addresses as a filter lists them, and as a set. */
export interface Addresses {
  readonly texts: readonly string[];
  /** The texts as one. */
  readonly key: string;
  readonly set: AddressSet;
}

/** A part of a grant's destinations that lies on one machine. */
export interface Target {
  readonly node: TailnetNode;
  /** As a filter lists them. */
  readonly texts: readonly string[];
  /** The machine's own addresses among them. */
  readonly own: readonly Prefix[];
  /** Its routes that have addresses among them. */
  readonly routes: readonly Prefix[];
  /** As a grant of capabilities lists them. */
  readonly granted: readonly string[];
}

/** A grant in a tailnet. One with autogroup:self is one reach for each owner. */
export interface Reach {
  readonly grant: Grant;
  readonly sources: Addresses;
  /** Machines whose own addresses are sources. */
  readonly senders: readonly TailnetNode[];
  /** Machines that carry subnets which are sources, and those subnets. */
  readonly carriers: readonly { readonly node: TailnetNode; readonly routes: readonly Prefix[] }[];
  /** All destinations, wherever they are. */
  readonly destinations: Addresses;
  /** By destination, in the policy's order. */
  readonly targets: readonly Target[];
}

type From = Pick<Reach, 'sources' | 'senders' | 'carriers'>;

const ALL: readonly AddressRange[] = ['0.0.0.0-255.255.255.255', '::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'].map(parsed);

/** What `*` stands for: the addresses of tailnets, without those that ChromeOS uses for itself. */
const TAILNET = ['100.64.0.0-100.115.91.255', '100.115.94.0-100.127.255.255', 'fd7a:115c:a1e0::-fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff'];
const TAILNET_RANGES: readonly AddressRange[] = TAILNET.map(parsed);
const TAILNET_TEXTS = [...TAILNET.slice(0, 2), 'fd7a:115c:a1e0::/48'];

/** What autogroup:internet stands for: what is neither private, link-local nor a tailnet's. */
const INTERNET_TEXTS = [
  '0.0.0.0-9.255.255.255',
  '11.0.0.0-100.63.255.255',
  '100.128.0.0-169.253.255.255',
  '169.255.0.0-172.15.255.255',
  '172.32.0.0-192.167.255.255',
  '192.169.0.0-255.255.255.255',
  '2000::-3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
];
export const INTERNET: readonly AddressRange[] = INTERNET_TEXTS.map(parsed);

function parsed(text: string): AddressRange {
  const range = parseRange(text);
  if (range === undefined) throw new Error(`not a range: ${text}`);
  return range;
}

export function reachOf(grants: readonly Grant[], tailnet: Tailnet): Reach[] {
  const resolver = new Resolver(tailnet);
  return grants.flatMap((grant) => resolver.resolve(grant));
}

class Resolver {
  readonly #tailnet: Tailnet;
  /** `*` as a source includes what routers carry. */
  readonly #carried: readonly Prefix[];
  /** The destinations of an entry of acls are grants with the same list of sources. */
  readonly #sources = new Map<readonly Selector[], From>();

  constructor(tailnet: Tailnet) {
    this.#tailnet = tailnet;
    this.#carried = tailnet.nodes.flatMap(subnetRoutes);
  }

  resolve(grant: Grant): Reach[] {
    if (grant.sources.length === 0 || grant.destinations.length === 0) return [];
    if (grant.via.length > 0) return grant.services.length === 0 ? [] : [this.#via(grant)];
    const self = grant.destinations.some(isSelf);
    const others = grant.destinations.filter((destination) => !isSelf(destination));
    const reaches: Reach[] = [];
    if (others.length > 0) reaches.push(this.#reach(grant, others));
    if (self) reaches.push(...this.#self(grant));
    return reaches;
  }

  #reach(grant: Grant, destinations: readonly Selector[]): Reach {
    return {
      ...this.#from(grant.sources),
      grant,
      destinations: this.#addresses(destinations, true),
      targets: destinations.flatMap((destination) => this.#targets(destination)),
    };
  }

  /** Who sends: machines, and routers for what they carry. */
  #from(selectors: readonly Selector[]): From {
    const known = this.#sources.get(selectors);
    if (known !== undefined) return known;
    const sources = this.#addresses(selectors, false);
    const senders = new Set<TailnetNode>();
    const carriers = new Map<TailnetNode, Prefix[]>();
    for (const selector of selectors) {
      const nodes = this.#tailnet.identified(selector);
      if (nodes !== undefined) {
        for (const node of nodes) senders.add(node);
        continue;
      }
      for (const range of this.#ranges(selector)) {
        for (const node of this.#tailnet.within(range)) senders.add(node);
        for (const node of this.#tailnet.carrying(range)) carriers.set(node, []);
      }
    }
    for (const [node, routes] of carriers) routes.push(...subnetRoutes(node).filter((route) => sources.set.overlaps(rangeOf(route))));
    const from = { sources, senders: [...senders], carriers: [...carriers].map(([node, routes]) => ({ node, routes })) };
    this.#sources.set(selectors, from);
    return from;
  }

  /** Only between machines of one owner. */
  #self(grant: Grant): Reach[] {
    const owners = this.#owners(grant.sources);
    return owners.flatMap((owner) => {
      const nodes = this.#tailnet.ownedBy(owner);
      if (nodes.length === 0) return [];
      const sources = addressesOf(nodes);
      const targets = nodes.map((node) => ownTarget(node, node.addresses));
      return [{ grant, sources, senders: nodes, carriers: [], destinations: sources, targets }];
    });
  }

  /** Logins of the people that sources of autogroup:self stand for. */
  #owners(selectors: readonly Selector[]): string[] {
    const owners = new Set<string>();
    for (const selector of selectors) {
      const people = selector.kind === 'any' ? this.#tailnet.nodes.map(({ user }) => user) : (this.#tailnet.people(selector) ?? []);
      for (const login of people) if (login !== null) owners.add(login);
    }
    return [...owners];
  }

  /** Only on routers with one of the tags, for what they carry; the filter names the destination as the policy does. */
  #via(grant: Grant): Reach {
    const routers = new Set(grant.via.flatMap((tag) => this.#tailnet.tagged(tag)));
    const targets = grant.destinations.flatMap((destination) =>
      [...routers].flatMap((node) => {
        const ranges = this.#ranges(destination);
        const routes = isInternet(destination)
          ? node.routes.filter(isExitRoute)
          : subnetRoutes(node).filter((route) => ranges.some((range) => overlap(range, rangeOf(route))));
        return routes.length === 0 ? [] : [{ node, texts: this.#texts(destination), own: [], routes, granted: [] }];
      }),
    );
    return { ...this.#from(grant.sources), grant, destinations: this.#addresses(grant.destinations, true), targets };
  }

  #targets(destination: Selector): Target[] {
    const nodes = this.#tailnet.identified(destination);
    if (nodes !== undefined) return nodes.map((node) => ownTarget(node, node.addresses));
    if (destination.kind === 'any')
      return this.#tailnet.nodes.map((node) => ({ ...ownTarget(node, node.addresses), texts: ['*'], routes: node.routes }));
    const ranges = this.#ranges(destination);
    const texts = this.#texts(destination);
    const within = ranges.flatMap((range) => this.#tailnet.within(range));
    const carrying = ranges.flatMap((range) => this.#tailnet.carrying(range));
    const exits = ranges.every((range) => INTERNET.some((part) => covers(part, range))) ? this.#tailnet.nodes.filter(isExitNode) : [];
    const internet = isInternet(destination);
    return [...new Set([...within, ...carrying, ...exits])].map((node) => {
      const own = node.addresses.filter((address) => ranges.some((range) => covers(range, rangeOf(address))));
      const routes = node.routes.filter((route) =>
        isExitRoute(route) ? internet : ranges.some((range) => overlap(range, rangeOf(route))),
      );
      const whole = routes.length > 0 && destination.kind === 'network' ? [prefixText(destination.prefix)] : [];
      return { node, texts, own, routes, granted: [...own.map(prefixText), ...whole] };
    });
  }

  /** A selector of addresses. */
  #ranges(selector: Selector): readonly AddressRange[] {
    if (selector.kind === 'network') return [rangeOf(selector.prefix)];
    if (isInternet(selector)) return INTERNET;
    if (selector.kind === 'autogroup' && selector.autogroup === 'danger-all') return ALL;
    if (selector.kind === 'any') return [...TAILNET_RANGES, ...this.#carried.map(rangeOf)];
    return (this.#tailnet.identified(selector) ?? []).flatMap(({ addresses }) => addresses.map(rangeOf));
  }

  /** A selector as filters list it. */
  #texts(selector: Selector): readonly string[] {
    if (selector.kind === 'network') return [networkText(selector.prefix)];
    if (isInternet(selector)) return INTERNET_TEXTS;
    if (selector.kind === 'autogroup' && selector.autogroup === 'danger-all') return ['*'];
    if (selector.kind === 'any') return [...TAILNET_TEXTS, ...this.#carried.map(prefixText)];
    return (this.#tailnet.identified(selector) ?? []).flatMap(({ addresses }) => addresses.map(networkText));
  }

  /** Sources or destinations of a grant, each listed once, in the order of their text. */
  #addresses(selectors: readonly Selector[], everything: boolean): Addresses {
    const texts = new Set(selectors.flatMap((selector) => this.#texts(selector)));
    const listed = texts.has('*') ? ['*'] : [...texts].sort();
    return {
      texts: listed,
      key: listed.join(),
      // As a destination `*` is more than the tailnet.
      set: new AddressSet(selectors.flatMap((selector) => (everything && selector.kind === 'any' ? ALL : this.#ranges(selector)))),
    };
  }
}

const isSelf = (selector: Selector): boolean => selector.kind === 'autogroup' && selector.autogroup === 'self';
const isInternet = (selector: Selector): boolean => selector.kind === 'autogroup' && selector.autogroup === 'internet';

function ownTarget(node: TailnetNode, own: readonly Prefix[]): Target {
  return { node, texts: own.map(networkText), own, routes: [], granted: own.map(prefixText) };
}

function addressesOf(nodes: readonly TailnetNode[]): Addresses {
  const prefixes = nodes.flatMap(({ addresses }) => addresses);
  const texts = prefixes.map(networkText).sort();
  return { texts, key: texts.join(), set: new AddressSet(prefixes.map(rangeOf)) };
}
