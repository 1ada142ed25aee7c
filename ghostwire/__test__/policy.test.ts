// The policy language: what is accepted, what is refused and where, and what it means.

import { AclEngine } from 'zqlite';
import test, { type ExecutionContext } from 'ava';
import { GhostwireError, type GhostwireErrorCode } from '../src/errors.js';
import { compilePolicy } from '../src/policy/compile.js';
import { readPolicy } from '../src/policy/document.js';
import { startNetwork } from './support/network.js';

const POLICY = `
// Who may reach whom.
{
  "groups": { "group:dev": ["ann@example.com", "Bob@Example.com"], "group:none": [] },
  "hosts": { "db": "100.64.0.9", "lab": "192.0.2.0/24" },
  "tagOwners": { "tag:web": ["group:dev"], "tag:db": ["ops@example.com", "tag:web"], },
  "acls": [
    { "action": "accept", "src": ["group:dev"], "dst": ["tag:web:80,443", "tag:db:5432"] },
    { "action": "accept", "src": ["tag:web"], "proto": "tcp", "dst": ["tag:db:5432", "db:8000-8999"] },
    { "action": "accept", "src": ["ops@example.com"], "dst": ["*:*", "lab:*"] }, /* ops may do anything */
  ],
}
`;

function refused(t: ExecutionContext, text: string, code: GhostwireErrorCode, line: number, column: number, message: RegExp): void {
  const error = t.throws(() => readPolicy(text), { instanceOf: GhostwireError });
  t.is(error.code, code, error.message);
  t.deepEqual([error.details['line'], error.details['column']], [line, column], error.message);
  t.regex(error.message, message);
}

test('comments and trailing commas are read', (t) => {
  const { groups, tagOwners, acls } = readPolicy(POLICY);
  t.deepEqual(groups.get('group:dev'), ['ann@example.com', 'bob@example.com']);
  t.deepEqual(tagOwners.get('tag:db'), ['ops@example.com', 'tag:web']);
  t.is(acls?.length, 3);
  t.is(acls?.[1]?.line, 9);
  t.deepEqual(acls?.[1]?.destinations[1], { target: { kind: 'network', text: '100.64.0.9' }, ports: [{ first: 8000, last: 8999 }] });
});

test('destinations end at the last colon', (t) => {
  const { acls } = readPolicy(
    '{"acls": [{"action": "accept", "src": ["*"], "dst": ["fd7a:115c:a1e0::1:22", "[2001:db8::/32]:*", "10.0.0.0/8:1-65535"]}]}',
  );
  t.deepEqual(acls?.[0]?.destinations, [
    { target: { kind: 'network', text: 'fd7a:115c:a1e0::1' }, ports: [{ first: 22, last: 22 }] },
    { target: { kind: 'network', text: '2001:db8::/32' }, ports: undefined },
    { target: { kind: 'network', text: '10.0.0.0/8' }, ports: [{ first: 1, last: 65_535 }] },
  ]);
});

test('syntax errors say where', (t) => {
  refused(t, '{\n  "acls": [\n    {"action" "accept"}\n  ]\n}', 'ERR_POLICY_SYNTAX', 3, 15, /colon expected/);
  refused(t, '', 'ERR_POLICY_SYNTAX', 1, 1, /value expected|empty/);
  refused(t, '{"acls": [}', 'ERR_POLICY_SYNTAX', 1, 11, /expected/);
  refused(t, '// only a comment', 'ERR_POLICY_SYNTAX', 1, 18, /./);
  refused(t, '{} {}', 'ERR_POLICY_SYNTAX', 1, 4, /end of file expected/);
  refused(t, '['.repeat(100_000), 'ERR_POLICY_SYNTAX', 1, 65, /nested/);
});

test('brackets in strings and comments are no nesting', (t) => {
  const brackets = '[{'.repeat(200);
  const text = `// ${brackets}\n/* ${brackets} */ {"hosts": {}, "groups": {"group:a": []}, "acls": [] }`;
  t.notThrows(() => readPolicy(text));
  t.throws(() => readPolicy(`{"hosts": {"a": "\\"${brackets}"}}`), { code: 'ERR_POLICY_INVALID' });
});

test('names that stand for nothing are refused with line and column', (t) => {
  const acl = (entry: string): string =>
    `{"groups": {"group:dev": []}, "hosts": {"db": "10.0.0.1"},\n"tagOwners": {"tag:web": []},\n${entry}]}`;
  /** @param at what the error points to: its only occurrence in the entry */
  const wrong = (entry: string, at: string, message: RegExp): void => {
    const line = `"acls": [${entry}`;
    refused(t, acl(line), 'ERR_POLICY_INVALID', 3, line.indexOf(at) + 1, message);
  };
  const rule = (src: string, dst: string): string => `{"action": "accept", "src": ["${src}"], "dst": ["${dst}"]}`;
  wrong(rule('group:dve', '*:*'), '"group:dve"', /acls\[0\]\.src: group not found: "group:dve"; did you mean "group:dev"/);
  wrong(rule('*', 'tag:wbe:80'), '"tag:wbe:80"', /tag not found: "tag:wbe"/);
  wrong(rule('*', 'bd:80'), '"bd:80"', /host "db"/);
  wrong(rule('ann@', '*:*'), '"ann@"', /user "ann@"/);
  wrong(rule('10.0.0.1/8', '*:*'), '"10.0.0.1/8"', /10\.0\.0\.1\/8/);
  wrong(rule('*', '*:ssh'), '"*:ssh"', /"ssh" is not a port/);
  wrong(rule('*', '*:90-80'), '"*:90-80"', /90-80/);
  wrong(rule('*', '*:65536'), '"*:65536"', /65536/);
  wrong(rule('*', 'db'), '"db"', /target:ports/);
  wrong('{"action": "deny", "src": [], "dst": []}', '"deny"', /"deny" is not a valid action/);
  wrong('{"action": "accept", "src": ["*"]}', '{"action"', /dst must be specified/);
  wrong('{"action": "accept", "source": ["*"], "dst": []}', '"source"', /unknown field "source"/);
  wrong('{"action": "accept", "src": "*", "dst": []}', '"*"', /must be an array/);
  wrong('{"action": "accept", "proto": "tpc", "src": [], "dst": []}', '"tpc"', /did you mean "tcp"/);
  wrong('{"action": "accept", "proto": "icmp", "src": ["*"], "dst": ["*:22"]}', '"*:22"', /no ports/);
});

test('sections: unknown, not yet known, twice, of the wrong type', (t) => {
  refused(t, '{"acl": []}', 'ERR_POLICY_INVALID', 1, 2, /unknown section "acl"; did you mean "acls"/);
  refused(t, '{\n"grants": []}', 'ERR_POLICY_UNSUPPORTED', 2, 1, /"grants" is not supported yet/);
  refused(
    t,
    '{"acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["*:*"]}]}',
    'ERR_POLICY_UNSUPPORTED',
    1,
    40,
    /autogroup:member/,
  );
  refused(t, '{"hosts": {"a": "10.0.0.1",\n "a": "10.0.0.2"}}', 'ERR_POLICY_INVALID', 2, 2, /twice/);
  refused(t, '[]', 'ERR_POLICY_INVALID', 1, 1, /must be an object/);
  refused(t, '{"groups": {"dev": []}}', 'ERR_POLICY_INVALID', 1, 13, /group:name/);
  refused(t, '{"groups": {"group:a": ["group:b"], "group:b": []}}', 'ERR_POLICY_INVALID', 1, 25, /recursive/);
  refused(t, '{"tagOwners": {"tag:сервер": []}}', 'ERR_POLICY_INVALID', 1, 16, /start with a letter/);
  refused(t, '{"tagOwners": {"tag:a": ["group:x"]}}', 'ERR_POLICY_INVALID', 1, 26, /group not found/);
  refused(t, '{"hosts": {"a": "10.0.0.0/7.5"}}', 'ERR_POLICY_INVALID', 1, 17, /not an address/);
});

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

test('no acls allows everything, empty acls nothing', (t) => {
  t.true(engineFor('{}').decide({ source: 1, destination: 3, protocol: 47, port: 0 }).allowed);
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
  const { policies, journal, access, register, stop } = await startNetwork();
  await register({ hostname: 'a' });
  await register({ hostname: 'b' });
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
  const { journal, access, policies, replica, register, stop } = await startNetwork();
  await register({ hostname: 'a' });
  await register({ hostname: 'b' });
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
  t.true(ask(a.record.ipv6, 'b'), 'any address of a peer is the peer');
  t.true(ask('a', '192.0.2.7'));
  t.false(ask('b', '192.0.2.7'));
  t.false(ask('a', '2001:db8::1'));
  t.throws(() => ask('a', 'c'), { code: 'ERR_PEER_NOT_FOUND', message: /dst: "c"/ });
  t.throws(() => ask('192.0.2.7', '2001:db8::1'), { code: 'ERR_VALIDATION' });
  await stop();
});
