// Dry runs against the plainest way to know: ask about every pair, protocol and port before and after.

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { AccessDifference } from '../src/policy/preview.js';
import { startNetwork, type TestNetwork } from './support/network.js';

const PORTS = [0, 22, 23, 79, 80, 81, 443, 65_535];
const PROTOCOLS = [1, 6, 17, 99];
/** Behind the router, and beside it. */
const HOSTS = ['10.0.0.1', '10.0.0.200', '10.0.7.7'];

/** What passes, as `from>to protocol/port`. */
function everything({ engine, directory }: TestNetwork): Set<string> {
  const ends = [...directory.all()].map(({ record }) => ({ name: record.name, address: record.ipv4 }));
  const found = new Set<string>();
  const all = [...ends, ...HOSTS.map((address) => ({ name: address, address }))];
  for (const from of all) {
    for (const to of all) {
      if (from === to || (HOSTS.includes(from.name) && HOSTS.includes(to.name))) continue;
      for (const protocol of PROTOCOLS) {
        for (const port of PORTS) {
          if (engine.decideAddresses({ source: from.address, destination: to.address, protocol, port }).allowed) found.add(`${from.name}>${to.name} ${protocol}/${port}`);
        }
      }
    }
  }
  return found;
}

const within = (address: string, subnets: readonly string[]): boolean =>
  subnets.some((subnet) => {
    const number = (text: string): number => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
    const [first = '', last] = subnet.split('-');
    if (last !== undefined) return number(first) <= number(address) && number(address) <= number(last);
    const [base = '', length = '32'] = first.split('/');
    const size = 2 ** (32 - Number(length));
    return Math.floor(number(base) / size) === Math.floor(number(address) / size);
  });

/** The changes spelled out in the same way. */
function spelled({ changes }: AccessDifference, what: 'gained' | 'lost'): Set<string> {
  const found = new Set<string>();
  for (const change of changes) {
    const ends = ({ names, subnets }: typeof change.sources): string[] => [...names, ...HOSTS.filter((host) => within(host, subnets))];
    for (const from of ends(change.sources)) {
      for (const to of ends(change.destinations)) {
        if (from === to || (HOSTS.includes(from) && HOSTS.includes(to))) continue;
        for (const { protocols, ports } of change[what]) {
          for (const protocol of PROTOCOLS.filter((one) => protocols.length === 0 || protocols.includes(one))) {
            for (const port of PORTS.filter((one) => ports.length === 0 || ports.some(([first, last]) => first <= one && one <= last)))
              found.add(`${from}>${to} ${protocol}/${port}`);
          }
        }
      }
    }
  }
  return found;
}

const less = (a: ReadonlySet<string>, b: ReadonlySet<string>): string[] => [...a].filter((item) => !b.has(item)).sort();

const target = fc.constantFrom('*', 'group:dev', 'tag:web', 'u0@x', 'u1@x', '100.64.0.2', '10.0.0.0/25', '10.0.0.0/16');
const entry = fc.record({
  sources: fc.array(target, { minLength: 1, maxLength: 2 }),
  destinations: fc.array(
    fc.tuple(target, fc.constantFrom('*', '22', '80-81', '22,443')).map(([host, ports]) => `${host}:${ports}`),
    { minLength: 1, maxLength: 2 },
  ),
});
const policy = fc
  .record({ members: fc.subarray(['u0@x', 'u1@x', 'u2@x']), entries: fc.array(entry, { maxLength: 4 }), open: fc.boolean() })
  .map(({ members, entries, open }) =>
    JSON.stringify({
      groups: { 'group:dev': members },
      tagOwners: { 'tag:web': [] },
      ...(open && entries.length === 0 ? {} : { acls: entries.map(({ sources, destinations }) => ({ action: 'accept', src: sources, dst: destinations })) }),
    }),
  );

async function populated(): Promise<TestNetwork> {
  const network = await startNetwork();
  await network.populate(
    ...[0, 1, 2, 3].map((index) => ({ hostname: 'h', user: `u${index}@x` })),
    { hostname: 'web', user: 'u0@x', tags: ['tag:web'] },
    { hostname: 'router', user: 'u2@x', routes: ['10.0.0.0/24'], approvedRoutes: ['10.0.0.0/24'] },
  );
  return network;
}

async function assertForetold(t: ExecutionContext, network: TestNetwork, text: string): Promise<void> {
  const { policies, enforcement, preview, engine } = network;
  const before = everything(network);
  const revision = policies.current.revision;
  const compiled = policies.check(text);
  const limits = { changes: 10_000, names: 10_000 };
  const foretold = await preview.difference(enforcement.policy, enforcement.policy, enforcement.with(compiled), limits);
  t.is(policies.current.revision, revision, 'a dry run changes nothing');
  t.deepEqual(everything(network), before);

  await policies.put(text);
  const after = everything(network);
  const beyond = (passing: string): boolean => !/10\.0\.7\.7/.test(passing);
  t.deepEqual(less(spelled(foretold, 'gained'), new Set()), less(after, before).filter(beyond));
  t.deepEqual(less(spelled(foretold, 'lost'), new Set()), less(before, after).filter(beyond));
  t.true(foretold.complete);
  const pairs = (changes: string[]): number => new Set(changes.map((one) => one.split(' ')[0]).filter((pair) => !/\d\.\d/.test(pair ?? ''))).size;
  t.is(foretold.pairs.gaining, pairs(less(after, before)));
  t.is(foretold.pairs.losing, pairs(less(before, after)));
  t.true(engine.memory > 0);
}

test('what a dry run says is what happens', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(policy, { minLength: 1, maxLength: 4 }), fc.boolean(), async (texts, denied) => {
      const network = await populated();
      if (denied)
        await network.rules.add(
          {
            action: 'deny',
            priority: 100,
            sources: ['u0@x'],
            destinations: ['*'],
            protocols: [6],
            ports: [[80, 80]],
            enabled: true,
            expiresAt: null,
            comment: '',
          },
          null,
        );
      for (const text of texts) await assertForetold(t, network, text);
      t.deepEqual(network.failures, []);
      await network.stop();
    }),
    { numRuns: 40 },
  );
});

test('long lists are cut and counted', async (t) => {
  const { policies, enforcement, preview, register, stop } = await startNetwork();
  for (let index = 0; index < 30; index += 1) await register({ hostname: 'h' });
  const compiled = policies.check('{"acls": []}');
  const { pairs, concerned, changes, complete } = await preview.difference(enforcement.policy, enforcement.policy, enforcement.with(compiled), {
    changes: 1,
    names: 3,
  });
  t.deepEqual(pairs, { gaining: 0, losing: 870, opened: 0, closed: 870 });
  t.is(concerned, 30);
  t.true(complete);
  t.like(changes, { length: 1, 0: { sources: { peers: 30, names: ['h', 'h-1', 'h-2'] }, lost: [{ protocols: [1, 6, 17, 58], ports: [] }], gained: [] } });
  await stop();
});

test('an explanation names the line, and what came too late', async (t) => {
  const { policies, rules, explainer, populate, stop } = await startNetwork();
  const [a] = await populate({ hostname: 'a', user: 'ann@x' }, { hostname: 'b' });
  const ask = (port = 22) => explainer.explain({ source: 'a', destination: 'b', protocol: 6, port });
  t.like(ask(), { allowed: true, reason: 'allowed: there is no policy' });
  await policies.put('{"acls": [\n  {"action": "accept", "src": ["*"], "dst": ["*:22"]}, // ssh\n  {"action": "accept", "src": ["ann@x"], "dst": ["*:*"]},\n]}');
  t.deepEqual(ask(), {
    allowed: true,
    reason: 'allowed by line 2 of the policy, before 1 other',
    routed: null,
    matching: [
      { kind: 'file', line: 2, action: 'allow', priority: 0, shadowed: false, text: '{"action": "accept", "src": ["*"], "dst": ["*:22"]}, // ssh' },
      { kind: 'file', line: 3, action: 'allow', priority: 0, shadowed: true, text: '{"action": "accept", "src": ["ann@x"], "dst": ["*:*"]},' },
    ],
    matches: 2,
  });
  await rules.add(
    { action: 'deny', priority: 7, sources: [a!.record.ipv4], destinations: ['*'], protocols: [], ports: [], enabled: true, expiresAt: null, comment: 'lost laptop' },
    null,
  );
  t.like(ask(), { allowed: false, reason: 'denied by native rule 1 (priority 7), before 2 others', matches: 3 });
  t.like(ask().matching[0], { kind: 'rule', id: 1, text: 'lost laptop' });
  t.like(explainer.explain({ source: 'b', destination: a!.record.ipv4, protocol: 6, port: 9 }), { allowed: false, reason: 'denied: no rule matches', matching: [] });
  t.like(explainer.explain({ source: a!.record.ipv4, destination: '192.0.2.1', protocol: 6, port: 9 }), { allowed: false });
  const mapped = `::ffff:${a!.record.ipv4}`;
  t.deepEqual(explainer.explain({ source: mapped, destination: 'b', protocol: 6, port: 9 }), explainer.explain({ source: a!.record.ipv4, destination: 'b', protocol: 6, port: 9 }));
  t.throws(() => explainer.explain({ source: 'x', destination: 'b', protocol: 6, port: 9 }), { code: 'ERR_PEER_NOT_FOUND' });
  await stop();
});
