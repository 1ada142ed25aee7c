// What the agent believes and what it plans: hostile coordinators and peers, and rules against the engine's own answers.

import { randomBytes } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import type { AclAddressQuery, AclFilterRule } from 'zqlite';
import { parseAddress } from '../src/addresses/ip.js';
import { answer } from '../src/agent/dns.js';
import { MAX_PEERS, Netmap, type MeshPeer, type MeshSelf } from '../src/agent/netmap.js';
import { ordered, Paths } from '../src/agent/paths.js';
import { plan, type Told } from '../src/agent/plan.js';
import { closed, ruleset } from '../src/agent/ruleset.js';
import { unit } from '../src/agent/service.js';
import { wgQuick } from '../src/agent/wg-quick.js';
import { differences, type LivePeer } from '../src/agent/wireguard.js';
import type { PacketFilter, PeerRecord, SelfRecord } from '../src/client.js';
import { parseRange } from '../src/addresses/ranges.js';
import type { FilterRule } from '../src/topology/filter.js';
import { startNetwork } from './support/network.js';

const key = (): string => randomBytes(32).toString('base64');
const POOLS = ['100.64.0.0/10', 'fd7a:115c:a1e0::/48'] as const;

function record(number: number, more: object = {}): PeerRecord {
  return {
    id: `p_${number}`,
    name: `host-${number}`,
    user: null,
    tags: [],
    addresses: [`100.64.${number >> 8}.${number & 255}`, `fd7a:115c:a1e0::${number.toString(16)}`],
    wireguardKey: key(),
    endpoints: [`203.0.113.${(number % 250) + 1}:51820`],
    routes: [],
    labels: [],
    ...more,
  };
}
const self = (more: object = {}): SelfRecord => ({
  ...record(1),
  domain: 'mesh.internal',
  network: [...POOLS],
  advertisedRoutes: [],
  approvedRoutes: [],
  ...more,
});

function netmap(...peers: PeerRecord[]): Netmap {
  const map = new Netmap();
  map.apply({ self: self(), packetFilter: told({ action: 'allow', sources: ['*'], destinations: ['self'] }), changed: peers, removed: [] });
  return map;
}
const told = (...rules: object[]): PacketFilter => ({ digest: '0'.repeat(64), rules });
/** What a netmap says, as a plan takes it. */
const says = (map: Netmap): Told => ({ self: map.self as MeshSelf, filter: map.filter, peers: map.peers.values() });
const HOST = { interface: 'gw0', onLink: ['192.168.1.0/24'], servers: ['198.51.100.7'], now: 0 };

test('records that no honest coordinator sends are refused one by one, and the last good ones stay', (t) => {
  const map = netmap(record(2), record(3));
  const good = map.peers.get('p_2');
  const hostile: [string, object][] = [
    ['addresses outside of the pools', { addresses: ['192.168.1.1', 'fd7a:115c:a1e0::2'] }],
    ['an IPv6 address outside of the pools', { addresses: ['100.64.0.2', '2001:db8::1'] }],
    ['families exchanged', { addresses: ['fd7a:115c:a1e0::2', '100.64.0.2'] }],
    ['one address', { addresses: ['100.64.0.2'] }],
    ['an address too many', { addresses: ['100.64.0.2', 'fd7a:115c:a1e0::2', '192.168.1.1'] }],
    ['an object for a list', { endpoints: { 0: '203.0.113.1:51820', length: 1 } }],
    ['a number for a user', { user: 1 }],
    ['a name with control characters', { name: 'web\u001b[2J' }],
    ['a name with a dot', { name: 'web.example' }],
    ['an option for a name', { name: '--config' }],
    ['a key that is none', { wireguardKey: 'x'.repeat(44) }],
    ['no key', { wireguardKey: undefined }],
    ['an endpoint with more in it', { endpoints: ['203.0.113.1:51820\nPostUp = rm'] }],
    ['a host name for an endpoint', { endpoints: ['evil.example:51820'] }],
    ['a route with host bits', { routes: ['10.0.0.1/8'] }],
    ['a label with a line break', { labels: ['tag:a\n}'] }],
    ['labels without end', { labels: Array.from({ length: 2_000 }, (_, index) => `tag:${index}`) }],
    ['a user with an escape', { user: 'a\u0007@b' }],
    ['an id with a path in it', { id: '../../etc' }],
  ];
  for (const [what, more] of hostile) {
    const refused = map.apply({ changed: [record(2, more)], removed: [] });
    t.is(refused.length, 1, what);
    t.notRegex(JSON.stringify(refused[0]), /\p{Cc}/u, what);
    t.is(map.peers.get('p_2'), good, what);
  }
  t.is(map.peers.size, 2);
  // The others of the same message count, and what goes always goes.
  const refused = map.apply({ changed: [record(2, { name: 'NO' }), record(4)], removed: [record(3)] });
  t.is(refused.length, 1);
  t.deepEqual([...map.peers.keys()], ['p_2', 'p_4']);
});

test('what a coordinator says of this host is refused when it takes over the host', (t) => {
  for (const more of [
    { network: ['0.0.0.0/0', POOLS[1]] },
    { network: ['127.0.0.0/8', POOLS[1]] },
    { network: [POOLS[0], '::/0'] },
    { network: [POOLS[0], 'fe80::/16'] },
    { network: [...POOLS, POOLS[1]] },
    { network: [POOLS[0]] },
    { domain: 'a b' },
    { domain: '\u001b' },
    { addresses: ['10.0.0.1', 'fd7a:115c:a1e0::1'] },
    { approvedRoutes: ['10.0.0.1/8'] },
    { approvedRoutes: undefined },
  ]) {
    const map = netmap();
    const before = map.self;
    t.is(map.apply({ self: self(more), changed: [], removed: [] }).length, 1, JSON.stringify(more));
    t.is(map.self, before);
  }
  // A network that was joined cannot become another one, not even after a restart.
  const map = new Netmap(POOLS);
  t.is(map.apply({ self: self({ network: ['10.0.0.0/8', POOLS[1]] }), changed: [], removed: [] }).length, 1);
  t.is(map.self, undefined);
});

test('a packet filter that is none is refused, and the last good one stays', (t) => {
  const all = { action: 'allow', sources: ['*'], destinations: ['self'] };
  for (const rule of [
    { ...all, sources: ['*; flush ruleset'] },
    { ...all, sources: ['tag:a" accept'] },
    { ...all, destinations: ['everything'] },
    { ...all, ports: [[9, 1]] },
    { ...all, ports: [[1, 2, 3]] },
    { ...all, ports: [[1]] },
    { ...all, sameOwner: false },
    { ...all, family: 5 },
    { ...all, sources: undefined },
    { ...all, action: 'accept' },
    { ...all, protocols: [256] },
    null,
  ]) {
    const map = netmap();
    const before = map.filter;
    t.is(before.length, 1);
    t.is(map.apply({ packetFilter: { digest: '0'.repeat(64), rules: [all, rule] }, changed: [], removed: [] }).length, 1, JSON.stringify(rule));
    t.is(map.filter, before);
  }
  const many = Array.from({ length: 10_001 }, () => all);
  t.is(netmap().apply({ packetFilter: told(...many), changed: [], removed: [] }).length, 1);
  // None is told, or none was ever right: nothing is let in.
  const map = netmap();
  t.deepEqual(map.apply({ packetFilter: null, changed: [], removed: [] }), []);
  t.deepEqual(map.filter, []);
  t.false(accepts(plan(says(map), { acceptRoutes: false }, HOST).ruleset, '100.64.0.2', '100.64.0.1', 6, 80));
});

test('ten thousand peers are not taken', (t) => {
  const map = netmap();
  const refused = map.apply({ changed: Array.from({ length: 10_000 }, (_, index) => record(index + 2)), removed: [] });
  t.is(map.peers.size, MAX_PEERS);
  t.is(refused.length, 10_000 - MAX_PEERS);
  t.regex(refused[0]?.reason ?? '', /more than 4096 peers/);
});

test('endpoints through the tunnel, to this machine or to many are left out', (t) => {
  const map = netmap(record(2, { endpoints: ['100.64.0.9:1', '127.0.0.1:1', '224.0.0.1:1', '0.0.0.0:1', '[::1]:1', '[fe80::1]:1', '[ff02::1]:1', '[fd7a:115c:a1e0::9]:1', '192.0.2.1:1', '[2001:db8::1]:1'] }));
  t.deepEqual(map.peers.get('p_2')?.endpoints, ['192.0.2.1:1', '[2001:db8::1]:1']);
});

test('routes need consent, and never take over what the host has', (t) => {
  const peers = [
    record(2, { routes: ['10.0.0.0/8', '0.0.0.0/0', '::/0'] }),
    record(3, { routes: ['10.0.0.0/8', '192.168.1.0/25', '192.168.0.0/16', '198.51.100.0/24', '100.64.0.0/24', '0.0.0.0/1', '128.0.0.0/1', '2000::/3', '127.0.0.0/8', '2001:db8::/32'] }),
  ];
  const map = netmap(...peers);
  const make = (consent: Parameters<typeof plan>[1]) => plan(says(map), consent, HOST);
  const ips = (made: ReturnType<typeof plan>, index: number) => made.peers[index]?.allowedIps.slice(2);

  const none = make({ acceptRoutes: false });
  t.deepEqual(none.peers.map(({ allowedIps }) => allowedIps.length), [2, 2]);
  t.deepEqual(none.routes, [...POOLS]);
  t.false(none.exit);

  const routes = make({ acceptRoutes: true });
  t.deepEqual(ips(routes, 0), ['10.0.0.0/8']);
  t.deepEqual(ips(routes, 1), ['2001:db8::/32']);
  t.false(routes.exit);
  t.is(routes.refused.length, 9);
  for (const [route, reason] of [['192.168.1.0/25', /is on itself/], ['198.51.100.0/24', /coordinator/], ['100.64.0.0/24', /own/], ['0.0.0.0/1', /exit/], ['10.0.0.0/8', /goes through host-2/]] as const)
    t.true(routes.refused.some((one) => one.reason.includes(route) && reason.test(one.reason)), route);

  const exit = make({ acceptRoutes: false, exitNode: 'host-2' });
  t.true(exit.exit);
  t.deepEqual(ips(exit, 0), ['0.0.0.0/0', '::/0']);
  // One who is asked for and is none: nothing goes another way instead.
  const missing = make({ acceptRoutes: false, exitNode: 'host-3' });
  t.true(missing.exit);
  t.is(missing.refused.length, 1);
});

test('of two peers who claim the same, one has it', (t) => {
  const [two, three] = [record(2), record(3)];
  const map = netmap(two, { ...three, wireguardKey: two['wireguardKey'] }, record(4, { addresses: ['100.64.0.2', 'fd7a:115c:a1e0::4'] }), record(5, { name: 'host-1' }), record(6, { addresses: ['100.64.0.1', 'fd7a:115c:a1e0::6'] }));
  const made = plan(says(map), { acceptRoutes: false }, HOST);
  t.deepEqual(made.peers.map(({ id }) => id), ['p_2', 'p_5']);
  t.deepEqual([...made.names.keys()], ['host-1', 'host-2']);
  t.is(made.refused.length, 4);
});

test('a plan is the same whatever the order of what led to it', (t) => {
  const peers = Array.from({ length: 20 }, (_, index) => record(index + 2, { routes: ['10.0.0.0/8'] }));
  const map = netmap(...peers);
  const make = (all: Iterable<MeshPeer>) => plan({ ...says(map), peers: all }, { acceptRoutes: true }, HOST);
  t.deepEqual(make([...map.peers.values()].reverse()), make(map.peers.values()));
});

test('only differences reach the interface, removals first', (t) => {
  const live = (publicKey: string, more: Partial<LivePeer> = {}): LivePeer => ({ publicKey, endpoint: '192.0.2.1:1', allowedIps: ['100.64.0.2/32'], handshakeAt: 0, received: 0, sent: 0, keepalive: 25, ...more });
  const wanted = (publicKey: string, allowedIps: string[]) => ({ id: publicKey, name: publicKey, publicKey, allowedIps, endpoints: [] });
  const changes = differences(
    [live('same'), live('gone'), live('moved', { allowedIps: ['100.64.0.3/32'] }), live('lost', { endpoint: undefined })],
    [wanted('same', ['100.64.0.2/32']), wanted('moved', ['100.64.0.4/32']), wanted('lost', ['100.64.0.2/32']), wanted('new', ['100.64.0.5/32'])],
    new Set(['same', 'moved', 'lost', 'new']),
    ({ publicKey }) => `192.0.2.9:${publicKey.length}`,
  );
  t.deepEqual(changes, [
    ['peer', 'gone', 'remove'],
    ['peer', 'moved', 'allowed-ips', '100.64.0.4/32'],
    ['peer', 'lost', 'endpoint', '192.0.2.9:4'],
    ['peer', 'new', 'allowed-ips', '100.64.0.5/32', 'persistent-keepalive', '25', 'endpoint', '192.0.2.9:3'],
  ]);
});

test('candidates are tried in turn until there is a handshake', (t) => {
  const facts = { onLink: ['192.168.1.0/24'], reflexive: '198.51.100.1:51820', ipv6: false };
  const candidates = ordered(['10.0.0.1:1', '198.51.100.1:2', '203.0.113.1:3', '192.168.1.9:4', '[2001:db8::1]:5'], facts);
  t.deepEqual(candidates, ['192.168.1.9:4', '203.0.113.1:3', '10.0.0.1:1', '198.51.100.1:2']);

  const paths = new Paths();
  const live = (more: Partial<LivePeer>): LivePeer[] => [{ publicKey: 'k', endpoint: candidates[0], allowedIps: [], handshakeAt: 0, received: 0, sent: 0, keepalive: 25, ...more }];
  t.is(paths.offer('k', candidates, 1_000_000), candidates[0]);
  t.is(paths.next(live({}), 1_001_000).size, 0, 'a handshake has its time');
  t.is(paths.next(live({}), 1_006_000).get('k'), candidates[1]);
  t.is(paths.next(live({ endpoint: candidates[1] }), 1_012_000).get('k'), candidates[2]);
  t.is(paths.next(live({ endpoint: candidates[3] }), 1_018_000).get('k'), candidates[0], 'and around');
  t.is(paths.next(live({ endpoint: candidates[1], handshakeAt: 1_019_000 }), 1_030_000).size, 0, 'connected');
  t.is(paths.next(live({ endpoint: '192.0.2.77:9', handshakeAt: 1_019_000 }), 1_030_000).size, 0, 'wherever it is');
  // The peer says that it has moved: its present address has a moment to prove itself.
  paths.offer('k', ['203.0.113.50:3'], 1_031_000);
  t.is(paths.next(live({ endpoint: '192.0.2.77:9', handshakeAt: 1_019_000 }), 1_032_000).size, 0);
  t.is(paths.next(live({ endpoint: '192.0.2.77:9', handshakeAt: 1_019_000 }), 1_035_000).get('k'), '203.0.113.50:3');
  paths.offer('k', ['203.0.113.51:3'], 1_036_000);
  t.is(paths.next(live({ endpoint: '192.0.2.77:9', handshakeAt: 1_019_000, received: 9 }), 1_040_000).size, 0, 'it did');
  // Nobody wants to reach a silent one without keepalive.
  t.is(paths.next(live({ keepalive: 0 }), 9_000_000).size, 0);
});

test('a peer that has never answered is tried again at once, a few times and at each of its addresses', (t) => {
  const paths = new Paths();
  const candidates = ['192.0.2.1:1', '192.0.2.2:2'];
  paths.offer('k', candidates, 0);
  const live = (more: Partial<LivePeer> = {}): LivePeer[] => [{ publicKey: 'k', endpoint: candidates[0], allowedIps: ['100.64.0.2/32'], handshakeAt: 0, received: 0, sent: 0, keepalive: 25, ...more }];
  const tried = (now: number, more?: Partial<LivePeer>) => paths.hurry(live(more), now).peers.map(({ endpoint }) => endpoint);
  t.deepEqual(tried(100), [], 'an answer has its time');
  t.deepEqual(tried(1_000, { handshakeAt: 900 }), [], 'it answered');
  t.deepEqual(tried(1_000, { keepalive: 0 }), [], 'nobody wants to reach it');
  t.deepEqual([1_000, 1_100, 2_000, 3_000, 4_000, 5_000, 60_000].map((now) => tried(now)), [[candidates[0]], [], [candidates[1]], [candidates[0]], [candidates[1]], [], []]);
  t.false(paths.hurry(live(), 61_000).more);
  paths.offer('k', ['192.0.2.3:3'], 62_000);
  t.true(paths.hurry(live(), 62_000).more, 'with other addresses it is another matter');
  t.false(paths.hurry(live(), 68_000).more, 'for a while');
  // Of a thousand who are not there few are troubled.
  const many = Array.from({ length: 1_000 }, (_, index) => `k${index}`);
  for (const publicKey of many) paths.offer(publicKey, candidates, 70_000);
  const crowd = many.flatMap((publicKey) => live().map((peer) => ({ ...peer, publicKey })));
  t.is(paths.hurry(crowd, 71_000).peers.length, 32);
});

test('of those who do not answer a few are kept alive, each in its turn', (t) => {
  const paths = new Paths();
  const keys = Array.from({ length: 1_000 }, (_, index) => `k${index}`);
  for (const publicKey of keys) paths.offer(publicKey, ['192.0.2.1:1'], 0);
  const live = (answering: (publicKey: string) => boolean, at: number): LivePeer[] =>
    keys.map((publicKey) => ({ publicKey, endpoint: '192.0.2.1:1', allowedIps: [], handshakeAt: answering(publicKey) ? at : 0, received: 0, sent: 0, keepalive: 0 }));
  const start = 1_000_000;
  const first = paths.keptAlive([], start);
  t.is(first.size, 40, 'before the interface has any');
  t.deepEqual(paths.keptAlive(live(() => false, 0), start + 29_000), first, 'a turn has its time');
  // Those who answer make room for others, and stay.
  const answered = paths.keptAlive(live((one) => first.has(one), start + 29_000), start + 29_500);
  t.is(answered.size, 80);
  t.true([...first].every((one) => answered.has(one)));
  // Everybody has a turn, and nobody a second one before.
  const turns = new Map<string, number>();
  for (let now = start + 60_000; now <= start + 24 * 60_000; now += 60_000) {
    const silent = [...paths.keptAlive(live((one) => first.has(one), now), now)].filter((one) => !first.has(one));
    for (const one of silent) turns.set(one, (turns.get(one) ?? 0) + 1);
  }
  t.is(turns.size, 960);
  t.deepEqual(new Set(turns.values()), new Set([1]));
  // A peer that has moved need not wait.
  paths.offer('k999', ['192.0.2.2:2'], start + 2_000_000);
  t.true(paths.keptAlive(live((one) => first.has(one), start + 2_000_000), start + 2_000_000).has('k999'));
  // A small network knows no turns.
  const few = new Paths();
  for (const publicKey of keys.slice(0, 40)) few.offer(publicKey, ['192.0.2.1:1'], 0);
  for (let now = start; now < start + 300_000; now += 2_000) t.is(few.keptAlive([], now).size, 40);
});

/** What a rule set does with a packet, as nftables reads it: the chain `requests`, rule by rule. */
function accepts(text: string, source: string, destination: string, protocol: number, port: number): boolean {
  const sets = new Map([...text.matchAll(/set (\w+) \{ type \w+; flags interval; elements = \{ ([^}]*) \}; \}/g)].map(([, name = '', elements = '']) => [name, elements.split(', ')]));
  const inside = (name: string, address: string): boolean => {
    const value = parseAddress(address);
    return (sets.get(name) ?? []).some((element) => {
      const range = parseRange(element);
      return range !== undefined && value?.family === range.family && range.first <= value.value && value.value <= range.last;
    });
  };
  const [, chain = ''] = /chain requests \{\n([^]*?) {2}\}/.exec(text) ?? [];
  for (const line of chain.split('\n')) {
    const from = /saddr @(\w+)/.exec(line)?.[1];
    const to = /daddr @(\w+)/.exec(line)?.[1];
    const protocols = /l4proto \{ ([^}]*) \}/.exec(line)?.[1];
    const ports = /dport \{ ([^}]*) \}/.exec(line)?.[1];
    if (from !== undefined && !inside(from, source)) continue;
    if (to !== undefined && !inside(to, destination)) continue;
    if (protocols !== undefined && !protocols.split(', ').includes(String(protocol))) continue;
    const has = ports?.split(', ').some((part) => {
      const [first = 0, last = first] = part.split('-').map(Number);
      return first <= port && port <= last;
    });
    if (has === false) continue;
    return line.endsWith('accept');
  }
  return false;
}

/** What the engine's filter of one peer says. */
function admits(filter: readonly AclFilterRule[], { source, destination, protocol, port }: AclAddressQuery): boolean {
  const within = (ranges: readonly string[], text: string): boolean => {
    const address = parseAddress(text);
    return ranges.map(parseRange).some((range) => range?.family === address?.family && range!.first <= address!.value && address!.value <= range!.last);
  };
  return filter.some(
    ({ sources, destinations, protocols, ports }) =>
      within(sources, source) &&
      within(destinations, destination) &&
      (protocols.length === 0 || protocols.includes(protocol)) &&
      (ports.length === 0 || ports.some(([first, last]) => first <= port && port <= last)),
  );
}

const POLICIES = [
  '{}',
  '{"acls": []}',
  `{"groups": {"group:dev": ["u0@x", "u1@x"]}, "tagOwners": {"tag:a": [], "tag:b": []},
    "acls": [{"action": "accept", "src": ["group:dev"], "dst": ["tag:a:80,443"]}, {"action": "accept", "proto": "udp", "src": ["tag:a"], "dst": ["tag:b:53-60"]}]}`,
  `{"tagOwners": {"tag:a": []}, "acls": [{"action": "accept", "src": ["u0@x"], "dst": ["*:*"]}, {"action": "accept", "src": ["tag:a"], "dst": ["tag:a:*", "10.0.0.0/8:22"]}]}`,
  `{"hosts": {"first": "100.64.0.1"}, "acls": [{"action": "accept", "src": ["first", "192.168.0.0/16"], "dst": ["u1@x:22", "10.1.0.0/16:*"]}]}`,
  `{"acls": [{"action": "accept", "src": ["fd7a:115c:a1e0::/48"], "dst": ["100.64.0.0/30:80"]}]}`,
  `{"tagOwners": {"tag:a": []}, "grants": [{"src": ["*"], "dst": ["10.0.0.0/8"], "ip": ["80"], "via": ["tag:a"]}]}`,
  `{"hosts": {"second": "100.64.0.2"}, "acls": [{"action": "accept", "src": ["u0@x", "second"], "dst": ["100.64.0.1:80", "fd7a:115c:a1e0::/48:22"]}]}`,
];
const TAGS = [[], ['tag:a'], ['tag:b'], ['tag:a', 'tag:b']];

test('the filter of a netmap lets in exactly what the engine allows', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ user: fc.nat(2), tags: fc.nat(3), routes: fc.boolean() }), { minLength: 2, maxLength: 6 }),
      fc.array(fc.nat(POLICIES.length - 1), { minLength: 1, maxLength: 3 }),
      async (hosts, policies) => {
        const network = await startNetwork();
        for (const { user, tags, routes } of hosts) {
          const peer = await network.register({ user: `u${user}@x`, ...(routes && { routes: ['10.1.0.0/16'] }) });
          await network.peers.update(peer.id, { tags: TAGS[tags] ?? [], ...(routes && { approvedRoutes: ['10.1.0.0/16'] }) });
        }
        for (const policy of policies) await network.policies.put(POLICIES[policy] ?? '', undefined);
        for (const destination of network.directory.all()) {
          // As its own agent sees it: from what sync was told and nothing else.
          const own = network.sync.recipients.get(destination.handle);
          const packetFilter = network.sync.filterOf(destination.handle);
          const map = new Netmap();
          const changed = network.sync.seenBy(destination.handle).map((handle) => JSON.parse(network.sync.records.get(handle) ?? '') as PeerRecord);
          const refused = map.apply({ self: JSON.parse(own?.self ?? '{}') as SelfRecord, packetFilter, changed, removed: [] });
          t.deepEqual(refused, []);
          const { ruleset: text } = plan(says(map), { acceptRoutes: true }, { ...HOST, onLink: [] });
          const targets = [destination.record.ipv4, destination.record.ipv6, ...(destination.record.approvedRoutes.length > 0 ? ['10.1.2.3'] : [])];
          const filter = network.engine.packetFilter(destination.handle);
          for (const source of network.directory.all()) {
            if (source === destination) continue;
            for (const from of [source.record.ipv4, source.record.ipv6, '192.168.7.7'])
              for (const to of targets.filter((target) => target.includes(':') === from.includes(':')))
                for (const [protocol, port] of [[6, 80], [6, 22], [17, 55], [17, 80], [1, 0], [47, 0]] as const) {
                  const question = { source: from, destination: to, protocol, port };
                  // One of several routers may let in what another does not.
                  const allowed = to === '10.1.2.3' ? admits(filter, question) : network.engine.decideAddresses(question).allowed;
                  t.is(accepts(text, from, to, protocol, port), allowed, `${from} to ${to} ${protocol}/${port}\n${text}`);
                }
          }
        }
        await network.stop();
      },
    ),
    { numRuns: 40 },
  );
});

test('a rule set denies, expires and compares owners', (t) => {
  const peers = [{ addresses: ['100.64.0.2'], labels: ['tag:a'], user: 'ann@x' }, { addresses: ['100.64.0.3'], labels: ['tag:a'], user: 'bob@x' }];
  const make = (rules: FilterRule[]) => ruleset({ interface: 'gw0', addresses: ['100.64.0.1'], pools: [], user: 'ann@x', routes: ['10.1.0.0/16'], rules, peers, now: 1_000 });
  const all = { sources: ['*'], destinations: ['self'] };
  const from = (text: string, source: string) => accepts(text, source, '100.64.0.1', 6, 80);
  const denied = make([{ action: 'deny', sources: ['100.64.0.3'], destinations: ['self'] }, { action: 'allow', ...all }]);
  t.true(from(denied, '100.64.0.2'));
  t.false(from(denied, '100.64.0.3'));
  t.false(from(make([{ action: 'allow', ...all, expiresAt: 1_000 }]), '100.64.0.2'));
  t.true(from(make([{ action: 'allow', ...all, expiresAt: 1_001 }]), '100.64.0.2'));
  const own = make([{ action: 'allow', ...all, sameOwner: true }]);
  t.true(from(own, '100.64.0.2'));
  t.false(from(own, '100.64.0.3'));
  t.false(from(own, '192.0.2.1'));
  // What a rule names is passed on as far as it is routed here.
  const behind = make([{ action: 'allow', sources: ['*'], destinations: ['10.0.0.0-10.1.2.255', '192.168.0.0/16'] }]);
  for (const [to, passed] of [['10.1.2.3', true], ['10.1.3.3', false], ['10.0.0.1', false], ['192.168.0.1', false], ['100.64.0.1', false]] as const)
    t.is(accepts(behind, '100.64.0.2', to, 6, 80), passed, to);
  t.true(accepts(make([{ action: 'allow', sources: ['*'], destinations: ['routes'] }]), '100.64.0.2', '10.1.9.9', 6, 80));
  t.false(from(closed('gw0', ['100.64.0.1']), '100.64.0.2'));
});

test('names are answered for the domain, both ways, and for nothing else', (t) => {
  const names = { domain: 'mesh.internal', names: new Map([['web', ['100.64.0.2', 'fd7a:115c:a1e0::2']]]) };
  const ask = (name: string, type: 'A' | 'AAAA' | 'PTR' | 'TXT') => answer({ type: 'query', id: 7, questions: [{ name, type }] }, names);
  t.like(ask('WEB.mesh.internal', 'A'), { id: 7, answers: [{ type: 'A', name: 'WEB.mesh.internal', ttl: 5, data: '100.64.0.2' }] });
  t.like(ask('web.mesh.internal', 'AAAA'), { answers: [{ data: 'fd7a:115c:a1e0::2' }] });
  t.deepEqual(ask('web.mesh.internal', 'TXT')?.answers, []);
  t.is((ask('no.mesh.internal', 'A')?.flags ?? 0) & 15, 3);
  t.like(ask('2.0.64.100.in-addr.arpa', 'PTR'), { answers: [{ data: 'web.mesh.internal' }] });
  t.is(ask('example.com', 'A'), undefined);
  t.is(ask('notmesh.internal', 'A'), undefined);
  t.is(ask('8.8.8.8.in-addr.arpa', 'PTR'), undefined);
});

test('texts for wg-quick and systemd hold what they should', (t) => {
  const map = netmap(record(2, { routes: ['10.0.0.0/8', '0.0.0.0/0'] }));
  const text = wgQuick(map.self!, map.peers.values(), 'PRIVATE');
  t.regex(text, /PrivateKey = PRIVATE\nAddress = 100\.64\.0\.1\/32, fd7a:115c:a1e0::1\/128/);
  t.regex(text, /AllowedIPs = 100\.64\.0\.2\/32, fd7a:115c:a1e0::2\/128, 10\.0\.0\.0\/8\nEndpoint = 203\.0\.113\.3:51820/);
  t.regex(wgQuick(map.self!, map.peers.values(), 'PRIVATE', 'host-2'), /0\.0\.0\.0\/0/);
  t.regex(unit(['/usr/bin/node', '/a b/main.js', 'up', '100%']), /ExecStart=\/usr\/bin\/node "\/a b\/main\.js" up 100%%\n/);
});
