// The policy's versions: numbered, kept, compared, brought back; and of writers who meet, one wins.

import test from 'ava';
import { MemoryJournal, MemoryStore } from '../src/journal/memory.js';
import { KEPT } from '../src/policy/versions.js';
import { startNetwork } from './support/network.js';

const OPEN = '{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}';
const SHUT = '{"acls": []} // closed';

test('each write is a version, with who wrote it and why', async (t) => {
  const { policies, stop } = await startNetwork();
  t.deepEqual(policies.versions.list(), []);
  const first = await policies.put(OPEN, 0, { author: 'a_1', comment: 'start' });
  const second = await policies.put(SHUT, 1);
  t.like(first, { version: 1, author: 'a_1', comment: 'start', rollbackOf: null, text: OPEN });
  t.like(policies.current, { version: 2, author: null, comment: '', revision: second.revision, text: SHUT });
  t.deepEqual(
    policies.versions.list().map(({ version, size }) => [version, size]),
    [
      [2, SHUT.length],
      [1, OPEN.length],
    ],
  );
  t.like(await policies.versions.get(1), { text: OPEN, comment: 'start' });
  await t.throwsAsync(policies.versions.get(3), { code: 'ERR_POLICY_VERSION', message: /versions 1 to 2 are kept/ });
  await stop();
});

test('a rollback is a new version with an old text', async (t) => {
  const { policies, access, populate, stop } = await startNetwork();
  await populate({ hostname: 'a' }, { hostname: 'b' });
  const allowed = (): boolean => access.decide({ source: 'a', destination: 'b', protocol: 6, port: 80 }).allowed;
  await policies.put(OPEN);
  await policies.put(SHUT);
  t.false(allowed());
  t.like(await policies.rollback(1, 2), { version: 3, rollbackOf: 1, text: OPEN, comment: 'rollback to version 1' });
  t.true(allowed());
  await t.throwsAsync(policies.rollback(9), { code: 'ERR_POLICY_VERSION' });
  await t.throwsAsync(policies.rollback(2, 2), { code: 'ERR_POLICY_CHANGED', message: /version 3, not 2/ });
  t.is(policies.current.version, 3);
  await stop();
});

test('of writers who expect the same version exactly one wins, and the losers are told', async (t) => {
  const { policies, stop } = await startNetwork();
  await policies.put(OPEN);
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, (_, index) => policies.put(`{"acls": []} // ${index}`, 1, { comment: String(index) })),
  );
  const won = results.filter(({ status }) => status === 'fulfilled');
  t.is(won.length, 1);
  for (const result of results) if (result.status === 'rejected') t.like(result.reason, { code: 'ERR_POLICY_CHANGED', details: { version: 2 } });
  t.is(policies.current.version, 2);
  await stop();
});

test('writers who expect nothing all get through, each with a version of its own', async (t) => {
  const { policies, stop } = await startNetwork();
  const written = await Promise.all(Array.from({ length: 6 }, (_, index) => policies.put(`{"acls": []} // ${index}`)));
  t.deepEqual(
    written.map(({ version }) => version).sort(),
    [1, 2, 3, 4, 5, 6],
  );
  t.is(policies.current.version, 6);
  await stop();
});

test('two coordinators over one journal: one wins, both agree', async (t) => {
  const journal = new MemoryJournal();
  const [one, two] = [await startNetwork(journal), await startNetwork(journal)];
  const results = await Promise.allSettled([one.policies.put(OPEN, 0), two.policies.put(SHUT, 0)]);
  t.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  await Promise.all([one.replica.caughtUp(), two.replica.caughtUp()]);
  t.deepEqual(one.policies.current, two.policies.current);
  t.is(one.policies.current.version, 1);
  await one.stop();
  await two.stop();
});

test('a restart keeps versions, rules and numbers', async (t) => {
  const store = new MemoryStore();
  const first = await startNetwork(new MemoryJournal(store));
  await first.policies.put(OPEN, 0, { comment: 'one' });
  await first.policies.put(SHUT, 1, { author: 'a_2' });
  const before = { current: first.policies.current, list: first.policies.versions.list() };
  await first.stop();
  const second = await startNetwork(new MemoryJournal(store));
  t.deepEqual({ current: second.policies.current, list: second.policies.versions.list() }, before);
  t.like(await second.policies.rollback(1), { version: 3, text: OPEN });
  await second.stop();
});

test('old versions give way by number', async (t) => {
  const { policies, journal, stop } = await startNetwork();
  for (let index = 1; index <= KEPT.count + 5; index += 1) await policies.put(`{"acls": []} // ${index}`);
  const kept = policies.versions.list();
  t.is(kept.length, KEPT.count);
  t.deepEqual([kept[0]?.version, kept.at(-1)?.version], [KEPT.count + 5, 6]);
  await t.throwsAsync(policies.versions.get(5), { code: 'ERR_POLICY_VERSION' });
  t.is((await journal.list('policy/versions/')).entries.length, KEPT.count);
  await stop();
});

test('old versions give way by size', async (t) => {
  const { policies, stop } = await startNetwork();
  const big = `{"acls": []} //${'x'.repeat(700_000)}`;
  const fit = Math.floor(KEPT.characters / big.length);
  for (let index = 0; index < fit + 2; index += 1) await policies.put(big);
  t.is(policies.versions.list().length, fit);
  t.is(policies.current.version, fit + 2);
  await stop();
});

test('a policy from before there were versions is the first of them', async (t) => {
  const journal = new MemoryJournal();
  await journal.commit({ puts: [{ key: 'policy/current', value: { text: SHUT, writtenAt: 7 } }] });
  const { policies, stop } = await startNetwork(journal);
  t.like(policies.current, { version: 1, text: SHUT, writtenAt: 7, revision: 1 });
  await policies.put(OPEN, 1);
  t.deepEqual(
    policies.versions.list().map(({ version }) => version),
    [2, 1],
  );
  t.like(await policies.versions.get(1), { text: SHUT, writtenAt: 7 });
  t.like(await policies.rollback(1), { version: 3, text: SHUT });
  await stop();
});

test('what is refused changes nothing', async (t) => {
  const { policies, journal, stop } = await startNetwork();
  await policies.put(OPEN);
  const revision = await journal.revision();
  await t.throwsAsync(policies.put('{"acls": [1]}'), { code: 'ERR_POLICY_INVALID' });
  await t.throwsAsync(policies.put('{'.repeat(10_000_000)), { code: 'ERR_POLICY_SYNTAX' });
  await t.throwsAsync(policies.put(`{"acls": []} //${'x'.repeat(10_000_000)}`), { code: 'ERR_POLICY_SYNTAX', message: /10000014|at most/ });
  await t.throwsAsync(policies.put(`{"acls": []} //${'x'.repeat(2_000_000)}`), { code: 'ERR_JOURNAL_LIMIT' });
  await t.throwsAsync(policies.put(`{"acls": [], "acls": []}`), { code: 'ERR_POLICY_INVALID' });
  t.is(await journal.revision(), revision);
  t.like(policies.current, { version: 1, text: OPEN });
  await stop();
});
