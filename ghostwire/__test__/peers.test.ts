// Registering, changing and removing peers, and what may go wrong with each field.

import test from 'ava';
import { MemoryJournal, MemoryStore } from '../src/journal/memory.js';
import type { Change, CommitResult } from '../src/journal/journal.js';
import { Names } from '../src/peers/names.js';
import type { Registration } from '../src/peers/peers.js';
import { NETWORK, startNetwork, wireguardKey } from './support/network.js';

test('a registered peer is found by id, handle, name and token', async (t) => {
  const { peers, directory, key, journal, stop } = await startNetwork();
  const wg = wireguardKey();
  const { peer, token } = await peers.register({
    preauthKey: key,
    wireguardKey: wg,
    hostname: 'Web-1',
    user: 'Ann@Example.com',
    os: 'linux',
    version: '1.0',
    endpoints: ['192.0.2.1:51820', '[2001:db8::1]:51820'],
    routes: ['2001:DB8::/32', '10.0.0.0/8', '10.0.0.0/8'],
    metadata: { rack: '7' },
  });
  t.regex(peer.id, /^p_[a-z2-7]{16}$/);
  t.like(peer.record, {
    name: 'web-1',
    hostname: 'web-1',
    user: 'ann@example.com',
    ipv4: '100.64.0.1',
    ipv6: 'fd7a:115c:a1e0::6440:1',
    os: 'linux',
    version: '1.0',
  });
  t.deepEqual(peer.record.advertisedRoutes, ['10.0.0.0/8', '2001:db8::/32']);
  t.deepEqual(peer.record.approvedRoutes, []);
  t.deepEqual(peer.endpoints, ['192.0.2.1:51820', '[2001:db8::1]:51820']);
  for (const found of [peers.get(peer.id), directory.named('web-1'), directory.withToken(token), directory.atHandle(peer.handle)])
    t.is(found?.id, peer.id);
  t.is(directory.withToken(token.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a'))), undefined);
  t.is((await journal.get('addresses/v4/100.64.0.1'))?.value, peer.id);
  await stop();
});

test('a registration is one commit', async (t) => {
  const store = new MemoryStore();
  const { register, stop } = await startNetwork(new MemoryJournal(store));
  const before = store.log.length;
  await register();
  t.is(store.log.length, before + 1);
  await stop();
});

test('the same WireGuard key registers once, also when both try at once', async (t) => {
  const { register, directory, stop } = await startNetwork();
  const wg = wireguardKey();
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => register({ wireguardKey: wg })));
  t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of results) if (result.status === 'rejected') t.like(result.reason, { code: 'ERR_PEER_EXISTS' });
  await t.throwsAsync(register({ wireguardKey: wg }), { code: 'ERR_PEER_EXISTS', message: new RegExp(wg.replaceAll('+', '\\+')) });
  t.is(directory.size, 1);
  await stop();
});

test('the same hostname gets numbers', async (t) => {
  const { register, peers, stop } = await startNetwork();
  const names = (await Promise.all(Array.from({ length: 4 }, () => register({ hostname: 'web' })))).map(({ record }) => record.name);
  t.deepEqual(names.sort(), ['web', 'web-1', 'web-2', 'web-3']);
  const long = 'x'.repeat(63);
  await register({ hostname: long });
  t.is((await register({ hostname: long })).record.name, `${'x'.repeat(61)}-1`);
  const first = (await peers.list({ limit: 100 })).peers.find(({ record }) => record.name === 'web');
  await peers.delete(first!.id);
  t.is((await register({ hostname: 'web' })).record.name, 'web', 'a name that was given back is used again');
  await stop();
});

test('ten thousand machines of one name do not try ten thousand names each', (t) => {
  const names = new Names();
  const start = performance.now();
  const seen = new Set(Array.from({ length: 20_000 }, () => names.propose('localhost')));
  t.is(seen.size, 20_000);
  for (let count = 0; count < 1_000; count += 1) {
    names.release('localhost-19000');
    t.is(names.propose('localhost'), 'localhost-19000');
  }
  t.true(performance.now() - start < 1_000);
});

const BAD: readonly (readonly [Partial<Registration>, string])[] = [
  [{ preauthKey: 'gw_preauth_x' }, 'ERR_KEY_INVALID'],
  [{ wireguardKey: '' }, 'ERR_WIREGUARD_KEY'],
  [{ wireguardKey: 'A'.repeat(44) }, 'ERR_WIREGUARD_KEY'],
  [{ wireguardKey: `${'A'.repeat(43)}=` }, 'ERR_WIREGUARD_KEY'],
  [{ wireguardKey: `${'a'.repeat(42)}B=` }, 'ERR_WIREGUARD_KEY'], // bits beyond the 32 bytes
  [{ wireguardKey: `${'a'.repeat(42)}E=\n` }, 'ERR_WIREGUARD_KEY'],
  [{ hostname: '' }, 'ERR_HOSTNAME'],
  [{ hostname: 'a.b' }, 'ERR_HOSTNAME'],
  [{ hostname: '-a' }, 'ERR_HOSTNAME'],
  [{ hostname: 'a-' }, 'ERR_HOSTNAME'],
  [{ hostname: 'a_b' }, 'ERR_HOSTNAME'],
  [{ hostname: 'ä' }, 'ERR_HOSTNAME'],
  [{ hostname: 'a\n' }, 'ERR_HOSTNAME'],
  [{ hostname: 'a'.repeat(64) }, 'ERR_HOSTNAME'],
  [{ user: 'ann' }, 'ERR_USER'],
  [{ user: 'ann@' }, 'ERR_USER'],
  [{ user: '*@example.com' }, 'ERR_USER'],
  [{ user: 'ann @example.com' }, 'ERR_USER'],
  [{ tags: ['web'] }, 'ERR_TAG'],
  [{ tags: ['tag:1'] }, 'ERR_TAG'],
  [{ tags: ['tag:web'] }, 'ERR_TAG_NOT_ALLOWED'],
  [{ routes: ['10.0.0.1/8'] }, 'ERR_ROUTE'],
  [{ routes: ['default'] }, 'ERR_ROUTE'],
  [{ routes: ['10.0.0.0/8', '::ffff:a01:0/112'] }, 'ERR_ROUTE'],
  [{ endpoints: ['192.0.2.1'] }, 'ERR_ENDPOINT'],
  [{ endpoints: ['192.0.2.1:0'] }, 'ERR_ENDPOINT'],
  [{ endpoints: ['192.0.2.1:65536'] }, 'ERR_ENDPOINT'],
  [{ endpoints: ['2001:db8::1:51820'] }, 'ERR_ENDPOINT'],
  [{ endpoints: ['host:51820'] }, 'ERR_ENDPOINT'],
  [{ endpoints: ['[192.0.2.1]:51820'] }, 'ERR_ENDPOINT'],
  [{ endpoints: ['[::ffff:192.0.2.1]:51820'] }, 'ERR_ENDPOINT'],
];

/** A table of prefixes takes a mapped route for IPv4, so its router would bear the label of those who carry 10.1.0.0/16. */
test('IPv4-mapped routes, endpoints and addresses are refused, with what to write instead', async (t) => {
  const { register, peers, policies, directory, stop } = await startNetwork();
  const routes = ['::ffff:a01:0/112'];
  const route = { code: 'ERR_ROUTE', message: 'routes: "::ffff:a01:0/112" is IPv4-mapped IPv6; write 10.1.0.0/16' };
  await t.throwsAsync(register({ routes }), route);
  const { id } = await register({ routes: ['10.1.0.0/16', '2001:db8::/32'] });
  await t.throwsAsync(peers.updateSelf(id, { routes }), route);
  await t.throwsAsync(peers.update(id, { approvedRoutes: routes }), { ...route, message: `approvedR${route.message.slice(1)}` });
  t.deepEqual(directory.get(id)?.record.advertisedRoutes, ['10.1.0.0/16', '2001:db8::/32']);
  await t.throwsAsync(peers.updateSelf(id, { endpoints: ['[::ffff:192.0.2.1]:51820'] }), { code: 'ERR_ENDPOINT', message: /write 192\.0\.2\.1:51820$/ });
  await t.throwsAsync(peers.update(id, { ipv4: '::ffff:100.64.0.9' }), { code: 'ERR_ADDRESS', message: /write 100\.64\.0\.9$/ });
  await policies.put('{"grants": [{"src": ["10.1.0.0/16"], "dst": ["*"], "ip": ["*"]}]}');
  const labels = (approvedRoutes: string[]): string[] => policies.compiled.labels({ user: null, tags: [], approvedRoutes });
  t.deepEqual([labels(['10.1.2.0/24']), labels(['2001:db8::/32'])], [['group:carries:0'], []]);
  await stop();
});

test('malformed fields are refused by name, and cost nothing', async (t) => {
  const { register, directory, preauthKeys, stop } = await startNetwork();
  for (const [registration, code] of BAD) await t.throwsAsync(register(registration), { code }, JSON.stringify(registration));
  t.is(directory.size, 0);
  t.is(preauthKeys.list()[0]?.uses, 0);
  const { record } = await register();
  t.is(record.ipv4, '100.64.0.1', 'no address was lost to the failures');
  t.is(record.name, 'host');
  await stop();
});

test("a key's user and tags bind", async (t) => {
  const { register, preauthKeys, policies, stop } = await startNetwork();
  const create = async (tags: string[], user: string | null) =>
    (await preauthKeys.create({ description: '', expiresAt: null, maxUses: null, tags, user })).text;
  const anns = await create([], 'ann@example.com');
  t.is((await register({ preauthKey: anns })).record.user, 'ann@example.com');
  t.is((await register({ preauthKey: anns, user: 'ANN@example.com' })).record.user, 'ann@example.com');
  await t.throwsAsync(register({ preauthKey: anns, user: 'bob@example.com' }), { code: 'ERR_USER_NOT_ALLOWED' });
  const tagged = await create(['tag:web'], null);
  t.deepEqual((await register({ preauthKey: tagged, tags: ['tag:web'] })).record.tags, ['tag:web']);
  await t.throwsAsync(register({ preauthKey: tagged, tags: ['tag:db'] }), { code: 'ERR_TAG_NOT_ALLOWED', message: /tag:db/ });
  await policies.put('{"groups": {"group:dba": ["ann@example.com"]}, "tagOwners": {"tag:db": ["group:dba"]}}', 0);
  t.deepEqual((await register({ preauthKey: anns, tags: ['tag:db'] })).record.tags, ['tag:db']);
  await t.throwsAsync(register({ user: 'bob@example.com', tags: ['tag:db'] }), { code: 'ERR_TAG_NOT_ALLOWED' });
  await stop();
});

test('an exhausted pool is a clear error, and a deleted peer makes room', async (t) => {
  const { register, peers, stop } = await startNetwork(new MemoryJournal(), { ...NETWORK, ipv4: '100.64.0.0/29' });
  const all = await Promise.all(Array.from({ length: 6 }, () => register()));
  await t.throwsAsync(register(), { code: 'ERR_ADDRESSES_EXHAUSTED', message: /100\.64\.0\.0\/29/ });
  await peers.delete(all[2]!.id);
  t.is((await register()).record.ipv4, all[2]!.record.ipv4);
  await stop();
});

test('renaming, tagging, approving routes, metadata', async (t) => {
  const { register, peers, directory, stop } = await startNetwork();
  const a = await register({ hostname: 'a', routes: ['10.0.0.0/8', '10.1.0.0/16'] });
  const b = await register({ hostname: 'b' });
  const renamed = await peers.update(a.id, {
    name: 'Gate',
    tags: ['tag:b', 'tag:a', 'tag:b'],
    approvedRoutes: ['10.1.0.0/16'],
    metadata: { x: 'y' },
  });
  t.like(renamed.record, { name: 'gate', hostname: 'a', metadata: { x: 'y' } });
  t.deepEqual([renamed.record.tags, renamed.record.approvedRoutes], [['tag:a', 'tag:b'], ['10.1.0.0/16']]);
  t.is(renamed.handle, a.handle);
  t.is(directory.named('a'), undefined);
  await t.throwsAsync(peers.update(b.id, { name: 'gate' }), { code: 'ERR_NAME_TAKEN', message: new RegExp(a.id) });
  await t.throwsAsync(peers.update(b.id, { name: 'x.y' }), { code: 'ERR_HOSTNAME' });
  await t.throwsAsync(peers.update(a.id, { approvedRoutes: ['0.0.0.0/0'] }), { code: 'ERR_ROUTE', message: /0\.0\.0\.0\/0/ });
  await t.throwsAsync(peers.update('p_none', { name: 'x' }), { code: 'ERR_PEER_NOT_FOUND', message: /p_none/ });
  t.is((await peers.update(b.id, { name: 'a' })).record.name, 'a');
  await stop();
});

test('two updates at once both arrive', async (t) => {
  const { register, peers, stop } = await startNetwork();
  const { id } = await register();
  await Promise.all([peers.update(id, { metadata: { k: 'v' } }), peers.update(id, { tags: ['tag:x'] }), peers.update(id, { name: 'new' })]);
  t.like(peers.get(id).record, { name: 'new', metadata: { k: 'v' } });
  t.deepEqual(peers.get(id).record.tags, ['tag:x']);
  await stop();
});

test('a deleted peer is gone, its token void, its key, name and address free', async (t) => {
  const { peers, directory, key, journal, stop } = await startNetwork();
  const wg = wireguardKey();
  const registration = { preauthKey: key, wireguardKey: wg, hostname: 'a' };
  const { peer, token } = await peers.register(registration);
  await peers.delete(peer.id);
  t.throws(() => peers.get(peer.id), { code: 'ERR_PEER_NOT_FOUND' });
  await t.throwsAsync(peers.delete(peer.id), { code: 'ERR_PEER_NOT_FOUND' });
  t.is(directory.withToken(token), undefined);
  t.deepEqual(
    (await journal.list('')).entries
      .map((entry) => entry.key.split('/')[0])
      .filter((prefix) => !['preauth-keys', 'counters'].includes(prefix!)),
    [],
  );
  const again = await peers.register(registration);
  t.not(again.peer.id, peer.id);
  t.is(again.peer.record.name, 'a');
  t.not(again.peer.handle, peer.handle);
  await stop();
});

test('pages hold every peer once', async (t) => {
  const { register, peers, stop } = await startNetwork();
  const ids = (await Promise.all(Array.from({ length: 25 }, () => register()))).map(({ id }) => id).sort();
  const listed: string[] = [];
  let after: string | undefined;
  let pages = 0;
  do {
    const page = await peers.list({ limit: 10, ...(after === undefined ? {} : { after }) });
    listed.push(...page.peers.map(({ id }) => id));
    after = page.next;
    pages += 1;
  } while (after !== undefined);
  t.deepEqual(listed, ids);
  t.is(pages, 3);
  await stop();
});

test('a restart finds every peer again, and goes on with new addresses', async (t) => {
  const store = new MemoryStore();
  const addresses = { pools: [], quarantine: 60_000 };
  const before = await startNetwork(new MemoryJournal(store), NETWORK, addresses);
  const all = await Promise.all(Array.from({ length: 10 }, (_, index) => before.register({ hostname: `h${index}` })));
  await before.peers.delete(all[3]!.id);
  await before.stop();
  const after = await startNetwork(new MemoryJournal(store), NETWORK, addresses);
  t.deepEqual(
    [...after.directory.all()].map(({ id, record }) => [id, record]).sort(),
    all
      .filter((_, index) => index !== 3)
      .map(({ id, record }) => [id, record])
      .sort() as unknown[],
  );
  const next = await after.register({ hostname: 'h1' });
  t.deepEqual([next.record.ipv4, next.record.name], ['100.64.0.11', 'h1-1']);
  await after.stop();
});

/** Commits of another coordinator come in between: what this process believes to be free is not. */
class Contended extends MemoryJournal {
  stolen: string[] = [];

  override async commit(change: Change): Promise<CommitResult> {
    const key = change.puts?.find((put) => this.stolen.some((prefix) => put.key.startsWith(prefix)))?.key;
    if (key !== undefined) {
      this.stolen = this.stolen.filter((prefix) => !key.startsWith(prefix));
      await super.commit({ puts: [{ key, value: 'p_other' }] });
    }
    return super.commit(change);
  }
}

test('an address or name that another coordinator took is left to it', async (t) => {
  const journal = new Contended();
  const { register, stop } = await startNetwork(journal);
  journal.stolen = ['addresses/', 'hostnames/'];
  const { record } = await register({ hostname: 'a' });
  t.is(record.name, 'a-1');
  t.not(record.ipv4, '100.64.0.1');
  t.is((await journal.get('addresses/v4/100.64.0.1'))?.value, 'p_other');
  await stop();
});

/** Loses the answer of commits; `made` says whether they happened all the same. */
class Forgetful extends MemoryJournal {
  made = true;
  lose = 0;

  override async commit(change: Change): Promise<CommitResult> {
    if (this.lose === 0) return super.commit(change);
    this.lose -= 1;
    if (!this.made) return { status: 'unknown', id: '0'.repeat(32) };
    const result = await super.commit(change);
    return result.status === 'committed' ? { status: 'unknown', id: result.id } : result;
  }
}

test('a lost answer is asked for again', async (t) => {
  const journal = new Forgetful();
  const { register, directory, stop } = await startNetwork(journal);
  journal.lose = 1;
  const peer = await register({ hostname: 'kept' });
  t.is(directory.get(peer.id)?.record.name, 'kept');
  journal.lose = 1;
  journal.made = false;
  await t.throwsAsync(register({ hostname: 'lost' }), { code: 'ERR_CONTENTION' });
  t.is(directory.size, 1);
  t.is((await register({ hostname: 'lost' })).record.name, 'lost');
  await stop();
});
