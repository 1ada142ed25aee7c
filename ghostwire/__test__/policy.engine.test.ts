// The ACL engine, fed with the compiled policy, against the compiled filters and peers: the same decisions on random packets,
// and the same visibility, for every capture that the plane accepted.

import { AclEngine } from 'zqlite';
import test from 'ava';
import { formatPrefix, parseAddress, parsePrefix, type Prefix } from '../src/addresses/ip.js';
import { covers, formatAddress, overlap, rangeOf, type AddressRange } from '../src/addresses/ranges.js';
import { applyCase, type Applied } from '../src/policy/cases.js';
import { compilePolicy } from '../src/policy/compile.js';
import { compileFilters, protocolsOf, type WireFilterRule } from '../src/policy/wire-filters.js';
import { INTERNET } from '../src/policy/reach.js';
import { isExitNode, isExitRoute, subnetRoutes, type TailnetNode } from '../src/policy/tailnet.js';
import { Visibility } from '../src/policy/visibility.js';
import { captures, caseOf } from './support/captures.js';

const all = captures();
const withData = all === undefined ? test.skip : test;
if (all === undefined) process.stderr.write('SKIPPED: ../shared/data/captures is not there, so the engine was compared with no capture\n');

const PACKETS = 150;
const PROTOCOLS = [6, 6, 17, 1, 58, 47, 132];
const PORTS = [0, 22, 22, 53, 80, 443, 3306, 3389, 5432, 8080, 9000, 65_535];

withData('the engine decides as the filters do, and shows the peers that the plane shows', (t) => {
  const random = generator(20_261_123);
  let packets = 0;
  for (const capture of all ?? []) {
    if (capture.code !== 200) continue;
    const world = new World(applyCase(caseOf(capture)));
    for (const node of world.nodes) {
      const seen = world.engineSees(node);
      const shown = world.planeShows(node);
      for (const other of world.nodes) {
        if (other === node) continue;
        t.is(seen.has(other), shown.has(other), `${capture.id}: ${node.name} sees ${other.name}`);
      }
    }
    for (let count = 0; count < PACKETS; count += 1) {
      const protocol = pick(random, PROTOCOLS);
      const port = protocol === 1 || protocol === 58 || protocol === 47 ? 0 : pick(random, PORTS);
      const [from, to] = [pick(random, world.nodes), pick(random, world.nodes)];
      if (from !== to) {
        packets += 1;
        const expected = world.filterAdmits(from, to, protocol, port);
        const what = `${capture.id}: ${from.name} to ${to.name}, ${protocol}/${port}`;
        t.is(world.decide(from, to, protocol, port), expected, what);
      }
      const [source, destination] = [world.sender(random), world.receiver(random)];
      if (source.family !== destination.family) continue;
      packets += 1;
      const what = `${capture.id}: ${formatAddress(source)} to ${formatAddress(destination)}, ${protocol}/${port}`;
      const expected = world.filterAdmitsAddress(source, destination, protocol, port);
      t.is(world.decideAddresses(source, destination, protocol, port), expected, what);
    }
  }
  t.log(`${packets} packets`);
  t.true(packets > 10_000);
});

type Address = Pick<Prefix, 'family' | 'value'>;

/** One capture: the compiled policy in the engine, and its filters beside it. */
class World {
  readonly nodes: readonly TailnetNode[];
  readonly #engine = new AclEngine();
  readonly #filters: ReadonlyMap<TailnetNode, readonly WireFilterRule[]>;
  readonly #visibility: Visibility;

  constructor(applied: Applied) {
    const { tailnet, document, reaches } = applied;
    this.nodes = tailnet.nodes;
    const { rules, subject } = compilePolicy(document);
    this.#engine.setRules([...rules]);
    this.#engine.putPeers(
      tailnet.nodes.map((node, id) => ({
        id,
        addresses: node.addresses.map((address) => formatAddress(address)),
        ...subject({ user: node.user, tags: node.tags, approvedRoutes: node.routes.map(formatPrefix) }),
      })),
    );
    this.#filters = compileFilters(reaches);
    this.#visibility = new Visibility(tailnet, reaches);
  }

  engineSees(node: TailnetNode): Set<TailnetNode> {
    return new Set([...this.#engine.visiblePeers(this.nodes.indexOf(node))].flatMap((id) => this.nodes[id] ?? []));
  }

  planeShows(node: TailnetNode): Set<TailnetNode> {
    const names = new Set(this.#visibility.of(node).map(({ name }) => name));
    return new Set(this.nodes.filter(({ name }) => names.has(name)));
  }

  decide(from: TailnetNode, to: TailnetNode, protocol: number, port: number): boolean {
    return this.#engine.decide({ source: this.nodes.indexOf(from), destination: this.nodes.indexOf(to), protocol, port }).allowed;
  }

  decideAddresses(source: Address, destination: Address, protocol: number, port: number): boolean {
    const question = { source: formatAddress(source), destination: formatAddress(destination), protocol, port };
    return this.#engine.decideAddresses(question).allowed;
  }

  /** An address that packets may come from: a machine's own, or one behind a router. */
  sender(random: () => number): Address {
    return pick(random, this.nodes.flatMap((node) => [...node.addresses, ...subnetRoutes(node).map((route) => within(route, random))]));
  }

  /** An address that packets may go to. */
  receiver(random: () => number): Address {
    const internet = this.nodes.some(isExitNode) ? [parseAddress('8.8.8.8'), parseAddress('2606:4700::1')] : [];
    const choice = [...internet, this.sender(random), this.sender(random)].filter((address) => address !== undefined);
    return pick(random, choice);
  }

  /** Whether a packet from one machine's own address may reach the other, or something behind it. */
  filterAdmits(from: TailnetNode, to: TailnetNode, protocol: number, port: number): boolean {
    return from.addresses.some((source) =>
      [...to.addresses, ...carried(to)].some((target) => this.#admits(to, rangeOf(source), asRange(target), protocol, port)),
    );
  }

  /** An address that is no machine's own is reached through any router that carries it. */
  filterAdmitsAddress(source: Address, destination: Address, protocol: number, port: number): boolean {
    const [from, to] = [point(source), point(destination)];
    const owner = this.#owner(destination);
    const ways = owner === undefined ? this.nodes.filter((node) => carried(node).some((route) => covers(asRange(route), to))) : [owner];
    return ways.some((node) => this.#admits(node, from, to, protocol, port));
  }

  #owner({ family, value }: Address): TailnetNode | undefined {
    return this.nodes.find(({ addresses }) => addresses.some((own) => own.family === family && own.value === value));
  }

  /** Whether a machine's filter lets some packet of these in. */
  #admits(node: TailnetNode, source: AddressRange, target: AddressRange, protocol: number, port: number): boolean {
    if (source.family !== target.family) return false;
    return (this.#filters.get(node) ?? []).some(
      (rule) =>
        protocolsOf(rule).includes(protocol) &&
        rule.SrcIPs.some((text) => parse(text).some((range) => overlap(range, source))) &&
        (rule.DstPorts ?? []).some(
          ({ IP, Ports }) =>
            parse(IP).some((range) => overlap(range, target)) &&
            // Pings have no port; who may use some port may ping.
            (protocol === 1 || protocol === 58 || (Ports.First <= port && port <= Ports.Last)),
        ),
    );
  }
}

const point = ({ family, value }: Address): AddressRange => ({ family, first: value, last: value });

const asRange = (item: Prefix | AddressRange): AddressRange => ('first' in item ? item : rangeOf(item));

/** What lies behind a machine: its subnets, and the internet for an exit node. */
const carried = (node: TailnetNode): (Prefix | AddressRange)[] => [
  ...subnetRoutes(node),
  ...INTERNET.filter(({ family }) => node.routes.some((route) => isExitRoute(route) && route.family === family)),
];

/** A source or destination of a filter: '*', an address, a prefix or a range. */
function parse(text: string): AddressRange[] {
  if (text === '*') return [{ family: 4, first: 0n, last: (1n << 32n) - 1n }, { family: 6, first: 0n, last: (1n << 128n) - 1n }];
  const prefix = parsePrefix(text);
  if (prefix !== undefined) return [rangeOf(prefix)];
  const [first, last = first] = text.split('-').map((part) => parseAddress(part));
  return first === undefined || last === undefined ? [] : [{ family: first.family, first: first.value, last: last.value }];
}

function within(prefix: Prefix, random: () => number): Address {
  const { first, last } = rangeOf(prefix);
  const size = last - first + 1n;
  return { family: prefix.family, value: first + (BigInt(Math.floor(random() * 2 ** 48)) % size) };
}

function pick<T>(random: () => number, items: readonly T[]): T {
  const item = items[Math.floor(random() * items.length)];
  if (item === undefined) throw new Error('nothing to pick from');
  return item;
}

/** mulberry32 */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
