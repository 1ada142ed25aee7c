// What sync is told, against what the ACL engine answers peer by peer.

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { GhostwireError } from '../src/errors.js';
import { MemoryJournal, MemoryStore } from '../src/journal/memory.js';
import type { FilterRule } from '../src/topology/filter.js';
import { Filters } from '../src/topology/filters.js';
import { aclPeer } from '../src/topology/topology.js';
import { startNetwork, type TestNetwork } from './support/network.js';

/** Every recipient sees exactly whom the engine says it sees, and has the newest records. */
function assertTruth(t: ExecutionContext, { sync, engine, directory, topology, enforcement, failures }: TestNetwork): void {
  t.deepEqual(failures, []);
  const handles = [...directory.all()].map(({ handle }) => handle).sort((a, b) => a - b);
  t.deepEqual(
    [...sync.records.keys()].sort((a, b) => a - b),
    handles,
  );
  t.deepEqual(
    [...sync.recipients.keys()].sort((a, b) => a - b),
    handles,
  );
  const filters = new Filters(enforcement.policy.rules);
  for (const handle of handles) {
    const expected = [...engine.visiblePeers(handle)].sort((a, b) => a - b);
    t.deepEqual(sync.seenBy(handle), expected);
    t.deepEqual(
      topology.visible(handle).sort((a, b) => a - b),
      expected,
    );
    const { name, tags, addresses } = JSON.parse(sync.records.get(handle)!) as { name: string; tags: string[]; addresses: string[] };
    const { record } = directory.atHandle(handle)!;
    t.deepEqual([name, tags, addresses], [record.name, record.tags, [record.ipv4, record.ipv6]]);
    const self = JSON.parse(sync.recipients.get(handle)!.self) as { addresses: string[] };
    t.like(self, { name: record.name, domain: 'mesh.internal', approvedRoutes: record.approvedRoutes });
    t.deepEqual(self.addresses, addresses);
    // Worked out for this peer alone, whatever others of its class were told.
    const own = filters.of(aclPeer(directory.atHandle(handle)!, enforcement.policy));
    t.deepEqual(sync.filterOf(handle).rules, JSON.parse(JSON.stringify(own)));
  }
}

const POLICIES = [
  '{}',
  '{"acls": []}',
  `{"groups": {"group:dev": ["u0@x", "u1@x"]}, "tagOwners": {"tag:a": [], "tag:b": []},
    "acls": [{"action": "accept", "src": ["group:dev"], "dst": ["tag:a:80"]}, {"action": "accept", "src": ["tag:a"], "dst": ["tag:b:443"]}]}`,
  `{"tagOwners": {"tag:a": []}, "acls": [{"action": "accept", "src": ["u0@x"], "dst": ["*:*"]}, {"action": "accept", "src": ["tag:a"], "dst": ["tag:a:*", "10.0.0.0/8:22"]},
    {"action": "accept", "src": ["u1@x"], "dst": ["10.1.128.0/17:23", "192.168.0.7:24"]}]}`,
  `{"hosts": {"first": "100.64.0.1"}, "acls": [{"action": "accept", "src": ["first"], "dst": ["u1@x:22", "u2@x:22"]}]}`,
];
/** By user: equal ones, ones that a rule tells apart, and an exit. */
const ROUTES = [['10.0.0.0/8'], ['10.0.0.0/8', '192.168.0.0/24'], ['10.1.0.0/16'], ['0.0.0.0/0', '::/0']];
const TAGS = [[], ['tag:a'], ['tag:b'], ['tag:a', 'tag:b']];

type Step =
  | { readonly kind: 'register'; readonly user: number }
  | { readonly kind: 'tag'; readonly peer: number; readonly tags: number }
  | { readonly kind: 'rename' | 'delete' | 'approve'; readonly peer: number }
  | { readonly kind: 'move'; readonly peer: number; readonly to: number }
  | { readonly kind: 'policy'; readonly policy: number };

const peer = fc.nat(30);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('register' as const), user: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('tag' as const), peer, tags: fc.nat(TAGS.length - 1) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('rename' as const, 'delete' as const, 'approve' as const), peer }) },
  // Also to the one that a policy names, and to those that others have just left.
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('move' as const), peer, to: fc.integer({ min: 1, max: 8 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('policy' as const), policy: fc.nat(POLICIES.length - 1) }) },
);

let renames = 0;

async function perform(network: TestNetwork, action: Step): Promise<void> {
  const { peers, policies, directory, register } = network;
  if (action.kind === 'register') await register({ hostname: 'h', user: `u${action.user}@x`, routes: ROUTES[action.user]! });
  else if (action.kind === 'policy') await policies.put(POLICIES[action.policy]!, undefined);
  else {
    const all = [...directory.all()];
    const chosen = all[action.peer % Math.max(1, all.length)];
    if (chosen === undefined) return;
    if (action.kind === 'tag') await peers.update(chosen.id, { tags: TAGS[action.tags]! });
    else if (action.kind === 'rename') await peers.update(chosen.id, { name: `r${renames++}` });
    else if (action.kind === 'move') await peers.update(chosen.id, { ipv4: `100.64.0.${action.to}` });
    else if (action.kind === 'approve')
      await peers.update(chosen.id, { approvedRoutes: chosen.record.approvedRoutes.length > 0 ? [] : chosen.record.advertisedRoutes });
    else await peers.delete(chosen.id);
  }
}

test('whatever happens, one after the other or at once, sync shows what the policy says', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { maxLength: 12 }), async (rounds) => {
      const network = await startNetwork();
      for (const round of rounds) {
        // Steps of a round run together, so that several land in one publish; some of them lose, which is fine.
        await Promise.allSettled(round.map((action) => perform(network, action)));
        await network.replica.caughtUp();
        assertTruth(t, network);
      }
      await network.stop();
    }),
    { numRuns: 60 },
  );
});

test('a restart publishes the same views from nothing', async (t) => {
  const store = new MemoryStore();
  const before = await startNetwork(new MemoryJournal(store));
  await before.policies.put(POLICIES[2]!, 0);
  for (let user = 0; user < 4; user += 1) {
    const { id } = await before.register({ hostname: `h${user}`, user: `u${user}@x` });
    if (user > 1) await before.peers.update(id, { tags: TAGS[user - 1]! });
  }
  const picture = ({ sync, directory }: TestNetwork): string[] =>
    [...directory.all()]
      .map(
        ({ handle, id }) =>
          `${id}: ${sync
            .seenBy(handle)
            .map((other) => directory.atHandle(other)?.id)
            .sort()
            .join()}`,
      )
      .sort();
  const expected = picture(before);
  await before.stop();
  const after = await startNetwork(new MemoryJournal(store));
  assertTruth(t, after);
  t.deepEqual(picture(after), expected);
  t.true(after.sync.batches[0]!.puts.every(({ changedAt }) => changedAt !== undefined && changedAt > 0 && changedAt <= after.sync.batches[0]!.revision));
  await after.stop();
});

test('a deleted peer is revoked and disappears', async (t) => {
  const network = await startNetwork();
  const { register, peers, sync, stop } = network;
  const [a, b] = [await register({ hostname: 'a' }), await register({ hostname: 'b' })];
  t.deepEqual(sync.seenBy(a.handle), [b.handle]);
  await peers.delete(b.id);
  const batch = sync.batches.at(-1)!;
  t.deepEqual([batch.removes, batch.recipients, batch.puts, batch.views], [[b.handle], [{ handle: b.handle, revoked: true }], [], []]);
  assertTruth(t, network);
  await stop();
});

test('rules that no peer could be told are refused, and those that can are told whole', async (t) => {
  const network = await startNetwork();
  const { register, policies, sync, failures, stop } = network;
  const { handle } = await register();
  /** So many rules that all concern every peer. */
  const rules = (count: number): string => {
    const acl = (i: number) => ({ action: 'accept', proto: 'tcp', src: [`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`], dst: [`*:${(i % 60_000) + 1}`] });
    return JSON.stringify({ acls: Array.from({ length: count }, (_, i) => acl(i)) });
  };
  await policies.put(rules(4_000));
  t.is(sync.filterOf(handle).rules.filter(({ protocols }) => protocols?.includes(6)).length, 4_000);
  const before = policies.current.version;
  const error = await t.throwsAsync(policies.put(rules(60_000)), { instanceOf: GhostwireError });
  t.is(error.code, 'ERR_POLICY_TOO_LARGE');
  t.is(policies.current.version, before);
  t.deepEqual(failures, []);
  await stop();
});

/** Rules for TCP; each ACL has one for ICMP too. */
const tcp = (rules: readonly FilterRule[]): number => rules.filter(({ protocols }) => protocols?.includes(6)).length;

test('a filter is sent once for all who have it, and not with every registration', async (t) => {
  const { register, policies, sync, directory, stop } = await startNetwork();
  const acl = (i: number) => ({ action: 'accept', proto: 'tcp', src: [`10.0.${i >> 8}.${i & 255}`], dst: [`*:${i + 1}`] });
  await policies.put(JSON.stringify({ acls: Array.from({ length: 2_000 }, (_, i) => acl(i)) }));
  await register();
  const before = sync.batches.length;
  for (let i = 0; i < 50; i += 1) await register(i === 49 ? { routes: ['10.200.0.0/16'] } : {});
  const registered = sync.batches.slice(before);
  t.deepEqual(registered.flatMap(({ filters }) => filters), [], 'who joins a class brings no filter');
  t.true(Math.max(...registered.map((batch) => JSON.stringify(batch).length)) < 2_000);
  // Other rules: told per class, and to nobody again what he holds.
  await policies.put(JSON.stringify({ acls: Array.from({ length: 2_000 }, (_, i) => acl(i + 1)) }));
  const { filters, views, recipients, puts } = sync.batches.at(-1)!;
  t.deepEqual([filters.length, views.length, recipients, puts], [1, 1, [], []]);
  for (const { handle } of directory.all()) t.is(tcp(sync.filterOf(handle).rules), 2_000);
  await stop();
});

test('classes of equal filters name one, and a class that goes takes its own along', async (t) => {
  const { register, policies, peers, sync, stop } = await startNetwork();
  await policies.put('{"acls": [{"action": "accept", "src": ["u0@x"], "dst": ["u1@x:22"]}, {"action": "accept", "src": ["u2@x"], "dst": ["u1@x:23"]}]}');
  const [zero, one, two] = [await register({ user: 'u0@x' }), await register({ user: 'u1@x' }), await register({ user: 'u2@x' })];
  t.deepEqual([zero, one, two].map(({ handle }) => tcp(sync.filterOf(handle).rules)), [0, 2, 0]);
  await policies.put('{"acls": [{"action": "accept", "src": ["u0@x", "u2@x"], "dst": ["*:80"]}, {"action": "accept", "src": ["u2@x"], "dst": ["*:81"]}]}');
  t.is(sync.batches.at(-1)!.filters.length, 1);
  t.deepEqual([zero, one, two].map(({ handle }) => tcp(sync.filterOf(handle).rules)), [2, 2, 2]);
  await peers.delete(two.id);
  t.is(sync.filters.size, 2);
  await stop();
});

test('nothing is published before it is committed', async (t) => {
  const { register, sync, journal, stop } = await startNetwork();
  const before = sync.batches.length;
  const commit = journal.commit.bind(journal);
  let published = -1;
  journal.commit = async (change, options) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    published = sync.batches.length;
    return commit(change, options);
  };
  await register();
  t.is(published, before);
  t.is(sync.batches.length, before + 1);
  await stop();
});

test('a rename publishes one record and touches no view', async (t) => {
  const { register, peers, policies, sync, stop } = await startNetwork();
  await policies.put(POLICIES[4]!, 0);
  const { id } = await register({ user: 'u0@x' });
  await register({ user: 'u1@x' });
  const known = sync.batches.length;
  await peers.update(id, { name: 'renamed' });
  t.is(sync.batches.length, known + 1);
  const { puts, views, recipients, removes } = sync.batches.at(-1)!;
  t.deepEqual([puts.length, views, recipients.length, removes], [1, [], 1, []]);
  await stop();
});

test('a policy that changes nothing moves nobody', async (t) => {
  const { register, policies, sync, stop } = await startNetwork();
  await policies.put(POLICIES[2]!, 0);
  for (let user = 0; user < 4; user += 1) await register({ user: `u${user}@x` });
  await policies.put(`// the same\n${POLICIES[2]}`, undefined);
  const { puts, views, recipients } = sync.batches.at(-1)!;
  t.deepEqual(
    [puts, recipients, views.flatMap((view): unknown[] => ('drop' in view ? ['drop'] : [...view.add, ...view.remove]))],
    [[], [], []],
  );
  await stop();
});

test('endpoints are in the first netmap and are not journalled', async (t) => {
  const store = new MemoryStore();
  const { register, sync, stop } = await startNetwork(new MemoryJournal(store));
  const { handle } = await register({ endpoints: ['192.0.2.1:51820'] });
  t.deepEqual((JSON.parse(sync.records.get(handle)!) as { endpoints: string[] }).endpoints, ['192.0.2.1:51820']);
  t.false(JSON.stringify(store.log).includes('51820'));
  await stop();
});

test('routes reach others only when approved', async (t) => {
  const { register, peers, sync, stop } = await startNetwork();
  const { id, handle } = await register({ routes: ['0.0.0.0/0', '10.0.0.0/8'] });
  const routes = (): string[] => (JSON.parse(sync.records.get(handle)!) as { routes: string[] }).routes;
  t.deepEqual(routes(), []);
  await peers.update(id, { approvedRoutes: ['10.0.0.0/8'] });
  t.deepEqual(routes(), ['10.0.0.0/8']);
  await stop();
});

test('the work grows with the peers and not with their pairs', async (t) => {
  const edits = async (count: number): Promise<number> => {
    const { register, sync, stop } = await startNetwork();
    for (let index = 0; index < count; index += 1) await register();
    await stop();
    return sync.batches
      .flatMap(({ views }) => views)
      .reduce((sum, view) => sum + ('drop' in view ? 0 : view.add.length + view.remove.length), 0);
  };
  t.deepEqual([await edits(50), await edits(200)], [50, 200]);
});
