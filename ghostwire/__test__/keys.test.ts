// Keys: what they look like, what is stored of them, and when they stop working.

import test from 'ava';
import { MemoryJournal, MemoryStore } from '../src/journal/memory.js';
import { makeFirstKeys } from '../src/keys/first.js';
import { matches, mintKey, parseKey, randomId } from '../src/keys/secrets.js';
import { startNetwork, wireguardKey } from './support/network.js';

const plain = { description: '', expiresAt: null, maxUses: null, tags: [], user: null };

test('a minted key proves its hash, and nothing else does', (t) => {
  const { id, text, hash } = mintKey('preauth');
  t.regex(text, /^gw_preauth_[a-z2-7]{16}_[a-z2-7]{32}$/);
  const parsed = parseKey('preauth', text);
  t.is(parsed?.id, id);
  t.true(matches(parsed!.secret, hash));
  t.false(
    matches(
      parsed!.secret.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a')),
      hash,
    ),
  );
  t.false(matches(parsed!.secret, mintKey('preauth').hash));
  t.false(matches(parsed!.secret, ''));
  t.is(parseKey('admin', text), undefined, 'a key of one kind is none of another');
  for (const wrong of ['', text.slice(1), `${text}a`, text.toUpperCase(), ` ${text}`, `${text}\n`])
    t.is(parseKey('preauth', wrong), undefined);
});

test('ids and secrets are random and use the whole alphabet', (t) => {
  const ids = Array.from({ length: 2_000 }, randomId);
  t.is(new Set(ids).size, ids.length);
  t.is(new Set(ids.join('')).size, 32);
});

test('no secret is stored', async (t) => {
  const store = new MemoryStore();
  const { adminKeys, preauthKeys, peers, key, stop } = await startNetwork(new MemoryJournal(store));
  const admin = await adminKeys.create({ description: 'a', expiresAt: null });
  const preauth = await preauthKeys.create(plain);
  const { token } = await peers.register({ preauthKey: key, wireguardKey: wireguardKey(), hostname: 'a' });
  const stored = JSON.stringify(store.log);
  for (const text of [admin.text, preauth.text, key, token]) {
    t.false(stored.includes(text.split('_').at(-1)!));
    t.true(stored.includes(text.split('_').at(-2)!), 'the id is');
  }
  await stop();
});

test('admin keys: accepted, expired, revoked, of another kind', async (t) => {
  const { adminKeys, key, stop } = await startNetwork();
  const first = await adminKeys.create({ description: 'first', expiresAt: null });
  const later = await adminKeys.create({ description: 'later', expiresAt: Date.now() + 3_600_000 });
  const earlier = await adminKeys.create({ description: 'earlier', expiresAt: Date.now() - 1 });
  t.true(adminKeys.accepts(first.text));
  t.true(adminKeys.accepts(later.text));
  t.false(adminKeys.accepts(earlier.text));
  t.false(adminKeys.accepts(key));
  t.false(adminKeys.accepts(`${first.text.slice(0, -1)}${first.text.endsWith('a') ? 'b' : 'a'}`));
  await adminKeys.revoke(later.key.id);
  await t.throwsAsync(adminKeys.revoke(first.key.id), { code: 'ERR_LAST_ADMIN_KEY' });
  const second = await adminKeys.create({ description: 'second', expiresAt: null });
  await adminKeys.revoke(first.key.id);
  t.false(adminKeys.accepts(first.text));
  t.true(adminKeys.accepts(second.text));
  await t.notThrowsAsync(adminKeys.revoke(first.key.id), 'again changes nothing');
  await t.throwsAsync(adminKeys.revoke('nobody'), { code: 'ERR_KEY_NOT_FOUND', message: /nobody/ });
  await stop();
});

test('the last two admin keys cannot be revoked at the same time', async (t) => {
  const { adminKeys, stop } = await startNetwork();
  const keys = [
    await adminKeys.create({ description: 'a', expiresAt: null }),
    await adminKeys.create({ description: 'b', expiresAt: null }),
  ];
  const results = await Promise.allSettled(keys.map(({ key }) => adminKeys.revoke(key.id)));
  t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
  t.is(keys.filter(({ text }) => adminKeys.accepts(text)).length, 1);
  await stop();
});

test('a pre-auth key says why it does not work, but only to who holds it', async (t) => {
  const { preauthKeys, stop } = await startNetwork();
  const { key, text } = await preauthKeys.create(plain);
  t.is(preauthKeys.check(text).id, key.id);
  await preauthKeys.revoke(key.id);
  t.throws(() => preauthKeys.check(text), { code: 'ERR_KEY_REVOKED' });
  t.throws(() => preauthKeys.check(`gw_preauth_${key.id}_${'a'.repeat(32)}`), { code: 'ERR_KEY_INVALID' });
  const expired = await preauthKeys.create({ ...plain, expiresAt: Date.now() - 1 });
  t.throws(() => preauthKeys.check(expired.text), { code: 'ERR_KEY_EXPIRED' });
  for (const wrong of ['', 'x', mintKey('preauth').text, mintKey('admin').text])
    t.throws(() => preauthKeys.check(wrong), { code: 'ERR_KEY_INVALID' });
  await stop();
});

test('uses are counted exactly when many register at once', async (t) => {
  const { preauthKeys, register, directory, stop } = await startNetwork();
  const { key, text } = await preauthKeys.create({ ...plain, maxUses: 5 });
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => register({ preauthKey: text })));
  const refused = results.filter((result) => result.status === 'rejected');
  t.is(refused.length, 15);
  for (const { reason } of refused) t.like(reason, { code: 'ERR_KEY_USED_UP' });
  t.is(directory.size, 5);
  t.is(preauthKeys.list().find(({ id }) => id === key.id)?.uses, 5);
  t.throws(() => preauthKeys.check(text), { code: 'ERR_KEY_USED_UP', message: /5 times/ });
  await stop();
});

test('revoking wins over registrations that are under way', async (t) => {
  const { preauthKeys, journal, register, directory, stop } = await startNetwork();
  const { key, text } = await preauthKeys.create(plain);
  // The revocation is committed behind the replica's back: its memory still says that the key works.
  const entry = await journal.get(`preauth-keys/${key.id}`);
  const revoked = journal.commit({ puts: [{ key: `preauth-keys/${key.id}`, value: { ...(entry!.value as object), revokedAt: 1 } }] });
  t.notThrows(() => preauthKeys.check(text));
  await t.throwsAsync(register({ preauthKey: text }), { code: 'ERR_KEY_REVOKED' });
  await revoked;
  t.is(directory.size, 0);
  await stop();
});

test('the first keys are made once', async (t) => {
  const journal = new MemoryJournal();
  const { replica, adminKeys, preauthKeys, register, stop } = await startNetwork(journal);
  const made = await Promise.all([1, 2, 3].map(() => makeFirstKeys(journal, replica, adminKeys, preauthKeys)));
  const [first, ...others] = made.filter((keys) => keys !== undefined);
  t.deepEqual(others, []);
  t.true(adminKeys.accepts(first!.adminKey));
  t.is((await register({ preauthKey: first!.preauthKey })).record.name, 'host');
  t.is(await makeFirstKeys(journal, replica, adminKeys, preauthKeys), undefined);
  await stop();
});

test('keys survive a restart', async (t) => {
  const store = new MemoryStore();
  const before = await startNetwork(new MemoryJournal(store));
  const admin = await before.adminKeys.create({ description: 'a', expiresAt: null });
  const { key, text } = await before.preauthKeys.create({ ...plain, maxUses: 2, tags: ['tag:web'], user: 'ann@example.com' });
  await before.register({ preauthKey: text });
  await before.stop();
  const after = await startNetwork(new MemoryJournal(store));
  t.true(after.adminKeys.accepts(admin.text));
  t.like(
    after.preauthKeys.list().find(({ id }) => id === key.id),
    { uses: 1, record: { maxUses: 2, user: 'ann@example.com' } },
  );
  const peer = await after.register({ preauthKey: text });
  t.deepEqual([peer.record.tags, peer.record.user], [['tag:web'], 'ann@example.com']);
  await t.throwsAsync(after.register({ preauthKey: text }), { code: 'ERR_KEY_USED_UP' });
  await after.stop();
});
