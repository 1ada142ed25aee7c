// The policy language: what is accepted, what is refused, with which words and where.

import test, { type ExecutionContext } from 'ava';
import { GhostwireError, type GhostwireErrorCode } from '../src/errors.js';
import { readPolicy, type ReadOptions } from '../src/policy/document.js';
import { formatDuration, parseDuration } from '../src/policy/durations.js';
import { POLICY } from './support/policies.js';

const DEFINED = '"groups": {"group:dev": []}, "hosts": {"db": "10.0.0.1", "net": "10.0.0.0/8"}, "tagOwners": {"tag:web": []}';

/** @param reason the plane's words, whole; or a part of them */
function refused(
  t: ExecutionContext,
  text: string,
  code: GhostwireErrorCode,
  place: readonly [line: number, column: number],
  reason: string | RegExp,
  options?: ReadOptions,
): void {
  const error = t.throws(() => readPolicy(text, options), { instanceOf: GhostwireError }, text);
  t.is(error.code, code, error.message);
  t.deepEqual([error.details['line'], error.details['column']], place, error.message);
  t.true(error.message.startsWith(`line ${place[0]}, column ${place[1]}: ${String(error.details['reason'])}`), error.message);
  if (typeof reason === 'string') t.is(error.details['reason'], reason);
  else t.regex(error.message, reason);
}

/** An entry that is wrong at the only place where `at` stands in it. */
function wrongEntry(t: ExecutionContext, section: string, entry: string, at: string, reason: string | RegExp, options?: ReadOptions): void {
  const line = `"${section}": [${entry}]`;
  refused(t, `{${DEFINED},\n${line}}`, 'ERR_POLICY_INVALID', [2, line.indexOf(at) + 1], reason, options);
}

test('comments and trailing commas are read', (t) => {
  const { groups, tagOwners, grants } = readPolicy(POLICY);
  t.deepEqual(groups.get('group:dev'), ['ann@example.com', 'bob@example.com']);
  t.deepEqual(tagOwners.get('tag:db'), ['ops@example.com', 'tag:web']);
  t.deepEqual(grants?.map(({ line }) => line), [8, 8, 9, 9, 10, 10]);
  t.like(grants?.[3], {
    destinations: [{ kind: 'network', alias: 'db' }],
    services: [{ protocol: 6, ports: [{ first: 8000, last: 8999 }] }],
  });
});

test('destinations end at the last colon', (t) => {
  const { grants } = readPolicy(
    '{"acls": [{"action": "accept", "src": ["*"], "dst": ["fd7a:115c:a1e0::1:22", "[2001:db8::]/32:*", "10.0.0.0/8:1-65535"]}]}',
  );
  t.deepEqual(
    grants?.map(({ destinations, services }) => [destinations[0]?.text, services[0]?.ports]),
    [
      ['fd7a:115c:a1e0::1', [{ first: 22, last: 22 }]],
      ['2001:db8::/32', [{ first: 0, last: 65_535 }]],
      ['10.0.0.0/8', [{ first: 1, last: 65_535 }]],
    ],
  );
});

test('sections and fields in any case, older names of fields, null as absent', (t) => {
  const { grants } = readPolicy('{"ACLs": [{"Action": "accept", "Users": ["*"], "Ports": ["*:22"]}], "grants": null, "ssh": null}');
  t.is(grants?.length, 1);
  t.is(readPolicy('{"acls": null}').grants, undefined, 'null is absent, which allows everything');
  t.deepEqual(readPolicy('{"acls": []}').grants, []);
  t.deepEqual(readPolicy('{"grants": []}').grants, []);
});

test('syntax errors say where', (t) => {
  refused(t, '{\n  "acls": [\n    {"action" "accept"}\n  ]\n}', 'ERR_POLICY_SYNTAX', [3, 15], 'colon expected');
  refused(t, '', 'ERR_POLICY_SYNTAX', [1, 1], /value expected|empty/);
  refused(t, '{"acls": [}', 'ERR_POLICY_SYNTAX', [1, 11], /expected/);
  refused(t, '// only a comment', 'ERR_POLICY_SYNTAX', [1, 18], /./);
  refused(t, '{} {}', 'ERR_POLICY_SYNTAX', [1, 4], 'end of file expected');
});

test('sections: unknown, not of this version, twice, of the wrong type', (t) => {
  refused(t, '{"acl": []}', 'ERR_POLICY_INVALID', [1, 2], /unknown field "acl" in the policy; did you mean "acls"\?/);
  refused(t, '{\n"ipsets": {}}', 'ERR_POLICY_UNSUPPORTED', [2, 11], 'section "ipsets" is not supported');
  refused(t, '{"hosts": {"a": "10.0.0.1",\n "a": "10.0.0.2"}}', 'ERR_POLICY_INVALID', [2, 2], 'hosts has the key "a" twice');
  refused(t, '{"acls": [], "ACLS": []}', 'ERR_POLICY_INVALID', [1, 14], 'the policy has the field "acls" twice');
  refused(t, '[]', 'ERR_POLICY_INVALID', [1, 1], 'the policy must be an object');
  refused(t, '{"acls": {}}', 'ERR_POLICY_INVALID', [1, 10], 'acls must be an array');
});

test('groups, hosts, tagOwners, autoApprovers', (t) => {
  refused(t, '{"groups": {"dev": []}}', 'ERR_POLICY_INVALID', [1, 13], /group:name/);
  refused(
    t,
    '{"groups": {"group:a": ["group:b"], "group:b": ["group:a"]}}',
    'ERR_POLICY_INVALID',
    [1, 25],
    'groups["group:a"]: "group:b": group members cannot be recursive',
  );
  refused(t, '{"groups": {"group:a": ["ann"]}}', 'ERR_POLICY_INVALID', [1, 25], /a member of a group is a user/);
  refused(t, '{"hosts": {"a": "10.0.0.0/7.5"}}', 'ERR_POLICY_INVALID', [1, 17], 'hosts["a"]: "10.0.0.0/7.5": invalid address');
  refused(t, '{"hosts": {"a": "10.0.0.1/8"}}', 'ERR_POLICY_INVALID', [1, 17], /prefix has bits set after its length/);
  const mapped = 'IPv4-mapped IPv6; write 10.0.0.0/8';
  refused(t, '{"hosts": {"a": "::ffff:a00:0/104"}}', 'ERR_POLICY_INVALID', [1, 17], `hosts["a"]: "::ffff:a00:0/104": ${mapped}`);
  refused(t, '{"hosts": {"1.2.3.4": "10.0.0.1"}}', 'ERR_POLICY_INVALID', [1, 12], /is no address/);
  refused(
    t,
    '{"tagOwners": {"tag:сервер": []}}',
    'ERR_POLICY_INVALID',
    [1, 16],
    `tagOwners["tag:сервер"]: tag names must start with a letter, after 'tag:'`,
  );
  refused(t, '{"tagOwners": {"tag:a_b": []}}', 'ERR_POLICY_INVALID', [1, 16], /tag names can only contain numbers, letters, or dashes/);
  refused(t, '{"tagOwners": {"web": []}}', 'ERR_POLICY_INVALID', [1, 16], /tags must start with 'tag:'/);
  refused(t, '{"tagOwners": {"tag:a": ["group:x"]}}', 'ERR_POLICY_INVALID', [1, 26], 'tagOwners["tag:a"]: group not found: "group:x"');
  refused(t, '{"tagOwners": {"tag:a": ["tag:b"]}}', 'ERR_POLICY_INVALID', [1, 26], 'tagOwners["tag:a"]: tag not found: "tag:b"');
  const approvers = (routes: string): string => `{${DEFINED}, "autoApprovers": {"routes": {${routes}}}}`;
  t.deepEqual(readPolicy(approvers('"10.0.0.0/8": ["tag:web"]')).autoApprovers.routes[0]?.approvers, ['tag:web']);
  t.regex(t.throws(() => readPolicy(approvers('"10.0.0.1/8": []'))).message, /bits set after its length/);
  t.true(t.throws(() => readPolicy(approvers('"::ffff:10.0.0.0/104": []'))).message.endsWith(`autoApprovers.routes["::ffff:10.0.0.0/104"]: ${mapped}`));
  t.regex(t.throws(() => readPolicy(approvers('"10.0.0.0/8": ["tag:wbe"]'))).message, /tag not found: "tag:wbe"; did you mean "tag:web"/);
});

test('acls: the words of the plane, the place in the text', (t) => {
  const rule = (src: string, dst: string): string => `{"action": "accept", "src": ["${src}"], "dst": ["${dst}"]}`;
  const wrong = (entry: string, at: string, reason: string | RegExp): void => wrongEntry(t, 'acls', entry, at, reason);
  wrong(rule('tag:nope', '*:*'), '"tag:nope"', 'src=tag not found: "tag:nope"');
  wrong(rule('*', 'tag:nope:22'), '"tag:nope:22"', 'dst="tag:nope": tag not found: "tag:nope"');
  wrong(rule('group:dve', '*:*'), '"group:dve"', /src=group not found: "group:dve"; did you mean "group:dev"/);
  wrong(rule('*', 'bd:80'), '"bd:80"', /did you mean "db"/);
  wrong(rule('10.0.0.1/8', '*:*'), '"10.0.0.1/8"', /bits set after its length/);
  wrong(rule('::ffff:10.0.0.1', '*:*'), '"::ffff:10.0.0.1"', 'src="::ffff:10.0.0.1": IPv4-mapped IPv6; write 10.0.0.1');
  wrong(rule('*', '[::ffff:a00:0]/104:*'), '"[::ffff:a00:0]/104:*"', /: IPv4-mapped IPv6; write 10\.0\.0\.0\/8/);
  wrong(rule('autogroup:self', '*:*'), '"autogroup:self"', '"autogroup:self" not valid on the src side of a rule');
  wrong(rule('autogroup:internet', '*:*'), '"autogroup:internet"', '"autogroup:internet" not valid on the src side of a rule');
  wrong(rule('*', 'autogroup:danger-all:*'), '"autogroup:danger-all:*"', 'cannot use autogroup:danger-all as a dst');
  wrong(
    rule('tag:web', 'autogroup:self:*'),
    '"autogroup:self:*"',
    'autogroup:self can only be used with users, groups, or supported autogroups',
  );
  wrong(rule('*', 'autogroup:self'), '"autogroup:self"', 'dst="autogroup:self": port range "self": invalid first integer');
  wrong(rule('*', 'tag:web:ssh'), '"tag:web:ssh"', 'dst="tag:web:ssh": port range "ssh": invalid first integer');
  wrong(rule('*', '*:90-x'), '"*:90-x"', 'dst="*:90-x": port range "90-x": invalid last integer');
  wrong(rule('*', '*:90-80'), '"*:90-80"', /first port is greater/);
  wrong(rule('*', '*:65536'), '"*:65536"', /invalid first integer/);
  wrong(rule('*', 'db'), '"db"', 'dst="db": hostport must contain a colon (":")');
  wrong('{"action": "deny", "src": [], "dst": []}', '"deny"', 'action="deny" is not supported');
  wrong('{"src": [], "dst": []}', '{"src"', 'action must be specified');
  wrong('{"action": "accept", "source": ["*"], "dst": []}', '"source"', 'unknown field "source"');
  wrong('{"action": "accept", "src": "*", "dst": []}', '"*"', 'acls[0].src must be an array');
  wrong('{"action": "accept", "src": [1], "dst": []}', '1', 'acls[0].src must be a string');
  wrong('{"action": "accept", "proto": "tpc", "src": [], "dst": []}', '"tpc"', /proto name "tpc" not known/);
  wrong('{"action": "accept", "proto": "*", "src": [], "dst": []}', '"*"', /proto name "\*" not known/);
  wrong('{"action": "accept", "proto": "06", "src": [], "dst": []}', '"06"', /leading 0 not permitted/);
  wrong('{"action": "accept", "proto": "256", "src": [], "dst": []}', '"256"', /256/);
  wrong('{"action": "accept", "proto": "icmp", "src": ["*"], "dst": ["*:22"]}', '"*:22"', /no ports/);
});

test('grants: the words of the plane, the place in the text', (t) => {
  const wrong = (entry: string, at: string, reason: string | RegExp): void => wrongEntry(t, 'grants', entry, at, reason);
  wrong('{"src": ["*"], "dst": ["*"]}', '{"src"', 'ip and app can not both be empty');
  wrong('{"src": ["*"], "dst": ["*"], "app": {}}', '{"src"', 'ip and app can not both be empty');
  wrong('{"src": ["tag:nope"], "dst": ["*"], "ip": ["*"]}', '"tag:nope"', 'src=tag not found: "tag:nope"');
  wrong('{"src": ["*"], "dst": ["tag:nope"], "ip": ["*"]}', '"tag:nope"', 'dst=tag not found: "tag:nope"');
  wrong('{"src": ["*"], "dst": ["autogroup:self"], "ip": ["*"]}', '"autogroup:self"', /autogroup:self can only be used with users/);
  wrong('{"src": ["*"], "dst": ["autogroup:danger-all"], "ip": ["*"]}', '"autogroup:danger-all"', 'cannot use autogroup:danger-all as a dst');
  wrong('{"src": [], "dst": [], "app": {"https://a.b/c": []}}', '"https', 'capability name must have the form {domain}/{path}');
  wrong('{"src": [], "dst": [], "app": {"a": []}}', '"a"', 'capability name must have the form {domain}/{path}');
  wrong(
    '{"src": [], "dst": [], "app": {"tailscale.com/cap/ingress": []}}',
    '"tailscale.com',
    'capability name must not be in the tailscale.com domain',
  );
  wrong(
    '{"src": ["*"], "dst": ["autogroup:internet"], "app": {"a.b/c": [{}]}}',
    '"autogroup:internet"',
    'cannot use app grants with autogroup:internet',
  );
  wrong(
    '{"src": ["*"], "dst": ["::/0"], "ip": ["*"]}',
    '"::/0"',
    'dst "::/0": to allow all IP addresses, use "*" or "autogroup:internet"',
  );
  wrong('{"src": ["*"], "dst": ["*"], "ip": ["tcp:22:23"]}', '"tcp:22:23"', /expected only one colon in Internet protocol and port type/);
  wrong('{"src": ["*"], "dst": ["*"], "ip": ["ssh"]}', '"ssh"', 'port range "ssh": invalid first integer');
  wrong('{"src": ["*"], "dst": ["10.0.0.0/8"], "ip": ["*"], "via": ["group:dev"]}', '"group:dev"', 'via can only be a tag');
  wrong('{"src": ["*"], "dst": ["10.0.0.0/8"], "ip": ["*"], "via": ["tag:nope"]}', '"tag:nope"', 'tag "tag:nope" not found');
  wrong('{"action": "accept", "src": ["*"], "dst": ["*"], "ip": ["*"]}', '"action"', 'unknown field "action"');
});

test('ssh: the words of the plane, the place in the text', (t) => {
  const entry = (fields: string): string => `{"action": "check", "src": ["ann@example.com"], "dst": ["tag:web"], "users": ["root"], ${fields}}`;
  const wrong = (text: string, at: string, reason: string | RegExp): void =>
    wrongEntry(t, 'ssh', text, at, reason, { domains: new Set(['example.com']) });
  wrong('{"src": [], "dst": [], "users": ["root"]}', '{"src"', 'action must be specified');
  wrong('{"action": "deny", "src": [], "dst": [], "users": ["root"]}', '"deny"', '"deny" is not a valid action');
  wrong('{"action": "accept", "src": [], "dst": []}', '{"action"', 'users must be specified');
  wrong('{"action": "accept", "users": ["*"]}', '"*"', 'user "*" is not valid');
  wrong('{"action": "accept", "users": ["root", ""]}', '""', 'user "" is not valid');
  wrong(
    '{"action": "accept", "users": ["localpart:*@other.org"]}',
    '"localpart',
    'other.org is not associated with this Tailnet and cannot be used in user:*@<domain> expressions',
  );
  wrong(
    '{"action": "accept", "src": ["user:*@other.org"], "users": ["root"]}',
    '"user:',
    '[ssh] other.org is not associated with this Tailnet and cannot be used in user:*@<domain> expressions',
  );
  wrong('{"action": "accept", "dst": ["db"], "users": ["root"]}', '"db"', 'invalid dst "db"');
  wrong('{"action": "accept", "dst": ["*"], "users": ["root"]}', '"*"', 'invalid dst "*"');
  wrong('{"action": "accept", "src": ["db"], "users": ["root"]}', '"db"', 'invalid src "db"');
  wrong('{"action": "accept", "src": ["tag:web"], "dst": ["autogroup:self"], "users": ["root"]}', '"autogroup:self"', /tagged machines/);
  wrong(
    '{"action": "accept", "src": ["ann@example.com"], "dst": ["bob@example.com"], "users": ["root"]}',
    '"bob@',
    /only be logged in to by that user/,
  );
  wrong(entry('"acceptEnv": [""]'), '""', 'acceptEnv values cannot be empty');
  wrong(entry('"checkPeriod": "abc"'), '"abc"', 'time: invalid duration "abc"');
  wrong(entry('"checkPeriod": "-1m"'), '"-1m"', 'checkPeriod -1m0s must be a positive duration');
  wrong(entry('"checkPeriod": "168h0m1s"'), '"168h0m1s"', 'checkPeriod 168h0m1s is above the max (168h)');
  wrong('{"action": "accept", "users": ["root"], "checkPeriod": "1h"}', '"1h"', 'checkPeriod is only valid with action "check"');
  t.is(readPolicy(`{${DEFINED}, "ssh": [${entry('"checkPeriod": "168h"')}]}`).ssh[0]?.checkPeriod, 604_800_000_000_000n);
});

test('what is of the language and not of this version says so', (t) => {
  const entry = (src: string, dst: string): string => `{"grants": [\n{"src": ["${src}"], "dst": ["${dst}"], "ip": ["443"]}]}`;
  refused(t, entry('*', 'svc:web'), 'ERR_POLICY_UNSUPPORTED', [2, 24], 'dst="svc:web": services are not supported');
  refused(t, entry('ipset:prod', '*'), 'ERR_POLICY_INVALID', [2, 10], 'src=ipset not found: "ipset:prod"');
  refused(t, '{"acls": [{"action": "accept", "src": ["*"], "dst": ["svc:web:443"]}]}', 'ERR_POLICY_UNSUPPORTED', [1, 54], /services are not supported/);
});

test('nodeAttrs and sshTests', (t) => {
  const pool = (text: string): string => `{"target": ["*"], "ipPool": ["${text}"]}`;
  wrongEntry(t, 'nodeAttrs', pool('100.64.0.1/16'), '"100.64.0.1/16"', '"100.64.0.1/16": invalid prefix');
  wrongEntry(t, 'nodeAttrs', pool('10.0.0.0/16'), '"10.0.0.0/16"', 'ipPool "10.0.0.0/16" is not within 100.64.0.0/10');
  wrongEntry(t, 'nodeAttrs', pool('::ffff:100.80.0.0/112'), '"::ffff:100.80.0.0/112"', '"::ffff:100.80.0.0/112": IPv4-mapped IPv6; write 100.80.0.0/16');
  wrongEntry(t, 'nodeAttrs', pool('100.100.0.0/16'), '"100.100.0.0/16"', 'ipPool "100.100.0.0/16" overlaps reserved range 100.100.0.0-100.100.0.255');
  t.notThrows(() => readPolicy(`{"nodeAttrs": [${pool('100.81.0.0/16')}]}`));
  wrongEntry(t, 'nodeAttrs', '{"target": ["%bogus%"], "attr": ["a"]}', '"%bogus%"', '"%bogus%": invalid address');
  wrongEntry(t, 'nodeAttrs', '{"target": ["autogroup:self"], "attr": ["a"]}', '"autogroup:self"', /not valid as a target/);
  wrongEntry(t, 'sshTests', '{"src": "a@b", "dst": ["tag:web:22"]}', '"tag:web:22"', 'SSH tests dst contains unknown tag "tag:web:22"');
  wrongEntry(t, 'sshTests', '{"src": "a@b", "dst": ["net"]}', '"net"', 'SSH tests dst contains disallowed element "net"');
  wrongEntry(
    t,
    'sshTests',
    '{"src": "a@b", "dst": ["autogroup:internet"]}',
    '"autogroup:internet"',
    'SSH tests dst contains disallowed element "autogroup:internet"',
  );
});

test('durations as Go reads and writes them', (t) => {
  for (const [text, value, again] of [
    ['1h30m', 5_400_000_000_000n, '1h30m0s'],
    ['90m', 5_400_000_000_000n, '1h30m0s'],
    ['1.5s', 1_500_000_000n, '1.5s'],
    ['-2m', -120_000_000_000n, '-2m0s'],
    ['0', 0n, '0s'],
    ['1ms', 1_000_000n, '1ms'],
    ['1500us', 1_500_000n, '1.5ms'],
    ['.5h', 1_800_000_000_000n, '30m0s'],
  ] as const) {
    t.is(parseDuration(text), value, text);
    t.is(formatDuration(value), again);
  }
  for (const [text, message] of [
    ['', 'time: invalid duration ""'],
    ['1', 'time: missing unit in duration "1"'],
    ['1d', 'time: unknown unit "d" in duration "1d"'],
    ['h', 'time: invalid duration "h"'],
    ['.h', 'time: invalid duration ".h"'],
    ['9999999999h', 'time: invalid duration "9999999999h"'],
  ] as const)
    t.throws(() => parseDuration(text), { message });
});
