// Native rules: priority, deny, expiry, switches; beside the file, over restarts, and told to peers at once.

import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { MemoryJournal, MemoryStore } from '../src/journal/memory.js';
import { exportPolicy } from '../src/policy/export.js';
import type { RuleFields } from '../src/policy/rules.js';
import { startNetwork, type TestNetwork } from './support/network.js';

const FILE = '{"groups": {"group:dev": ["ann@x"]}, "acls": [\n{"action": "accept", "src": ["*"], "dst": ["*:80"]}]}';

const rule = (fields: Partial<RuleFields> = {}): RuleFields => ({
  action: 'deny',
  priority: 100,
  sources: ['*'],
  destinations: ['*'],
  protocols: [],
  ports: [],
  enabled: true,
  expiresAt: null,
  comment: '',
  ...fields,
});

async function network(): Promise<TestNetwork & { ask(port?: number): [allowed: boolean, line: number | null, rule: number | null] }> {
  const made = await startNetwork();
  await made.populate({ hostname: 'a', user: 'ann@x' }, { hostname: 'b', user: 'bob@x' });
  await made.policies.put(FILE);
  return {
    ...made,
    ask: (port = 80) => {
      const { allowed, line, rule: id } = made.access.decide({ source: 'a', destination: 'b', protocol: 6, port });
      return [allowed, line, id];
    },
  };
}

test('a deny stands before the file, an allow of higher priority before the deny', async (t) => {
  const { rules, ask, stop } = await network();
  t.deepEqual(ask(), [true, 2, null]);
  const deny = await rules.add(rule({ sources: ['group:dev'] }), 'a_1');
  t.like(deny, { id: 1, record: { author: 'a_1' } });
  t.deepEqual(ask(), [false, null, 1]);
  await rules.add(rule({ action: 'allow', priority: 200, sources: ['Ann@X'], protocols: [6], ports: [[80, 81]] }), null);
  t.deepEqual(ask(), [true, null, 2]);
  t.deepEqual(ask(81), [true, null, 2]);
  t.deepEqual(ask(82), [false, null, 1]);
  await rules.add(rule({ action: 'deny', priority: 200, destinations: ['100.64.0.0/10'] }), null);
  t.deepEqual(ask(), [false, null, 3], 'at equal priority deny decides first');
  t.deepEqual(
    rules.list().map(({ id }) => id),
    [3, 2, 1],
  );
  await stop();
});

test('a rule below the file decides only what the file leaves open', async (t) => {
  const { rules, ask, stop } = await network();
  await rules.add(rule({ action: 'deny', priority: -1 }), null);
  t.deepEqual(ask(), [true, 2, null]);
  t.deepEqual(ask(81), [false, null, 1]);
  await stop();
});

test('switched, changed, removed; with compare-and-set', async (t) => {
  const { rules, ask, stop } = await network();
  const { revision } = await rules.add(rule(), null);
  const off = await rules.update(1, { enabled: false }, revision);
  t.deepEqual(ask(), [true, 2, null]);
  await t.throwsAsync(rules.update(1, { enabled: true }, revision), { code: 'ERR_RULE_CHANGED' });
  await t.throwsAsync(rules.remove(1, revision), { code: 'ERR_RULE_CHANGED' });
  await rules.update(1, { enabled: true });
  t.deepEqual(ask(), [false, null, 1]);
  await rules.update(1, { destinations: ['bob@x'], ports: [[81, 81]], protocols: [6] });
  t.deepEqual(ask(), [true, 2, null]);
  t.deepEqual(ask(81), [false, null, 1]);
  t.true(off.revision > revision);
  await rules.remove(1);
  t.deepEqual(ask(81), [false, null, null]);
  await t.throwsAsync(rules.remove(1), { code: 'ERR_RULE_NOT_FOUND' });
  t.is((await rules.add(rule(), null)).id, 2, 'numbers are not used again');
  const racing = await Promise.allSettled([1, 2, 3, 4].map((priority) => rules.update(2, { priority }, rules.get(2).revision)));
  t.is(racing.filter(({ status }) => status === 'fulfilled').length, 1);
  await stop();
});

test('what cannot be meant is refused', async (t) => {
  const { rules, stop } = await network();
  const refused = async (fields: Partial<RuleFields>, message: RegExp): Promise<void> => {
    await t.throwsAsync(rules.add(rule(fields), null), { code: 'ERR_RULE_INVALID', message });
  };
  await refused({ sources: ['group:ops'] }, /sources: "group:ops" is not a group of the policy/);
  await refused({ destinations: ['10.0.0.1/8'] }, /destinations/);
  await refused({ destinations: ['::ffff:a00:0/104'] }, /destinations: "::ffff:a00:0\/104" is IPv4-mapped IPv6; write 10\.0\.0\.0\/8$/);
  await refused({ sources: ['::ffff:10.0.0.1-::ffff:10.0.0.9'] }, /write 10\.0\.0\.1-10\.0\.0\.9$/);
  await refused({ destinations: ['tag:'] }, /tag:web/);
  await refused({ sources: ['server'] }, /"server" is not a user/);
  await refused({ sources: ['gro\u0443p:dev'] }, /is not a user/);
  await refused({ sources: ['peer:x'] }, /is not a user/);
  await refused({ sources: [] }, /sources/);
  await refused({ ports: [[9, 8]] }, /ports/);
  await refused({ protocols: [1], ports: [[80, 80]] }, /only TCP/);
  await refused({ protocols: [256] }, /protocols/);
  t.deepEqual(rules.list(), []);
  await stop();
});

test('a file that would leave a rule without its group is refused', async (t) => {
  const { rules, policies, ask, stop } = await network();
  await rules.add(rule({ sources: ['group:dev'] }), null);
  await t.throwsAsync(policies.put('{"acls": []}'), { code: 'ERR_POLICY_INVALID', message: /native rule 1 names group:dev/ });
  t.deepEqual(ask(), [false, null, 1]);
  // Whoever comes second is told, whichever it is.
  await rules.remove(1);
  const [added, written] = await Promise.allSettled([rules.add(rule({ sources: ['group:dev'] }), null), policies.put('{"acls": []}')]);
  t.deepEqual([added?.status, written?.status].sort(), ['fulfilled', 'rejected']);
  await stop();
});

test('an expired rule counts no longer, and peers are told when it happens', async (t) => {
  const { rules, ask, sync, topology, directory, stop } = await network();
  const [a, b] = [directory.named('a')!.handle, directory.named('b')!.handle];
  t.deepEqual(sync.seenBy(a), [b]);
  t.timeout(120_000);
  // Long enough for what is asked before it, on a machine that is busy with other things.
  await rules.add(rule({ expiresAt: Date.now() + 5_000 }), null);
  t.deepEqual(sync.seenBy(a), []);
  t.deepEqual(topology.visible(a), []);
  t.deepEqual(ask(), [false, null, 1]);
  const batches = sync.batches.length;
  for (let waited = 0; waited < 60_000 && sync.seenBy(a).length === 0; waited += 20) await sleep(20);
  t.deepEqual(sync.seenBy(a), [b], 'without anybody writing anything');
  t.true(sync.batches.length > batches);
  t.true(sync.batches.at(-1)!.revision > sync.batches[batches - 1]!.revision, 'as a change with a revision of its own');
  t.deepEqual(ask(), [true, 2, null]);
  await stop();
});

test('a restart keeps rules', async (t) => {
  const store = new MemoryStore();
  const first = await startNetwork(new MemoryJournal(store));
  await first.rules.add(rule({ comment: 'x', expiresAt: Date.now() + 3_600_000 }), null);
  await first.rules.add(rule({ priority: 5 }), null);
  await first.rules.remove(2);
  const before = first.rules.list();
  await first.stop();
  const second = await startNetwork(new MemoryJournal(store));
  t.deepEqual(second.rules.list(), before);
  t.is((await second.rules.add(rule(), null)).id, 3);
  await second.stop();
});

test('packet filters have denies subtracted', async (t) => {
  const { rules, engine, directory, stop } = await network();
  await rules.add(rule({ sources: ['100.64.0.1'], destinations: ['bob@x'], protocols: [6] }), null);
  const filter = engine.packetFilter(directory.named('b')!.handle);
  t.false(filter.some(({ sources, protocols }) => protocols.includes(6) && sources.includes('100.64.0.1/32')));
  t.true(filter.some(({ protocols }) => protocols.includes(17)));
  await stop();
});

test('an export says when a file alone cannot express what is in force', async (t) => {
  const { rules, policies, engine, stop } = await network();
  const exported = () => exportPolicy(policies.current.text, rules.list(), new Set(engine.unusedRules().map((unused) => unused.rule)), Date.now());
  t.deepEqual(exported(), { text: FILE, complete: true, included: [], omitted: [] });
  await rules.add(rule({ action: 'allow', sources: ['bob@x'], destinations: ['100.64.0.1'], protocols: [6, 17], ports: [[22, 22], [90, 99]] }), null);
  const { text, ...more } = exported();
  t.deepEqual(more, { complete: true, included: [1], omitted: [] });
  t.regex(text, /100\.64\.0\.1:22,90-99/);
  t.true(text.includes('{"action": "accept", "src": ["*"], "dst": ["*:80"]}'), 'what was there stays as it was');
  await rules.add(rule({ action: 'allow', protocols: [6], expiresAt: Date.now() + 60_000 }), null);
  await rules.add(rule({ sources: ['tag:nobody'] }), null);
  await rules.add(rule({ enabled: false }), null);
  t.deepEqual(exported().omitted, [{ id: 2, reason: 'what a policy file allows does not expire' }], 'rules without effect do not matter');
  await rules.add(rule({ sources: ['ann@x'] }), null);
  t.like(exported(), { complete: false, included: [1] });
  t.deepEqual(exported().omitted.map(({ id }) => id), [5, 2]);

  // The file alone means the same as file and rule together.
  const decisions = () => [22, 23, 80, 95].map((port) => [6, 17].map((protocol) => engine.decide({ source: 2, destination: 1, protocol, port }).allowed));
  for (const id of [2, 3, 4, 5]) await rules.remove(id);
  const before = decisions();
  await rules.remove(1);
  t.notDeepEqual(decisions(), before);
  await policies.put(text);
  t.deepEqual(decisions(), before);
  await stop();
});
