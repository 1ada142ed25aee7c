// A policy's own tests on every write: against the peers that there are, and as if all of them and all grants were looked at.

import test from 'ava';
import fc from 'fast-check';
import { failedTests as onTheWhole } from '../src/policy/applied.js';
import { applyCase } from '../src/policy/cases.js';
import { readPolicy } from '../src/policy/document.js';
import { failedTests } from '../src/policy/live-tests.js';
import { startNetwork, type TestNetwork } from './support/network.js';

async function populated(): Promise<TestNetwork> {
  const network = await startNetwork();
  await network.populate(
    ...[0, 1, 2, 3, 4].map((index) => ({ hostname: `h${index}`, user: `u${index % 4}@x.org` })),
    ...['tag:a', 'tag:b', 'tag:b'].map((tag) => ({ hostname: tag.slice(4), user: 'u0@x.org', tags: [tag] })),
    { hostname: 'router', user: 'u3@x.org', routes: ['10.1.0.0/16'], approvedRoutes: ['10.1.0.0/16'] },
  );
  return network;
}

const HEAD = '"groups": {"group:g": ["u0@x.org", "u1@x.org"], "group:none": []}, "tagOwners": {"tag:a": [], "tag:b": [], "tag:c": []}';
const FILE = `{${HEAD},
  "acls": [{"action": "accept", "src": ["group:g"], "dst": ["tag:a:22"]}],
  "tests": [{"src": "u1@x.org", "accept": ["tag:a:22"], "deny": ["tag:b:22"]}],
}`;

test('a policy whose tests fail is refused where it is written, checked or brought back', async (t) => {
  const { policies, peers, directory, journal, stop } = await populated();
  await policies.put(FILE);
  const wrong = FILE.replace('"deny": ["tag:b:22"]', '"deny": ["tag:a:22"]');
  const revision = await journal.revision();
  t.throws(() => policies.check(wrong), { code: 'ERR_POLICY_INVALID', message: /line 3, .*test\(s\) failed: u1@x\.org to tag:a:22: expected deny, is accepted/ });
  await t.throwsAsync(policies.put(wrong), { code: 'ERR_POLICY_INVALID' });
  t.is(await journal.revision(), revision);
  t.like(policies.current, { version: 1, text: FILE });
  // The same text fails when the machines are others.
  await policies.put('{}');
  await peers.delete(directory.named('a')!.id);
  await t.throwsAsync(policies.rollback(1), { code: 'ERR_POLICY_INVALID', message: /tag:a:22.*stands for no machine/ });
  t.is(policies.read(FILE).rules.length > 0, true);
  t.like(policies.current, { version: 2 });
  await stop();
});

const who = fc.constantFrom('u0@x.org', 'u1@x.org', 'u3@x.org', 'u9@x.org', 'group:g', 'group:none', 'tag:a', 'tag:b', 'tag:c', '*', 'autogroup:member', 'autogroup:tagged', '100.64.0.3', '10.1.2.3');
const port = fc.constantFrom(22, 80, 443);
const entry = fc.record({
  src: fc.array(who, { minLength: 1, maxLength: 2 }),
  dst: fc.array(
    fc.tuple(fc.oneof(who, fc.constantFrom('autogroup:self', '10.1.0.0/16')), fc.constantFrom('22', '80-90', '*')).map(([host, ports]) => `${host}:${ports}`),
    { minLength: 1, maxLength: 2 },
  ),
});
/** Mostly of those that there are, with one expectation: of many, one fails nearly always. */
const subject = fc.oneof({ weight: 6, arbitrary: fc.constantFrom('u0@x.org', 'u1@x.org', 'u3@x.org', 'group:g', 'tag:a', 'tag:b', '100.64.0.3') }, { weight: 1, arbitrary: who });
const host = fc.tuple(subject, port).map(([name, number]) => `${name}:${number}`);
const check = fc.tuple(subject, host, fc.boolean()).map(([src, to, accept]) => ({ src, ...(accept ? { accept: [to] } : { deny: [to] }) }));
const sshCheck = fc.record({ src: who, dst: fc.array(who, { minLength: 1, maxLength: 2 }), accept: fc.constant(['root']) });

test('leaving out what no test can see changes no outcome', async (t) => {
  const { directory, stop } = await populated();
  const users = ['u0', 'u1', 'u2', 'u3'].map((name, id) => ({ id, name, email: `${name}@x.org`, roles: [] }));
  const nodes = Object.fromEntries(
    [...directory.all()].map(({ record }, id) => [
      record.name,
      {
        id,
        user: (record.user ?? '').split('@')[0] ?? '',
        tags: record.tags,
        ipv4: record.ipv4,
        ipv6: record.ipv6,
        routable_ips: record.advertisedRoutes,
        approved_routes: record.approvedRoutes,
      },
    ]),
  );
  let failing = 0;
  let passing = 0;
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 4 }), fc.array(check, { minLength: 1, maxLength: 2 }), fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(sshCheck, { maxLength: 1 }) }), (entries, tests, sshTests) => {
      const ssh = '[{"action": "accept", "src": ["group:g"], "dst": ["tag:a"], "users": ["root"]}]';
      const acls = JSON.stringify(entries.map((one) => ({ action: 'accept', ...one })));
      const policy = `{${HEAD}, "acls": ${acls}, "ssh": ${ssh}, "tests": ${JSON.stringify(tests)}, "sshTests": ${JSON.stringify(sshTests)}}`;
      let document;
      try {
        document = readPolicy(policy);
      } catch {
        return;
      }
      const whole = applyCase({ id: 'x', policy, topology: { users, nodes } });
      const expected = onTheWhole(whole.document, whole.tailnet);
      const failure = failedTests(document, directory.all());
      if (expected.length > 0) failing += 1;
      else passing += 1;
      t.deepEqual(failure?.details['failures'] ?? [], expected, policy);
    }),
    { numRuns: 400 },
  );
  t.true(failing > 20 && passing > 20, `${failing} failing, ${passing} passing`);
  await stop();
});
