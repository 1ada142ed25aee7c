// The policy in force: what the engine decides by it, who may tag, and how it is replaced.

import { AclEngine } from 'zqlite';
import test from 'ava';
import { compilePolicy } from '../src/policy/compile.js';
import { readPolicy } from '../src/policy/document.js';
import { startNetwork } from './support/network.js';
import { POLICY } from './support/policies.js';

/** An engine that holds a policy and three peers. */
function engineFor(text: string): AclEngine {
  const { rules, labels } = compilePolicy(readPolicy(text));
  const engine = new AclEngine();
  engine.setRules([...rules]);
  engine.putPeers([
    { id: 1, addresses: ['100.64.0.1', 'fd7a::1'], labels: labels({ user: 'ann@example.com', tags: [] }) },
    { id: 2, addresses: ['100.64.0.2', 'fd7a::2'], labels: labels({ user: 'ann@example.com', tags: ['tag:web'] }) },
    { id: 9, addresses: ['100.64.0.9', 'fd7a::9'], labels: labels({ user: null, tags: ['tag:db'] }) },
    { id: 3, addresses: ['100.64.0.3', 'fd7a::3'], labels: labels({ user: 'ops@example.com', tags: [] }) },
  ]);
  return engine;
}

test('the policy means what it says', (t) => {
  const engine = engineFor(POLICY);
  const allowed = (source: number, destination: number, protocol: number, port: number): boolean =>
    engine.decide({ source, destination, protocol, port }).allowed;
  t.true(allowed(1, 2, 6, 443));
  t.true(allowed(1, 2, 17, 443), 'no proto means TCP and UDP');
  t.false(allowed(1, 2, 6, 22));
  t.true(allowed(1, 2, 1, 0), 'and ping');
  t.true(allowed(1, 9, 6, 5432));
  t.false(allowed(2, 1, 6, 443), 'rules have a direction');
  t.true(allowed(2, 9, 6, 8_500), 'a host alias is an address');
  t.false(allowed(2, 9, 17, 8_500), 'proto tcp is TCP only');
  t.false(allowed(2, 9, 1, 0));
  t.false(allowed(2, 2, 6, 80), "a tagged peer has lost its owner's rights");
  t.true(allowed(3, 1, 6, 1));
  t.false(allowed(3, 1, 47, 0), 'no proto does not mean every protocol');
});

test('autogroup:self is between machines of one owner, and a tagged one has none', (t) => {
  const { rules, subject } = compilePolicy(readPolicy('{"acls": [{"action": "accept", "src": ["*"], "dst": ["autogroup:self:*"]}]}'));
  const engine = new AclEngine();
  engine.setRules([...rules]);
  engine.putPeers([
    { id: 1, addresses: ['100.64.0.1'], ...subject({ user: 'ann@example.com', tags: [] }) },
    { id: 2, addresses: ['100.64.0.2'], ...subject({ user: 'ann@example.com', tags: [] }) },
    { id: 3, addresses: ['100.64.0.3'], ...subject({ user: 'ann@example.com', tags: ['tag:web'] }) },
    { id: 4, addresses: ['100.64.0.4'], ...subject({ user: 'bob@example.com', tags: [] }) },
  ]);
  t.deepEqual([...engine.visiblePeers(1)], [2]);
  t.deepEqual([...engine.visiblePeers(3)], []);
  t.true(engine.decide({ source: 2, destination: 1, protocol: 6, port: 22 }).allowed);
  t.false(engine.decide({ source: 3, destination: 1, protocol: 6, port: 22 }).allowed, 'not from a tagged machine');
  t.false(engine.decide({ source: 4, destination: 1, protocol: 6, port: 22 }).allowed);
});

test('no acls allows everything, empty acls nothing', (t) => {
  t.true(engineFor('{}').decide({ source: 1, destination: 3, protocol: 6, port: 80 }).allowed);
  t.false(engineFor('{}').decide({ source: 1, destination: 3, protocol: 47, port: 0 }).allowed, 'as `*` to `*:*` does, which is TCP, UDP and ICMP');
  t.false(engineFor('{"grants": []}').decide({ source: 1, destination: 3, protocol: 6, port: 80 }).allowed);
  t.false(engineFor('{"acls": []}').decide({ source: 1, destination: 3, protocol: 6, port: 80 }).allowed);
});

test('tagOwners: users, groups, and owners of owning tags', (t) => {
  const { mayTag } = compilePolicy(readPolicy(POLICY));
  t.true(mayTag('bob@example.com', 'tag:web'));
  t.true(mayTag('bob@example.com', 'tag:db'), 'owns tag:web, which owns tag:db');
  t.true(mayTag('ops@example.com', 'tag:db'));
  t.false(mayTag('ops@example.com', 'tag:web'));
  t.false(mayTag('bob@example.com', 'tag:unknown'));
  const { mayTag: circular } = compilePolicy(readPolicy('{"tagOwners": {"tag:a": ["tag:b"], "tag:b": ["tag:a", "x@y"]}}'));
  t.true(circular('x@y', 'tag:a'));
  t.false(circular('z@y', 'tag:a'));
});

test('replacing the policy is compare-and-set, and a bad one leaves the old in force', async (t) => {
  const { policies, journal, access, populate, stop } = await startNetwork();
  await populate({ hostname: 'a' }, { hostname: 'b' });
  const question = { source: 'a', destination: 'b', protocol: 6, port: 80 };
  t.like(policies.current, { version: 0, revision: 0, text: null, writtenAt: null });
  t.deepEqual(access.decide(question), { allowed: true, line: null, rule: null });

  const first = await policies.put('{"acls": []}', 0);
  t.deepEqual(access.decide(question), { allowed: false, line: null, rule: null });
  await t.throwsAsync(policies.put('{}', 0), { code: 'ERR_POLICY_CHANGED', message: /version 1, not 0/ });
  await t.throwsAsync(policies.put('{"acls": 1}', first.version), { code: 'ERR_POLICY_INVALID' });
  t.is(policies.current.text, '{"acls": []}');

  const second = await policies.put('{"acls": [\n{"action": "accept", "src": ["*"], "dst": ["*:80"]}]}', first.version);
  t.true(second.revision > first.revision);
  t.deepEqual(access.decide(question), { allowed: true, line: 2, rule: null });
  t.is((await journal.get('policy/current'))?.revision, second.revision);
  await t.notThrowsAsync(policies.put('{}', undefined));
  await stop();
});

test('a stored policy that cannot be read denies everything', async (t) => {
  const { journal, access, policies, replica, populate, stop } = await startNetwork();
  await populate({ hostname: 'a' }, { hostname: 'b' });
  await journal.commit({ puts: [{ key: 'policy/current', value: { text: '{"future": 1}', writtenAt: 1 } }] });
  await replica.caughtUp();
  t.false(access.decide({ source: 'a', destination: 'b', protocol: 6, port: 80 }).allowed);
  await policies.put('{}', undefined);
  t.true(access.decide({ source: 'a', destination: 'b', protocol: 6, port: 80 }).allowed);
  await stop();
});

test('questions take ids, names and addresses of either family', async (t) => {
  const { access, policies, register, stop } = await startNetwork();
  const a = await register({ hostname: 'a' });
  const b = await register({ hostname: 'b' });
  await policies.put(`{"acls": [{"action": "accept", "src": ["${a.record.ipv4}"], "dst": ["${b.record.ipv4}:22", "192.0.2.0/24:*"]}]}`, 0);
  const ask = (source: string, destination: string): boolean => access.decide({ source, destination, protocol: 6, port: 22 }).allowed;
  t.true(ask(a.id, b.id));
  t.true(ask('A', 'b'));
  t.true(ask(a.record.ipv4, 'b'));
  t.false(ask(a.record.ipv6, 'b'), 'an entry for IPv4 addresses says nothing of IPv6');
  t.true(ask('a', '192.0.2.7'));
  t.false(ask('b', '192.0.2.7'));
  t.false(ask('a', '2001:db8::1'));
  t.throws(() => ask('a', 'c'), { code: 'ERR_PEER_NOT_FOUND', message: /dst: "c"/ });
  t.throws(() => ask('192.0.2.7', '2001:db8::1'), { code: 'ERR_VALIDATION' });
  await stop();
});
