// `tests`: what the author of a policy says must and must not be allowed, run whenever a policy is written.

import { covers, overlap, rangeOf, type AddressRange } from '../addresses/ranges.js';
import type { Grant } from './grants.js';
import type { Node } from './hujson.js';
import { INTERNET } from './reach.js';
import type { Reading } from './reading.js';
import { isSingle, parseSelector, SelectorError, type Names, type Selector } from './selectors.js';
import { DEFAULT_PROTOCOLS, parseProtocol, ServiceError, splitPorts } from './services.js';
import type { Tailnet, TailnetNode } from './tailnet.js';

/** As written: what does not make sense fails the test. */
export interface PolicyTest {
  readonly source: string;
  readonly protocol: string;
  readonly accept: readonly string[];
  readonly deny: readonly string[];
  readonly line: number;
}

export interface TestFailure {
  /** Line of the test in the text. */
  readonly line: number;
  readonly message: string;
}

/** One attempt to connect has one port, so it needs a protocol that has ports. */
const TESTABLE = new Set<number | undefined>([undefined, 6, 17, 132]);

export function readTests(reading: Reading, node: Node | undefined): PolicyTest[] {
  const { source } = reading;
  return source.items(node, 'tests').map((entry, index) => {
    const what = `tests[${index}]`;
    const fields = source.fields(entry, what, ['src', 'srcPostureAttrs', 'proto', 'accept', 'deny'], { user: 'src', allow: 'accept' });
    const posture = fields.get('srcPostureAttrs');
    if (posture !== undefined) throw source.error('ERR_POLICY_UNSUPPORTED', `${what}: "srcPostureAttrs" is not supported`, posture);
    const text = (name: 'src' | 'proto'): string => {
      const value = fields.get(name);
      return value === undefined ? '' : source.string(value, `${what}.${name}`).trim();
    };
    return {
      source: text('src'),
      protocol: text('proto'),
      accept: source.strings(fields.get('accept'), `${what}.accept`),
      deny: source.strings(fields.get('deny'), `${what}.deny`),
      line: source.lineOf(entry),
    };
  });
}

/**
 * @param grants of the policy; undefined allows everything
 * @returns what failed; nothing when all is as the tests say
 */
export function runTests(tests: readonly PolicyTest[], names: Names, tailnet: Tailnet, grants: readonly Grant[] | undefined): TestFailure[] {
  const failures: TestFailure[] = [];
  const attempts = new Attempts(tailnet, grants);
  for (const test of tests) {
    const fail = (message: string): void => void failures.push({ line: test.line, message });
    try {
      const sources = sourcesOf(test, names, tailnet);
      const protocol = parseProtocol(test.protocol);
      if (!TESTABLE.has(protocol)) throw new TestError(`proto ${test.protocol} has no ports to test; use tcp, udp or sctp`);
      if (test.accept.length === 0 && test.deny.length === 0) throw new TestError('neither accept nor deny says what to expect');
      for (const [expected, destinations] of [[true, test.accept], [false, test.deny]] as const) {
        for (const destination of destinations) {
          const allowed = attempts.allowed(sources, destinationOf(destination, test, names, tailnet), protocol);
          if (allowed !== expected)
            fail(`${test.source} to ${destination}: expected ${expected ? 'accept' : 'deny'}, is ${allowed ? 'accepted' : 'denied'}`);
        }
      }
    } catch (error) {
      if (!(error instanceof TestError || error instanceof SelectorError || error instanceof ServiceError)) throw error;
      fail(error.message);
    }
  }
  return failures;
}

class TestError extends Error {}

/** Addresses, and whose they are. */
interface Endpoint {
  readonly range: AddressRange;
  readonly node: TailnetNode | undefined;
}

function sourcesOf({ source }: PolicyTest, names: Names, tailnet: Tailnet): Endpoint[] {
  if (source === '') throw new TestError('src must be specified');
  const selector = parseSelector(source, names);
  if (selector.kind === 'user' && tailnet.login(selector.text) === undefined) throw new TestError(`user not found: "${source}"`);
  return endpointsOf(selector, source, tailnet);
}

interface Destination {
  readonly endpoints: readonly Endpoint[];
  readonly port: number;
}

function destinationOf(text: string, test: PolicyTest, names: Names, tailnet: Tailnet): Destination {
  const { host, ports } = splitPorts(text.trim());
  const [port] = ports;
  if (port === undefined || ports.length > 1 || port.first !== port.last) throw new TestError(`"${text}": a test is of one port`);
  const selector = parseSelector(host, names);
  if (selector.kind === 'network' && (host.includes('/') || !isSingle(selector.prefix)))
    throw new TestError(`"${text}": a test is of one host`);
  if (selector.kind === 'autogroup' && selector.autogroup === 'self') {
    const people = tailnet.people(parseSelector(test.source, names)) ?? [];
    return { endpoints: people.flatMap((login) => tailnet.ownedBy(login)).flatMap(ownEndpoints), port: port.first };
  }
  return { endpoints: endpointsOf(selector, text, tailnet), port: port.first };
}

function endpointsOf(selector: Selector, text: string, tailnet: Tailnet): Endpoint[] {
  if (selector.kind === 'network') {
    const range = rangeOf(selector.prefix);
    return [{ range, node: isSingle(selector.prefix) ? tailnet.within(range)[0] : undefined }];
  }
  const nodes = selector.kind === 'any' ? tailnet.nodes : tailnet.identified(selector);
  if (nodes === undefined) throw new TestError(`"${text}": cannot be tested`);
  if (nodes.length === 0) throw new TestError(`"${text}": stands for no machine at present`);
  return nodes.flatMap(ownEndpoints);
}

const ownEndpoints = (node: TailnetNode): Endpoint[] => node.addresses.map((address) => ({ range: rangeOf(address), node }));

/** Attempts to connect, decided by who is who: no filter is built, and each selector is looked up once. */
class Attempts {
  readonly #tailnet: Tailnet;
  readonly #grants: readonly Grant[] | undefined;
  readonly #members = new Map<string, ReadonlySet<TailnetNode>>();

  constructor(tailnet: Tailnet, grants: readonly Grant[] | undefined) {
    this.#tailnet = tailnet;
    this.#grants = grants;
  }

  /** Whether every source may reach some address of the destination. */
  allowed(sources: readonly Endpoint[], { endpoints, port }: Destination, protocol: number | undefined): boolean {
    if (this.#grants === undefined) return protocol === undefined || (DEFAULT_PROTOCOLS as readonly number[]).includes(protocol);
    const asked: readonly number[] = protocol === undefined ? DEFAULT_PROTOCOLS : [protocol];
    let left = sources;
    for (const { sources: from, destinations: to, services } of this.#grants) {
      if (left.length === 0) return true;
      const serves = services.some(
        (service) =>
          (service.protocol === undefined ? DEFAULT_PROTOCOLS.some((one) => asked.includes(one)) : asked.includes(service.protocol)) &&
          service.ports.some(({ first, last }) => first <= port && port <= last),
      );
      if (!serves) continue;
      const open = to.some((selector) => !isSelf(selector) && endpoints.some((endpoint) => this.#selects(selector, endpoint)));
      const owners = to.some(isSelf) ? new Set(endpoints.flatMap(({ node }) => node?.user ?? [])) : undefined;
      if (!open && (owners === undefined || owners.size === 0)) continue;
      left = left.filter((source) => {
        const reaches = open || owners?.has(source.node?.user ?? '') === true;
        return !(reaches && from.some((selector) => this.#selects(selector, source)));
      });
    }
    return left.length === 0;
  }

  #selects(selector: Selector, { range, node }: Endpoint): boolean {
    if (selector.kind === 'any') return true;
    if (selector.kind === 'network') return covers(rangeOf(selector.prefix), range);
    if (selector.kind === 'autogroup' && selector.autogroup === 'internet') return INTERNET.some((part) => overlap(part, range));
    if (selector.kind === 'autogroup' && selector.autogroup === 'danger-all') return true;
    let members = this.#members.get(selector.text);
    if (members === undefined) this.#members.set(selector.text, (members = new Set(this.#tailnet.identified(selector))));
    return node !== undefined && members.has(node);
  }
}

const isSelf = (selector: Selector): boolean => selector.kind === 'autogroup' && selector.autogroup === 'self';
