// From a policy to what the ACL engine understands: rules over labels, and labels, owner and routes for each peer.
//
// The engine decides what wire-filters.ts and visibility.ts describe; policy.engine.test.ts holds the two to each other.

import { CidrTable, type AclPeer, type AclRule } from 'zqlite';
import { formatPrefix, parsePrefix, type Family } from '../addresses/ip.js';
import { formatRange, prefixesOf, prefixText } from '../addresses/ranges.js';
import { readPolicy, type PolicyDocument } from './document.js';
import type { Grant } from './grants.js';
import { INTERNET } from './reach.js';
import { approvedRoutes } from './routes.js';
import { networkText, type Selector } from './selectors.js';
import { DEFAULT_PROTOCOLS, isAll, type Service } from './services.js';

/** What rules may know of a peer. */
export interface Subject {
  readonly user: string | null;
  readonly tags: readonly string[];
  /** Prefixes as text. */
  readonly approvedRoutes?: readonly string[];
}

export interface CompiledPolicy {
  readonly rules: readonly AclRule[];
  /** Line in the policy's text for a rule's id; rules that no line stands for are not in it. */
  readonly lines: ReadonlyMap<number, number>;
  /** The labels by which rules know a peer. */
  labels(peer: Subject): string[];
  /** All that the engine is to know of a peer but its id and addresses. */
  subject(peer: Subject): Pick<AclPeer, 'labels' | 'owner' | 'routes'>;
  /** Whether tagOwners lets this user give a peer this tag. */
  mayTag(user: string, tag: string): boolean;
  /** Prefixes that this peer gets an address of, by the first `ipPool` that is of it; undefined when none is. */
  addressPools(peer: Subject): readonly string[] | undefined;
  /** Of the routes that a peer offers, those that autoApprovers approves. */
  approve(offer: { readonly user: string | null; readonly tags: readonly string[]; readonly advertisedRoutes: readonly string[] }): string[];
}

/**
 * Reserved by IANA, so that no packet has it. A rule of this protocol allows nothing, but whom it joins see each other:
 * routers see those who are reached from behind them, and callers of an application see it.
 */
const VISIBILITY_ONLY = 255;

export const isVisibilityOnly = ({ protocols }: Pick<AclRule, 'protocols'>): boolean => protocols?.length === 1 && protocols[0] === VISIBILITY_ONLY;

const TCP_AND_UDP = [6, 17];
const ICMP = [1, 58];

type Draft = Omit<AclRule, 'id' | 'priority' | 'action'>;

export function compilePolicy(document: PolicyDocument): CompiledPolicy {
  const compiler = new Compiler();
  if (document.grants === undefined) compiler.add({ sources: ['*'], destinations: ['*'], protocols: [...DEFAULT_PROTOCOLS] });
  for (const grant of gathered(document.grants ?? [])) compiler.grant(grant);
  const groupsOf = groupsByMember(document);
  const { rules, lines } = compiler;
  // A machine that has no address yet is not meant by one.
  const pools = document.nodeAttrs.flatMap(({ targets, pools: prefixes }) =>
    prefixes.length === 0 ? [] : [{ prefixes: prefixes.map(formatPrefix), targets: targets.filter(({ kind }) => kind !== 'network').flatMap(names) }],
  );
  const labels = ({ user, tags, approvedRoutes: routes = [] }: Subject): string[] => {
    const carried = compiler.carrying(routes, tags);
    // A tagged peer acts for its tags alone, whoever owns it.
    if (tags.length > 0) return [TAGGED, ...tags, ...carried];
    if (user === null) return carried;
    return [MEMBER, `user:${user}`, ofDomain(user.slice(user.lastIndexOf('@') + 1)), ...(groupsOf.get(user) ?? []), ...carried];
  };
  return {
    rules,
    lines,
    labels,
    subject: (peer) => ({
      labels: labels(peer),
      ...(peer.user === null || peer.tags.length > 0 ? {} : { owner: peer.user }),
      routes: engineRoutes(peer.approvedRoutes ?? []),
    }),
    addressPools: (peer) => {
      if (pools.length === 0) return undefined;
      const own = new Set(['*', ...labels(peer)]);
      return pools.find(({ targets }) => targets.some((target) => own.has(target)))?.prefixes;
    },
    mayTag: (user, tag) => mayTag(document, groupsOf.get(user) ?? [], user, tag),
    approve: ({ user, tags, advertisedRoutes }) => {
      const offered = advertisedRoutes.flatMap((route) => parsePrefix(route) ?? []);
      return approvedRoutes(document, { user: tags.length > 0 ? null : user, tags, offered, approved: [] }).map(formatPrefix);
    },
  };
}

// Names of groups in policies have no second colon, so these are nobody else's.
const MEMBER = 'group:autogroup:member';
const TAGGED = 'group:autogroup:tagged';
const ofDomain = (domain: string): string => `group:domain:${domain}`;

/** A default route leads to the internet only: an exit node is not a router for other people's subnets. */
function engineRoutes(routes: readonly string[]): string[] {
  const subnets = routes.filter((route) => !route.endsWith('/0'));
  return subnets.length === routes.length ? subnets : [...subnets, ...INTERNET_PREFIXES];
}

const INTERNET_PREFIXES: readonly string[] = INTERNET.flatMap(prefixesOf).map(formatPrefix);

/** Who carries a subnet that the policy names as a source or, with `via`, as a destination. */
interface Carrier {
  readonly place: number;
  /** That a carrier must bear. */
  readonly tag: string | undefined;
  readonly label: string;
}

class Compiler {
  readonly rules: AclRule[] = [];
  readonly lines = new Map<number, number>();
  /** By the subnet and the tag. */
  readonly #carriers = new Map<string, Carrier>();
  /** Places in `#subnets`, by prefix. */
  readonly #table = new CidrTable();
  /** Those who carry one prefix. */
  readonly #subnets: Carrier[][] = [];

  add(draft: Draft, line?: number): void {
    const id = this.rules.length + 1;
    this.rules.push({ id, priority: 0, action: 'allow', ...draft });
    if (line !== undefined) this.lines.set(id, line);
  }

  grant(grant: Grant): void {
    const { sources, destinations, services, capabilities, via, line } = grant;
    if (sources.length === 0 || destinations.length === 0) return;
    const others = destinations.filter((destination) => !isSelf(destination) && (via.length === 0 || isNetwork(destination)));
    if (via.length > 0) for (const other of others) this.#steer(sources, other, services, via, line);
    else if (others.length > 0) {
      for (const ends of byFamily(sources, others)) {
        for (const service of services) this.#service(ends, service, line);
        if (capabilities !== undefined) this.#see(ends.sources, ends.destinations, line);
      }
      this.#see(sources.flatMap((source) => this.#carriersOf(source, [undefined])), others.flatMap(names), line);
    }
    if (destinations.length === 0 || !destinations.some(isSelf)) return;
    const own = { sources: sources.flatMap(names), destinations: [MEMBER], sameOwner: true };
    for (const service of services) this.#service(own, service, line);
    if (capabilities !== undefined) this.add({ ...own, protocols: [VISIBILITY_ONLY] }, line);
  }

  /** The labels of a peer that carries these subnets, or parts of them, or more. */
  carrying(routes: readonly string[], tags: readonly string[]): string[] {
    if (routes.length === 0 || this.#carriers.size === 0) return [];
    const found = new Set<Carrier>();
    for (const route of routes) {
      if (route.endsWith('/0')) continue;
      for (const { value } of [...this.#table.covering(route), ...this.#table.covered(route)])
        for (const carrier of this.#subnets[value] ?? []) if (carrier.tag === undefined || tags.includes(carrier.tag)) found.add(carrier);
    }
    return [...found].sort((a, b) => a.place - b.place).map(({ label }) => label);
  }

  /** Only through routers with one of the tags that carry some of the destination. */
  #steer(sources: readonly Selector[], destination: Selector, services: readonly Service[], via: readonly string[], line: number): void {
    const carriers = this.#carriersOf(destination, via);
    const through = isInternet(destination) ? [...via] : carriers;
    for (const ends of byFamily(sources, [destination]))
      for (const service of services) this.#service({ ...ends, through }, service, line);
    this.#see(sources.flatMap(names), carriers, line);
  }

  /** No packet, but they know of each other. */
  #see(sources: readonly string[], destinations: readonly string[], line: number): void {
    if (sources.length > 0 && destinations.length > 0) this.add({ sources, destinations, protocols: [VISIBILITY_ONLY] }, line);
  }

  #service(draft: Draft, { protocol, ports }: Service, line: number): void {
    if (ports.some(isAll)) return this.add({ ...draft, protocols: protocol === undefined ? [...DEFAULT_PROTOCOLS] : [protocol] }, line);
    const ranges = ports.map(({ first, last }) => [first, last] as const);
    this.add({ ...draft, protocols: protocol === undefined ? TCP_AND_UDP : [protocol], ports: ranges }, line);
    // Without a protocol, who may use some port may also ping.
    if (protocol === undefined) this.add({ ...draft, protocols: ICMP }, line);
  }

  #carriersOf(selector: Selector, tags: readonly (string | undefined)[]): string[] {
    if (selector.kind !== 'network') return [];
    return tags.map((tag) => {
      const key = `${networkText(selector.prefix)}${tag === undefined ? '' : ` ${tag}`}`;
      const known = this.#carriers.get(key);
      if (known !== undefined) return known.label;
      const carrier = { place: this.#carriers.size, tag, label: `group:carries:${this.#carriers.size}` };
      this.#carriers.set(key, carrier);
      const prefix = prefixText(selector.prefix);
      const place = this.#table.get(prefix);
      if (place === undefined) this.#table.insert(prefix, this.#subnets.push([carrier]) - 1);
      else this.#subnets[place]?.push(carrier);
      return carrier.label;
    });
  }
}

const isSelf = (selector: Selector): boolean => selector.kind === 'autogroup' && selector.autogroup === 'self';
const isInternet = (selector: Selector): boolean => selector.kind === 'autogroup' && selector.autogroup === 'internet';
const isNetwork = (selector: Selector): boolean => selector.kind === 'network' || isInternet(selector);

/** A selector as the engine knows it. */
function names(selector: Selector): string[] {
  if (selector.kind === 'any') return ['*'];
  if (selector.kind === 'network') return [networkText(selector.prefix)];
  if (selector.kind === 'user') return [`user:${selector.text}`];
  if (selector.kind === 'domain') return [ofDomain(selector.domain)];
  if (selector.kind !== 'autogroup') return [selector.text];
  if (isInternet(selector)) return INTERNET.map(formatRange);
  if (selector.autogroup === 'danger-all') return ['*'];
  return [`group:${selector.text === 'autogroup:members' ? 'autogroup:member' : selector.text}`];
}

/** An entry of acls is a grant for each destination; those with the same ports are one rule. */
function gathered(grants: readonly Grant[]): Grant[] {
  const merged: Grant[] = [];
  const places = new Map<readonly Selector[], Map<string, number>>();
  for (const grant of grants) {
    const [service] = grant.services;
    const key = `${service?.protocol ?? ''} ${service?.ports.map(({ first, last }) => `${first}-${last}`).join() ?? ''}`;
    const entry = places.get(grant.sources) ?? new Map<string, number>();
    places.set(grant.sources, entry);
    const place = entry.get(key);
    const before = place === undefined ? undefined : merged[place];
    if (before === undefined) {
      entry.set(key, merged.length);
      merged.push({ ...grant, destinations: [...grant.destinations] });
    } else (before.destinations as Selector[]).push(...grant.destinations);
  }
  return merged;
}

/** Packets are of one family: an IPv4 address is no source for an IPv6 one, though one peer may have both. */
function byFamily(sources: readonly Selector[], destinations: readonly Selector[]): Draft[] {
  if (![...sources, ...destinations].some(({ kind }) => kind === 'network'))
    return [{ sources: sources.flatMap(names), destinations: destinations.flatMap(names) }];
  return ([4, 6] as const)
    .map((family): Draft => ({ sources: ofFamily(sources, family), destinations: ofFamily(destinations, family), family }))
    .filter((ends) => ends.sources.length > 0 && ends.destinations.length > 0);
}

/** Labels, and what of the rest is of the family. */
function ofFamily(selectors: readonly Selector[], family: Family): string[] {
  return selectors.flatMap((selector) => {
    if (selector.kind === 'network') return selector.prefix.family === family ? names(selector) : [];
    if (isInternet(selector)) return INTERNET.filter((range) => range.family === family).map(formatRange);
    return names(selector).map((name) => (name === '*' ? EVERYTHING[family] : name));
  });
}

const EVERYTHING: Readonly<Record<Family, string>> = { 4: '0.0.0.0/0', 6: '::/0' };

function groupsByMember({ groups }: PolicyDocument): Map<string, string[]> {
  const groupsOf = new Map<string, string[]>();
  for (const [group, members] of groups) {
    for (const member of members) {
      const own = groupsOf.get(member);
      if (own === undefined) groupsOf.set(member, [group]);
      else own.push(group);
    }
  }
  return groupsOf;
}

/** Owners are users, groups, autogroups, or tags whose owners count as well. */
function mayTag({ tagOwners }: PolicyDocument, groups: readonly string[], user: string, tag: string): boolean {
  const pending = new Set([tag]);
  // A set gives what is added while it is gone through, and nothing twice: cycles end.
  for (const next of pending) {
    for (const owner of tagOwners.get(next) ?? []) {
      if (owner === user || /^autogroup:members?$/.test(owner) || groups.includes(owner)) return true;
      if (owner.startsWith('tag:')) pending.add(owner);
    }
  }
  return false;
}

/** No policy yet: everybody may reach everybody, as in a new tailnet. */
export const ALLOW_ALL: CompiledPolicy = compilePolicy(readPolicy('{}'));

/** For a stored policy that cannot be read: nobody may reach anybody until an admin writes another one. */
export const DENY_ALL: CompiledPolicy = compilePolicy(readPolicy('{"acls": []}'));
