// Policies that mean harm, or are written by accident: a clear error, no crash, and not much time.

import test, { type ExecutionContext } from 'ava';
import { AclEngine } from 'zqlite';
import { GhostwireError } from '../src/errors.js';
import { failedTests } from '../src/policy/applied.js';
import { answerCase, parseCase } from '../src/policy/cases.js';
import { compilePolicy } from '../src/policy/compile.js';
import { readPolicy } from '../src/policy/document.js';
import { Tailnet, type TailnetNode } from '../src/policy/tailnet.js';
import { startNetwork } from './support/network.js';

/** @returns the error's message */
function refused(t: ExecutionContext, text: string, code: string, message: RegExp): string {
  const error = t.throws(() => readPolicy(text), { instanceOf: GhostwireError, code, message }, text.slice(0, 100));
  t.true(error.message.length < 600, 'an error does not repeat what it was given');
  t.true(Number.isInteger(error.details['line']) && Number.isInteger(error.details['column']), error.message);
  return error.message;
}

/** Generous, since machines are slow and shared: what is meant is not minutes. */
function quick<T>(t: ExecutionContext, what: string, run: () => T): T {
  const start = performance.now();
  const result = run();
  const taken = performance.now() - start;
  t.log(`${what}: ${Math.round(taken)} ms`);
  t.true(taken < 20_000, what);
  return result;
}

test('size', (t) => {
  t.timeout(120_000);
  quick(t, '10 MB of one string', () => refused(t, `{"acls": "${'x'.repeat(10_000_000)}"}`, 'ERR_POLICY_SYNTAX', /at most 8388608 are read/));
  quick(t, '8 MB of one string', () => refused(t, `{"acls": "${'x'.repeat(8_000_000)}"}`, 'ERR_POLICY_INVALID', /acls must be an array/));
  quick(t, '8 MB of one key', () => refused(t, `{"${'x'.repeat(8_000_000)}": 1}`, 'ERR_POLICY_INVALID', /unknown field "x{120}…"/));
  quick(t, '8 MB of a source', () =>
    refused(t, `{"acls": [{"action": "accept", "src": ["${'x'.repeat(8_000_000)}"], "dst": []}]}`, 'ERR_POLICY_INVALID', /invalid address/));
  quick(t, '500 KB of commas', () => refused(t, `[${','.repeat(500_000)}]`, 'ERR_POLICY_SYNTAX', /./));
  quick(t, '20,000 entries that mean something', () => {
    const entry = '{"action": "accept", "src": ["*"], "dst": ["10.0.0.1:22"]}';
    const { rules } = compilePolicy(readPolicy(`{"acls": [${Array.from({ length: 20_000 }, () => entry).join()}]}`));
    t.is(rules.length, 40_000);
  });
  quick(t, 'a wrong entry at the end of many lines', () => {
    const message = refused(t, `{"acls": [\n${'{"action": "accept", "src": [], "dst": []},\n'.repeat(20_000)}{}]}`, 'ERR_POLICY_INVALID', /action must be/);
    t.true(message.startsWith('line 20002, column 1:'));
  });
});

test('nesting', (t) => {
  refused(t, '['.repeat(1_000_000), 'ERR_POLICY_SYNTAX', /nested more than 64 levels deep/);
  refused(t, '{"a":'.repeat(1_000_000), 'ERR_POLICY_SYNTAX', /nested/);
  const brackets = '[{'.repeat(200);
  t.notThrows(() => readPolicy(`// ${brackets}\n/* ${brackets} */ {"hosts": {}, "acls": [] }`), 'not in comments');
  refused(t, `{"hosts": {"a": "\\"${brackets}"}}`, 'ERR_POLICY_INVALID', /invalid address/);
});

test('one entry with many sources and destinations is as large as their sum', (t) => {
  const many = (count: number, of: (index: number) => string): string => JSON.stringify(Array.from({ length: count }, (_, index) => of(index)));
  const ip = (index: number): string => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
  const policy = `{"acls": [{"action": "accept", "src": ${many(5_000, ip)}, "dst": ${many(5_000, (index) => `${ip(index)}:22`)}}]}`;
  const { rules } = quick(t, '5,000 by 5,000', () => compilePolicy(readPolicy(policy)));
  t.true(rules.length < 10);
  const nodes = { a: { ipv4: '10.0.0.1' }, b: { ipv4: '10.0.0.2' } };
  t.true('nodes' in quick(t, 'answered', () => answerCase({ id: 'x', policy, topology: { users: [], nodes } })));
});

test('chains and cycles of tag owners', (t) => {
  const owners = Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`tag:t${index}`, [`tag:t${index + 1}`]]));
  const policy = JSON.stringify({ tagOwners: { ...owners, 'tag:t20000': ['ann@example.com', 'tag:t0'] } });
  const { mayTag } = quick(t, '20,000 tags', () => compilePolicy(readPolicy(policy)));
  t.true(quick(t, 'through all of them', () => mayTag('ann@example.com', 'tag:t0')));
  t.false(mayTag('bob@example.com', 'tag:t0'));
  refused(t, '{"groups": {"group:a": ["group:a"]}}', 'ERR_POLICY_INVALID', /group members cannot be recursive/);
});

test('duplicate keys, whatever they look like in the text', (t) => {
  refused(t, '{"groups": {"group:a": [], "group:a": []}}', 'ERR_POLICY_INVALID', /twice/);
  refused(t, '{"tagOwners": {"tag:a": [], "tag:\\u0061": []}}', 'ERR_POLICY_INVALID', /twice/);
  refused(t, '{"acls": [], "\\u0061cls": []}', 'ERR_POLICY_INVALID', /twice/);
  refused(t, '{"acls": [{"action": "accept", "src": [], "src": [], "dst": []}]}', 'ERR_POLICY_INVALID', /twice/);
  refused(t, '{"acls": [{"action": "accept", "src": [], "users": [], "dst": []}]}', 'ERR_POLICY_INVALID', /twice/);
  refused(t, '{"grants": [{"src": [], "dst": [], "app": {"a.b/c": [{"x": 1, "x": 2}]}}]}', 'ERR_POLICY_INVALID', /twice/);
});

test('names of things that every object has', (t) => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    refused(t, `{"${name}": {}}`, 'ERR_POLICY_INVALID', /unknown field/);
    refused(t, `{"acls": [{"action": "accept", "src": ["${name}"], "dst": []}]}`, 'ERR_POLICY_INVALID', /invalid address/);
    refused(t, `{"acls": [{"action": "accept", "${name}": 1, "src": [], "dst": []}]}`, 'ERR_POLICY_INVALID', /unknown field/);
  }
  const policy = '{"ssh": [{"action": "accept", "src": ["a@b"], "dst": ["tag:t"], "users": ["__proto__"]}], "tagOwners": {"tag:t": []}}';
  const nodes = { a: { user: 'a', ipv4: '100.64.0.1' }, t: { tags: ['tag:t'], ipv4: '100.64.0.2' } };
  const answer = answerCase({ id: 'x', policy, topology: { users: [{ id: 1, name: 'a', email: 'a@b' }], nodes } });
  t.true(JSON.stringify(answer).includes('"__proto__":"__proto__"'));
});

test('names that look like others', (t) => {
  const defined = '"groups": {"group:ops": []}, "tagOwners": {"tag:web": []}, "hosts": {"db": "10.0.0.1"}';
  const source = (name: string): string => `{${defined}, "acls": [{"action": "accept", "src": ["${name}"], "dst": []}]}`;
  t.notThrows(() => readPolicy(source('tag:web')));
  t.notThrows(() => readPolicy(source(' tag:web ')), 'blanks around a name are no part of it');
  for (const name of ['tag:wеb', 'tag:WEB', 'Tag:web', 'group:οps', 'group:Ops', 'dЬ', 'DB', 'tag:web\\u200b', 'tag:web\\u0000', 'аutogroup:member', 'autogroup:Member', '＊', '１０.0.0.1'])
    refused(t, source(name), 'ERR_POLICY_INVALID', /not found|invalid address/);
  refused(t, '{"tagOwners": {"tag:wеb": []}}', 'ERR_POLICY_INVALID', /numbers, letters, or dashes/);
  t.deepEqual(readPolicy('{"groups": {"group:a": ["Ann@Example.COM"]}}').groups.get('group:a'), ['ann@example.com'], 'users have no case');
});

test('addresses with host bits, leading zeros and other disguises', (t) => {
  const source = (text: string): string => `{"acls": [{"action": "accept", "src": ["${text}"], "dst": []}]}`;
  for (const text of ['10.0.0.1/8', 'fd7a::1/64']) refused(t, source(text), 'ERR_POLICY_INVALID', /bits set after its length/);
  for (const text of ['010.0.0.1', '10.0.0', '0x0a000001', '167772161', '10.0.0.1/33', '10.0.0.0/08', 'fd7a::1%eth0', '::1::', '10.0.0.0/-1', '[::1]'])
    refused(t, source(text), 'ERR_POLICY_INVALID', /invalid address/);
});

test('numbers that are none', (t) => {
  const to = (ports: string): string => `{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:${ports}"]}]}`;
  for (const ports of ['', '-1', '1-', '1e3', '65536', '22,', ' 22', '99999999999999999999', '0x16', '٢٢']) refused(t, to(ports), 'ERR_POLICY_INVALID', /port range/);
  t.is(readPolicy(to(Array.from({ length: 10_000 }, (_, index) => index + 1).join())).grants?.[0]?.services[0]?.ports.length, 10_000);
});

test('many tests of many peers take time for what they name', (t) => {
  const nodes: TailnetNode[] = Array.from({ length: 20_000 }, (_, index) => ({
    name: `n${index}`,
    user: index % 2 === 0 ? `u${index % 2000}@example.com` : null,
    tags: index % 2 === 0 ? [] : [`tag:t${index % 100}`],
    addresses: [{ family: 4, value: 0x6440_0000n + BigInt(index), length: 32 }],
    routes: [],
    offered: 0,
  }));
  const tagOwners = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`tag:t${index}`, []]));
  const acls = Array.from({ length: 2000 }, (_, index) => ({ action: 'accept', src: [`u${index - (index % 2)}@example.com`], dst: [`tag:t${(index % 50) * 2 + 1}:${1000 + index}`] }));
  const tests = Array.from({ length: 200 }, (_, index) => ({ src: `u${index * 2}@example.com`, accept: [`tag:t${((index * 2) % 50) * 2 + 1}:${1000 + index * 2}`], deny: ['tag:t1:1'] }));
  const document = readPolicy(JSON.stringify({ tagOwners, acls, tests }));
  const users = [...new Set(nodes.flatMap(({ user }) => user ?? []))].map((login) => ({ login, name: login, roles: [] }));
  t.deepEqual(quick(t, '200 tests, 2,000 entries, 20,000 peers', () => failedTests(document, new Tailnet(users, nodes, document.groups))).slice(0, 3), []);
});

test('the engine takes whatever compiles', (t) => {
  const { rules, subject } = compilePolicy(readPolicy('{"acls": [{"action": "accept", "src": ["user:*@a.b", "*", "10.0.0.0/8"], "dst": ["autogroup:internet:*", "fd7a::/16:1-2,9"]}]}'));
  const engine = new AclEngine();
  t.notThrows(() => engine.setRules([...rules]));
  t.notThrows(() => engine.putPeers([{ id: 1, addresses: ['100.64.0.1'], ...subject({ user: 'x@a.b', tags: [], approvedRoutes: ['0.0.0.0/0', '::/0', '10.1.0.0/16'] }) }]));
});

test('cases that are no cases', (t) => {
  for (const line of ['', '1', '{}', '{"id": "x", "policy": 1, "topology": {}}', '{"id": "x", "policy": "", "topology": {"users": [], "nodes": {"a": {"tags": "x"}}}}'])
    t.throws(() => parseCase(line), { code: 'ERR_VALIDATION' }, line);
  const nodes = { a: { ipv4: '100.64.0.300' } };
  t.throws(() => answerCase({ id: 'x', policy: '{}', topology: { users: [], nodes } }), { code: 'ERR_VALIDATION', message: /100\.64\.0\.300/ });
});

test('a policy that is refused leaves the old one in force', async (t) => {
  const { policies, stop } = await startNetwork();
  await policies.put('{"acls": []}', undefined);
  for (const text of ['{', '{"acls": [{}]}', '['.repeat(100_000), '{"acls": [], "ACLS": []}', '{"tagOwners": {"tag:wеb": []}}'])
    await t.throwsAsync(policies.put(text, undefined), { instanceOf: GhostwireError, message: /^line 1, column / });
  t.is(policies.current.text, '{"acls": []}');
  await stop();
});
