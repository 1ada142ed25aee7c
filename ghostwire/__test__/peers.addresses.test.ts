// Addresses of peers by way of the journal: given once, kept, changed, rested, over restarts and by several coordinators.

import test, { type ExecutionContext } from 'ava';
import { Database } from 'zqlite';
import { MemoryJournal, MemoryStore } from '../src/journal/memory.js';
import type { Change, CommitResult, Journal, JsonValue } from '../src/journal/journal.js';
import { SqliteJournal } from '../src/journal/sqlite.js';
import type { GhostwireError } from '../src/errors.js';
import type { Peer } from '../src/peers/peer.js';
import { ADDRESSES, NETWORK, startNetwork, type TestNetwork } from './support/network.js';

const HOUR = 3_600_000;
const RESTING = { pools: [], quarantine: HOUR };
const SMALL = { ...NETWORK, ipv4: '100.64.0.0/29' };

const key = (network: TestNetwork, more: { ipv4?: string; maxUses?: number | null; tags?: string[]; user?: string; expiresAt?: number }): Promise<{ text: string; key: { id: string } }> =>
  network.preauthKeys.create({ description: '', expiresAt: null, maxUses: 1, tags: [], user: null, ...more });

/** Each live peer's address is its own in the journal, and nobody else's. */
async function assertUnique(t: ExecutionContext, journal: Journal, count: number): Promise<void> {
  const { entries } = await journal.list('');
  const peers = entries.filter((entry) => entry.key.startsWith('peers/'));
  const addresses = peers.map(({ value }) => (value as { ipv4: string }).ipv4);
  t.is(peers.length, count);
  t.is(new Set(addresses).size, count, 'an address was given twice');
  for (const [index, ipv4] of addresses.entries())
    t.is(entries.find((entry) => entry.key === `addresses/v4/${ipv4}`)?.value, peers[index]?.key.slice('peers/'.length), ipv4);
}

test('the address of a peer that is gone rests, over restarts too, until its time', async (t) => {
  const store = new MemoryStore();
  const first = await startNetwork(new MemoryJournal(store), SMALL, RESTING);
  const all = await Promise.all(Array.from({ length: 6 }, () => first.register()));
  await first.peers.delete(all[2]!.id);
  await first.peers.delete(all[4]!.id);
  const told = { code: 'ERR_ADDRESSES_EXHAUSTED', message: /2 rest after the last peer that had them, and the next is free at 20/ };
  await t.throwsAsync(first.register(), told);
  await first.stop();

  const second = await startNetwork(new MemoryJournal(store), SMALL, RESTING);
  await t.throwsAsync(second.register(), told, 'after a restart');
  await second.stop();

  const third = await startNetwork(new MemoryJournal(store), SMALL, { pools: [], quarantine: 1 });
  t.is((await third.register()).record.ipv4, all[2]!.record.ipv4);
  t.is((await third.register()).record.ipv4, all[4]!.record.ipv4);
  await assertUnique(t, third.journal, 6);
  await third.stop();
});

test('what has rested is forgotten, and only that', async (t) => {
  const journal = new MemoryJournal();
  const network = await startNetwork(journal, NETWORK, { pools: [], quarantine: 1 });
  const peers = await Promise.all(Array.from({ length: 300 }, () => network.register()));
  for (const { id } of peers.slice(0, 290)) await network.peers.delete(id);
  await new Promise((resolve) => setTimeout(resolve, 5));
  await network.register();
  t.is(await network.preauthKeys.sweepAddresses(), 289);
  t.is((await journal.list('addresses/')).entries.length, 11);
  t.is(await network.preauthKeys.sweepAddresses(), 0);
  await assertUnique(t, journal, 11);
  await network.stop();
  const resting = await startNetwork(journal, NETWORK, RESTING);
  await resting.peers.delete(peers[295]!.id);
  t.is(await resting.preauthKeys.sweepAddresses(), 0);
  await resting.stop();
});

test('without a quarantine an address is free at once, and leaves nothing in the journal', async (t) => {
  const journal = new MemoryJournal();
  const { register, peers, stop } = await startNetwork(journal);
  const { id } = await register();
  await peers.delete(id);
  t.deepEqual((await journal.list('addresses/')).entries, []);
  t.is((await register()).record.ipv4, '100.64.0.1');
  await stop();
});

test('an operator gives a peer an address; everybody is told, and the old one rests', async (t) => {
  const network = await startNetwork(new MemoryJournal(), NETWORK, { pools: ['100.64.0.0/24'], quarantine: HOUR });
  const { register, peers, sync, whois } = network;
  const [a, b] = [await register({ hostname: 'a' }), await register({ hostname: 'b' })];
  const batches = sync.batches.length;
  const moved = await peers.update(a.id, { ipv4: '100.80.1.9', name: 'gate' });
  t.deepEqual([moved.record.ipv4, moved.record.ipv6, moved.record.name], ['100.80.1.9', 'fd7a:115c:a1e0::6450:109', 'gate']);
  t.is(sync.batches.length, batches + 1);
  t.deepEqual((JSON.parse(sync.records.get(a.handle)!) as { addresses: string[] }).addresses, [moved.record.ipv4, moved.record.ipv6]);
  t.deepEqual((JSON.parse(sync.recipients.get(a.handle)!.self) as { addresses: string[] }).addresses, [moved.record.ipv4, moved.record.ipv6]);
  t.deepEqual(sync.seenBy(b.handle), [a.handle]);
  t.is(whois.look('100.64.0.1').state, 'resting');
  t.like(whois.look('100.80.1.9'), { state: 'held', peer: { id: a.id }, pool: undefined });
  t.like(whois.look('fd7a:115c:a1e0::6450:109'), { state: 'held', peer: { id: a.id } });
  await assertUnique(t, network.journal, 2);
  // It may come back to what it has just left.
  t.is((await peers.update(a.id, { ipv4: '100.64.0.1' })).record.ipv4, '100.64.0.1');
  const { revision } = peers.get(a.id);
  t.is((await peers.update(a.id, { ipv4: '100.64.0.1', metadata: {} })).record.ipv4, '100.64.0.1');
  t.true(peers.get(a.id).revision > revision);
  await network.stop();
});

test('rules for addresses go with the address', async (t) => {
  const network = await startNetwork();
  const { register, peers, policies, access, sync } = network;
  const [a, b] = [await register({ hostname: 'a' }), await register({ hostname: 'b' })];
  await policies.put('{"acls": [{"action": "accept", "src": ["100.64.0.1"], "dst": ["100.64.0.2:22"]}]}', 0);
  const ssh = (source: string, destination: string): boolean => access.decide({ source, destination, protocol: 6, port: 22 }).allowed;
  t.true(ssh('a', 'b'));
  await peers.update(a.id, { ipv4: '100.64.7.7' });
  t.false(ssh('a', 'b'));
  t.deepEqual([sync.seenBy(a.handle), sync.seenBy(b.handle)], [[], []]);
  await peers.update(b.id, { ipv4: '100.64.0.1' });
  await peers.update(a.id, { ipv4: '100.64.0.2' });
  t.true(ssh('b', 'a'));
  t.deepEqual([sync.seenBy(a.handle), sync.seenBy(b.handle)], [[b.handle], [a.handle]]);
  await network.stop();
});

test('what an operator cannot give is said, and changes nothing', async (t) => {
  const network = await startNetwork(new MemoryJournal(), NETWORK, RESTING);
  const { register, peers, journal } = network;
  const [a, b] = [await register({ hostname: 'a' }), await register({ hostname: 'b' })];
  const before = await journal.revision();
  const held = { code: 'ERR_ADDRESS_TAKEN', message: new RegExp(`belongs to peer b \\(${b.id}\\)`) };
  t.is(((await t.throwsAsync(key(network, { ipv4: b.record.ipv4 }), held)) as GhostwireError).details['id'], b.id);
  for (const [ipv4, code, message] of [
    [b.record.ipv4, 'ERR_ADDRESS_TAKEN', new RegExp(`belongs to peer b \\(${b.id}\\)`)],
    ['100.100.100.100', 'ERR_ADDRESS', /reserved/],
    ['10.0.0.1', 'ERR_ADDRESS', /not within the network/],
    ['100.64.0.256', 'ERR_ADDRESS', /not an IPv4 address/],
    ['fd7a:115c:a1e0::1', 'ERR_ADDRESS', /not an IPv4 address/],
  ] as const)
    await t.throwsAsync(peers.update(a.id, { ipv4 }), { code, message }, ipv4);
  await t.throwsAsync(peers.update(a.id, { ipv4: '100.64.5.5', name: 'b' }), { code: 'ERR_NAME_TAKEN' });
  t.is(await journal.revision(), before);
  t.is(network.whois.look('100.64.5.5').state, 'free', 'nothing stays pending');
  await network.stop();
});

test('of several who want one address at once one has it', async (t) => {
  const network = await startNetwork(new MemoryJournal(), NETWORK, RESTING);
  const { register, peers } = network;
  const all = await Promise.all(Array.from({ length: 8 }, () => register()));
  const results = await Promise.allSettled(all.map(({ id }) => peers.update(id, { ipv4: '100.64.9.9' })));
  t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of results) if (result.status === 'rejected') t.like(result.reason, { code: 'ERR_ADDRESS_TAKEN' });
  await assertUnique(t, network.journal, 8);
  await network.stop();
});

test('a one-time key brings an address, which is kept for it', async (t) => {
  const store = new MemoryStore();
  const before = await startNetwork(new MemoryJournal(store), SMALL, ADDRESSES);
  const { text, key: made } = await key(before, { ipv4: '100.64.0.2' });
  await t.throwsAsync(key(before, { ipv4: '100.64.0.2' }), { code: 'ERR_ADDRESS_TAKEN', message: new RegExp(made.id) });
  await t.throwsAsync(key(before, { ipv4: '100.64.0.3', maxUses: 2 }), { code: 'ERR_VALIDATION', message: /one use/ });
  await t.throwsAsync(key(before, { ipv4: '100.64.0.3', maxUses: null }), { code: 'ERR_VALIDATION' });
  await before.stop();

  const network = await startNetwork(new MemoryJournal(store), SMALL, ADDRESSES);
  const others = await Promise.all(Array.from({ length: 5 }, () => network.register()));
  t.false(others.some(({ record }) => record.ipv4 === '100.64.0.2'));
  await t.throwsAsync(network.register(), { code: 'ERR_ADDRESSES_EXHAUSTED' });
  await t.throwsAsync(network.peers.update(others[0]!.id, { ipv4: '100.64.0.2' }), { code: 'ERR_ADDRESS_TAKEN' });
  t.is((await network.register({ preauthKey: text })).record.ipv4, '100.64.0.2');
  await t.throwsAsync(network.register({ preauthKey: text }), { code: 'ERR_KEY_USED_UP' });
  await assertUnique(t, network.journal, 6);
  await network.stop();
});

test('an address is no longer kept for a key that is revoked or has expired', async (t) => {
  const network = await startNetwork();
  const revoked = await key(network, { ipv4: '100.64.0.1' });
  const lasting = await key(network, { ipv4: '100.64.0.3' });
  await network.preauthKeys.revoke(revoked.key.id);
  t.is((await network.register()).record.ipv4, '100.64.0.1');
  await key(network, { ipv4: '100.64.0.2', expiresAt: Date.now() + 20 });
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.is(await network.preauthKeys.sweepAddresses(), 1);
  t.is((await network.register()).record.ipv4, '100.64.0.2');
  t.is((await network.register()).record.ipv4, '100.64.0.4');
  t.is((await network.register({ preauthKey: lasting.text })).record.ipv4, '100.64.0.3');
  await network.stop();
});

/** Lets no commit through that deletes addresses, and holds back those that register, as it is told. */
class Hindered extends MemoryJournal {
  failing = false;
  held: Promise<void> | undefined;

  override async commit(change: Change): Promise<CommitResult> {
    if (this.failing && change.deletes?.some((path) => path.startsWith('addresses/'))) throw new Error('the disk is full');
    if (change.puts?.some((put) => put.key.startsWith('peers/'))) await this.held;
    return super.commit(change);
  }
}

test('revoking a key frees its own address at once and leaves the others to the sweep', async (t) => {
  const journal = new MemoryJournal();
  const network = await startNetwork(journal, NETWORK, { pools: [], quarantine: 1 });
  const { id } = await network.register();
  await network.peers.delete(id);
  await key(network, { ipv4: '100.64.0.2', expiresAt: Date.now() + 1 });
  const { key: made } = await key(network, { ipv4: '100.64.0.3' });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await network.preauthKeys.revoke(made.id);
  t.deepEqual((await journal.list('addresses/')).entries.map((entry) => entry.key), ['addresses/v4/100.64.0.1', 'addresses/v4/100.64.0.2']);
  t.is(await network.preauthKeys.sweepAddresses(), 2);
  await network.stop();
});

test('a key is revoked, also when its address cannot be freed yet', async (t) => {
  const journal = new Hindered();
  const network = await startNetwork(journal);
  const { key: made } = await key(network, { ipv4: '100.64.0.1' });
  journal.failing = true;
  t.not((await network.preauthKeys.revoke(made.id)).record.revokedAt, null);
  t.is(network.whois.look('100.64.0.1').state, 'kept');
  journal.failing = false;
  await network.preauthKeys.revoke(made.id);
  t.is(network.whois.look('100.64.0.1').state, 'free', 'by revoking it again, or by a sweep');
  await network.stop();
});

test('revoking a key frees its address, also while a machine registers with it', async (t) => {
  const journal = new Hindered();
  const network = await startNetwork(journal);
  const { text, key: made } = await key(network, { ipv4: '100.64.0.1' });
  let proceed = (): void => undefined;
  journal.held = new Promise((resolve) => (proceed = resolve));
  const late = network.register({ preauthKey: text });
  t.is(network.whois.look('100.64.0.1').state, 'pending');
  await network.preauthKeys.revoke(made.id);
  t.deepEqual((await journal.list('addresses/')).entries, []);
  proceed();
  await t.throwsAsync(late, { code: 'ERR_KEY_REVOKED' });
  t.is(network.whois.look('100.64.0.1').state, 'free');
  t.is((await network.register()).record.ipv4, '100.64.0.1');
  await network.stop();
});

test('a key that was made before addresses could be kept registers as before', async (t) => {
  const store = new MemoryStore();
  const before = await startNetwork(new MemoryJournal(store));
  const { text, key: made } = await key(before, {});
  const path = `preauth-keys/${made.id}`;
  const { ipv4: _, ...old } = (await before.journal.get(path))!.value as Record<string, string>;
  await before.journal.commit({ puts: [{ key: path, value: old }] });
  t.is((await before.register({ preauthKey: text })).record.ipv4, '100.64.0.1');
  await before.stop();
});

test('ipPool of the policy says of what addresses are, for peers that it targets', async (t) => {
  const network = await startNetwork(new MemoryJournal(), NETWORK, { pools: ['100.64.0.0/24'], quarantine: 0 });
  await network.policies.put(
    `{
      "tagOwners": {"tag:web": ["ann@example.com"]},
      "groups": {"group:dev": ["bob@example.com"]},
      "nodeAttrs": [
        {"target": ["tag:web"], "ipPool": ["100.81.0.0/29", "100.82.0.0/24"]},
        {"target": ["100.64.0.1", "group:dev"], "ipPool": ["100.83.0.0/24"]},
        {"target": ["autogroup:tagged"], "attr": ["x"]},
        {"target": ["autogroup:member"], "ipPool": ["100.84.0.0/24"]},
      ],
    }`,
    0,
  );
  const at = async (registration: object): Promise<string> => (await network.register(registration)).record.ipv4;
  t.is(await at({}), '100.64.0.1', 'nobody of whom the policy speaks');
  const tagged = { user: 'ann@example.com', tags: ['tag:web'] };
  const web = [];
  for (let count = 0; count < 8; count += 1) web.push(await at(tagged));
  t.deepEqual(web, [1, 2, 3, 4, 5, 6, 7].map((last) => `100.81.0.${last}`).concat('100.82.0.1'), 'the next pool when the first is full');
  t.is(await at({ user: 'bob@example.com' }), '100.83.0.1');
  t.is(await at({ user: 'ann@example.com' }), '100.84.0.1');
  const fixed = await key(network, { ipv4: '100.90.0.1', user: 'bob@example.com' });
  t.is(await at({ preauthKey: fixed.text }), '100.90.0.1', 'an address that an operator chose goes before');
  await network.stop();

  const elsewhere = await startNetwork(new MemoryJournal(), { ...NETWORK, ipv4: '10.0.0.0/16' });
  await elsewhere.policies.put('{"nodeAttrs": [{"target": ["*"], "ipPool": ["100.81.0.0/24"]}]}', 0);
  await t.throwsAsync(elsewhere.register(), { code: 'ERR_ADDRESSES_EXHAUSTED', message: /100\.81\.0\.0\/24 is within the network's/ });
  await elsewhere.stop();
});

test('who has an address: routers of subnets too, the longest first', async (t) => {
  const network = await startNetwork();
  const [a, b, c] = await network.populate(
    { hostname: 'a', routes: ['10.0.0.0/8', '10.1.0.0/16', '0.0.0.0/0'], approvedRoutes: ['10.0.0.0/8', '10.1.0.0/16', '0.0.0.0/0'] },
    { hostname: 'b', routes: ['10.1.0.0/16'], approvedRoutes: ['10.1.0.0/16'] },
    { hostname: 'c', routes: ['::/64', '2001:db8::/32'], approvedRoutes: ['::/64', '2001:db8::/32'] },
  );
  const routes = (address: string): unknown[] =>
    network.whois.look(address).routes.map(({ prefix, primary, routers }) => [prefix, primary.record.name, routers.map(({ record }) => record.name)]);
  t.deepEqual(routes('10.1.2.3'), [['10.1.0.0/16', 'a', ['a', 'b']], ['10.0.0.0/8', 'a', ['a']]]);
  t.deepEqual(routes('10.9.9.9'), [['10.0.0.0/8', 'a', ['a']]]);
  t.deepEqual(routes('::ffff:10.1.2.3'), routes('10.1.2.3'), 'as logged by servers of both families');
  t.deepEqual(routes('2001:db8::7'), [['2001:db8::/32', 'c', ['c']]]);
  t.deepEqual(routes('192.0.2.1'), [], 'an exit node is not a router of everything');
  t.is(network.whois.look('10.1.2.3').state, 'outside');
  await network.peers.update(a!.id, { approvedRoutes: ['10.0.0.0/8'] });
  t.deepEqual(routes('10.1.2.3'), [['10.1.0.0/16', 'b', ['b']], ['10.0.0.0/8', 'a', ['a']]]);
  await network.peers.delete(c!.id);
  await network.peers.delete(b!.id);
  t.deepEqual(routes('10.1.2.3'), [['10.0.0.0/8', 'a', ['a']]]);
  t.deepEqual(routes('2001:db8::7'), []);
  for (const wrong of ['', 'a', '10.0.0.0/8', '10.0.0.1-10.0.0.2', '1.2.3.4%eth0']) t.throws(() => network.whois.look(wrong), { code: 'ERR_VALIDATION', message: /address/ }, wrong);
  await network.stop();
});

// ---- Several coordinators on one journal.

/** Two coordinators, each with many under way: registrations, departures, addresses that operators want. */
async function crowd(journal: Journal): Promise<{ networks: TestNetwork[]; alive: number; failed: unknown[] }> {
  const networks = await Promise.all([1, 2].map(() => startNetwork(journal, { ...NETWORK, ipv4: '100.64.0.0/22' }, ADDRESSES)));
  const failed: unknown[] = [];
  let alive = 0;
  const attempt = async <T>(work: Promise<T>): Promise<T | undefined> =>
    work.catch((error: unknown) => {
      failed.push(error);
      return undefined;
    });
  await Promise.all(
    networks.map(async (network, side) => {
      for (let round = 0; round < 6; round += 1) {
        const made = (await Promise.all(Array.from({ length: 40 }, () => attempt(network.register({ hostname: `h${side}` }))))).filter((one): one is Peer => one !== undefined);
        alive += made.length;
        await Promise.all(
          made.map(async ({ id }, index) => {
            if (index % 4 === 0 && (await attempt(network.peers.delete(id).then(() => true))) === true) alive -= 1;
            // The same ones on either side.
            else if (index % 4 === 1) await attempt(network.peers.update(id, { ipv4: `100.64.3.${1 + round * 10 + index}` }));
          }),
        );
      }
    }),
  );
  for (const { replica } of networks) await replica.caughtUp();
  return { networks, alive, failed };
}

async function assertCrowd(t: ExecutionContext, journal: Journal): Promise<void> {
  const { networks, alive, failed } = await crowd(journal);
  for (const error of failed) t.like(error, { code: 'ERR_ADDRESS_TAKEN' }, String(error));
  t.true(failed.length > 0, 'they wanted the same');
  await assertUnique(t, journal, alive);
  for (const network of networks) {
    t.deepEqual(network.failures, []);
    for (const { id, record } of network.directory.all()) t.is(network.whois.look(record.ipv4).peer?.id, id);
    await network.stop();
  }
}

test('two coordinators never give one address twice', (t) => assertCrowd(t, new MemoryJournal()));

test('nor on a journal in a database', async (t) => {
  const db = await Database.open(':memory:');
  const journal = await SqliteJournal.open(db);
  await assertCrowd(t, journal);
  await journal.close();
  await db.close();
});

/** Does not look at what a commit says of addresses. */
class Unguarded extends MemoryJournal {
  override commit(change: Change): Promise<CommitResult> {
    return super.commit({ ...change, conditions: (change.conditions ?? []).filter(({ key: of }) => !of.startsWith('addresses/')) });
  }
}

test('it is the condition of the commit that keeps them apart', async (t) => {
  const journal = new Unguarded();
  const [one, other] = [await startNetwork(journal), await startNetwork(journal)];
  // The first to hear of the other's peer is the engine, which does not take an address for that of two.
  await Promise.allSettled([one.register({ hostname: 'a' }), other.register({ hostname: 'b' })]);
  const held = (await journal.list('peers/')).entries.map(({ value }) => (value as { ipv4: string }).ipv4);
  t.deepEqual(held, ['100.64.0.1', '100.64.0.1'], 'without it, an address is given twice');
  for (const network of [one, other]) await network.stop();
});

/** Just before somebody's commit that concerns a key, another coordinator's. */
class Meanwhile extends MemoryJournal {
  key: string | undefined;
  first: readonly JsonValue[] = [];

  override async commit(change: Change): Promise<CommitResult> {
    const of = this.key;
    if (of !== undefined && [...(change.puts ?? []).map((put) => put.key), ...(change.deletes ?? [])].includes(of)) {
      this.key = undefined;
      for (const value of this.first) await super.commit({ puts: [{ key: of, value }] });
    }
    return super.commit(change);
  }

  about(ipv4: string, ...first: JsonValue[]): void {
    this.key = `addresses/v4/${ipv4}`;
    this.first = first;
  }
}

test('who has not heard that an address rests cannot take it', async (t) => {
  const journal = new Meanwhile();
  const network = await startNetwork(journal, NETWORK, RESTING);
  journal.about('100.64.0.1', 'p_other', { releasedAt: Date.now() });
  t.is((await network.register()).record.ipv4, '100.64.0.2');
  t.is(network.whois.look('100.64.0.1').state, 'resting');
  // An operator who wants it has it, as he could have a moment later.
  const { id } = await network.register();
  journal.about('100.64.7.7', 'p_other', { releasedAt: Date.now() });
  t.is((await network.peers.update(id, { ipv4: '100.64.7.7' })).record.ipv4, '100.64.7.7');
  await assertUnique(t, journal, 2);
  await network.stop();
});

test('what another coordinator has just given away is its peer\'s', async (t) => {
  const journal = new Meanwhile();
  const network = await startNetwork(journal, NETWORK, { pools: [], quarantine: 1 });
  const { id, record } = await network.register();
  const value = async (ipv4: string): Promise<unknown> => (await journal.get(`addresses/v4/${ipv4}`))?.value;

  journal.about('100.64.5.1', 'p_other');
  await t.throwsAsync(network.peers.update(id, { ipv4: '100.64.5.1' }), { code: 'ERR_ADDRESS_TAKEN' });
  t.deepEqual([await value('100.64.5.1'), network.peers.get(id).record.ipv4], ['p_other', record.ipv4]);

  journal.about('100.64.5.2', 'p_other');
  await t.throwsAsync(key(network, { ipv4: '100.64.5.2' }), { code: 'ERR_ADDRESS_TAKEN' });
  t.is(await value('100.64.5.2'), 'p_other');

  const { text } = await key(network, { ipv4: '100.64.5.3' });
  journal.about('100.64.5.3', 'p_other');
  await t.throwsAsync(network.register({ preauthKey: text }), { code: 'ERR_ADDRESS_TAKEN' });
  t.is(await value('100.64.5.3'), 'p_other');

  await network.peers.delete(id);
  await new Promise((resolve) => setTimeout(resolve, 5));
  journal.about(record.ipv4, 'p_other');
  t.is(await network.preauthKeys.sweepAddresses(), 0);
  t.is(await value(record.ipv4), 'p_other', 'what has rested is forgotten only while it is nobody\'s');
  await network.stop();
});
