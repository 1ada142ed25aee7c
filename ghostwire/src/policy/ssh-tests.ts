// `sshTests`: who must and must not be able to log in where, run whenever a policy is written.

import type { Node } from './hujson.js';
import { quote } from './quote.js';
import type { Reading } from './reading.js';
import { isSingle, networkText, parseNetwork, parseSelector, SelectorError, type Names } from './selectors.js';
import { isCheck, permits, type SshPolicy } from './ssh.js';
import { rangeOf } from '../addresses/ranges.js';
import type { Tailnet, TailnetNode } from './tailnet.js';
import type { TestFailure } from './tests.js';

/** As written: what does not make sense fails the test. */
export interface SshTest {
  readonly source: string;
  readonly destinations: readonly string[];
  readonly accept: readonly string[];
  readonly deny: readonly string[];
  readonly check: readonly string[];
  readonly line: number;
}

export function readSshTests(reading: Reading, node: Node | undefined): SshTest[] {
  const { source } = reading;
  return source.items(node, 'sshTests').map((entry, index) => {
    const what = `sshTests[${index}]`;
    const fields = source.fields(entry, what, ['src', 'dst', 'accept', 'deny', 'check', 'srcPostureAttrs']);
    const posture = fields.get('srcPostureAttrs');
    if (posture !== undefined) throw source.error('ERR_POLICY_UNSUPPORTED', `${what}: "srcPostureAttrs" is not supported`, posture);
    const src = fields.get('src');
    const users = (name: 'accept' | 'deny' | 'check'): string[] =>
      source.strings(fields.get(name), `${what}.${name}`).map((user) => user.trim());
    return {
      source: src === undefined ? '' : source.string(src, `${what}.src`).trim(),
      destinations: source.items(fields.get('dst'), `${what}.dst`).map((item) => readDestination(reading, item, what)),
      accept: users('accept'),
      deny: users('deny'),
      check: users('check'),
      line: source.lineOf(entry),
    };
  });
}

/** Only what stands for single machines. */
function readDestination({ source, names }: Reading, item: Node, what: string): string {
  const text = source.string(item, `${what}.dst`).trim();
  if (text.startsWith('tag:') && !names.tagOwners.has(text)) throw source.invalid(`SSH tests dst contains unknown tag ${quote(text)}`, item);
  const prefix = names.hosts.get(text) ?? parseNetwork(text);
  if (text === '*' || text === 'autogroup:internet' || (prefix !== undefined && !isSingle(prefix)))
    throw source.invalid(`SSH tests dst contains disallowed element ${quote(text)}`, item);
  return text;
}

/** @returns what failed; nothing when all is as the tests say */
export function runSshTests(tests: readonly SshTest[], names: Names, tailnet: Tailnet, policy: SshPolicy): TestFailure[] {
  const failures: TestFailure[] = [];
  for (const test of tests) {
    const fail = (message: string): void => void failures.push({ line: test.line, message });
    try {
      runTest(test, names, tailnet, policy, fail);
    } catch (error) {
      if (!(error instanceof SelectorError)) throw error;
      fail(error.message);
    }
  }
  return failures;
}

function runTest(test: SshTest, names: Names, tailnet: Tailnet, policy: SshPolicy, fail: (message: string) => void): void {
  if (test.source === '') return fail('src must be specified');
  if (test.destinations.length === 0) return fail('dst must be specified');
  if (test.accept.length + test.deny.length + test.check.length === 0) return fail('none of accept, deny and check says what to expect');
  const addresses = sourcesOf(test.source, names, tailnet);
  if (addresses.length === 0) return fail(`"${test.source}" stands for no machine at present`);
  const hosts = new Set<TailnetNode>();
  for (const destination of test.destinations) {
    const found = hostsOf(destination, test.source, names, tailnet);
    if (found.length === 0) fail(`"${destination}" stands for no machine at present`);
    for (const node of found) hosts.add(node);
  }
  for (const host of hosts) {
    const rules = policy.rulesFor(host);
    const checks = rules.filter(isCheck);
    const expectations = [
      ['accept', test.accept, (address: string, user: string) => rules.some((rule) => permits(rule, address, user))],
      ['deny', test.deny, (address: string, user: string) => !rules.some((rule) => permits(rule, address, user))],
      ['check', test.check, (address: string, user: string) => checks.some((rule) => permits(rule, address, user))],
    ] as const;
    for (const [expected, users, holds] of expectations) {
      for (const user of users) {
        if (user === '' || !addresses.every((address) => holds(address, user)))
          fail(`${test.source} as ${quote(user)} to ${host.name}: expected ${expected}, is not so`);
      }
    }
  }
}

function sourcesOf(text: string, names: Names, tailnet: Tailnet): string[] {
  const selector = parseSelector(text, names);
  if (selector.kind === 'network') return [networkText(selector.prefix)];
  const nodes = selector.kind === 'any' ? tailnet.nodes : (tailnet.identified(selector) ?? []);
  return nodes.flatMap(({ addresses }) => addresses.map(networkText));
}

function hostsOf(text: string, source: string, names: Names, tailnet: Tailnet): readonly TailnetNode[] {
  const selector = parseSelector(text, names);
  // The plane knows machines by their IPv4 address here.
  if (selector.kind === 'network') return selector.prefix.family === 4 || selector.alias !== undefined ? tailnet.within(rangeOf(selector.prefix)) : [];
  if (selector.kind === 'autogroup' && selector.autogroup === 'self')
    return (tailnet.people(parseSelector(source, names)) ?? []).flatMap((login) => tailnet.ownedBy(login));
  return tailnet.identified(selector) ?? [];
}
