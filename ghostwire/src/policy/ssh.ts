// `ssh`: who may log in where, as whom. The rules that each machine is sent.

import type { Prefix } from '../addresses/ip.js';
import { DurationError, formatDuration, parseDuration } from './durations.js';
import type { Node } from './hujson.js';
import { quote } from './quote.js';
import type { Reading } from './reading.js';
import { checkDomain, networkText, type Selector } from './selectors.js';
import type { Tailnet, TailnetNode, TailnetUser } from './tailnet.js';

export interface SshRule {
  readonly action: 'accept' | 'check';
  readonly sources: readonly Selector[];
  readonly destinations: readonly Selector[];
  /** Local users, 'autogroup:nonroot', or 'localpart:*@domain'. */
  readonly users: readonly string[];
  /** Nanoseconds for which a check holds; undefined is the default, 12 hours. */
  readonly checkPeriod: bigint | 'always' | undefined;
  readonly acceptEnv: readonly string[];
  readonly line: number;
}

/** tailcfg.SSHRule. */
export interface SshWireRule {
  principals: { nodeIP: string }[];
  /** Local user by SSH user; '=' is the same one, '' is none. */
  sshUsers: Record<string, string>;
  action:
    | { accept: true; allowAgentForwarding: true; allowLocalPortForwarding: true; allowRemotePortForwarding: true }
    | { holdAndDelegate: string };
  acceptEnv?: string[];
}

const LONGEST_PERIOD = parseDuration('168h');
const LOCALPART = /^localpart:\*@(.+)$/;

export function readSsh(reading: Reading, node: Node | undefined): SshRule[] {
  return reading.source.items(node, 'ssh').map((entry, index) => readRule(reading, entry, `ssh[${index}]`));
}

function readRule(reading: Reading, node: Node, what: string): SshRule {
  const { source } = reading;
  const fields = source.fields(node, what, ['action', 'src', 'dst', 'users', 'checkPeriod', 'acceptEnv', 'srcPosture', 'recorder', 'enforceRecorder']);
  for (const name of ['srcPosture', 'recorder', 'enforceRecorder'] as const) {
    const unsupported = fields.get(name);
    if (unsupported !== undefined) throw source.error('ERR_POLICY_UNSUPPORTED', `${what}: "${name}" is not supported`, unsupported);
  }
  const actionNode = fields.get('action') ?? node;
  const action = fields.has('action') ? source.string(actionNode, `${what}.action`).trim() : '';
  if (action === '') throw reading.invalid('action must be specified', actionNode);
  if (action !== 'accept' && action !== 'check') throw reading.invalid(`${quote(action)} is not a valid action`, actionNode);

  const users = readUsers(reading, fields.get('users') ?? node, fields.has('users'), what);
  const acceptEnv = source.items(fields.get('acceptEnv'), `${what}.acceptEnv`).map((item) => {
    const variable = source.string(item, `${what}.acceptEnv`);
    if (variable === '') throw reading.invalid('acceptEnv values cannot be empty', item);
    return variable;
  });
  const sources = source.items(fields.get('src'), `${what}.src`).map((item) => {
    const selector = reading.selector(item, `${what}.src`, source.string(item, `${what}.src`).trim().startsWith('user:') ? '[ssh] ' : '');
    const people = !['any', 'network'].includes(selector.kind) && !isAutogroup(selector, 'self', 'internet', 'danger-all', 'nonroot');
    if (!people) throw reading.invalid(`invalid src ${quote(selector.text)}`, item);
    return selector;
  });
  const destinations = source.items(fields.get('dst'), `${what}.dst`).map((item) => {
    const selector = reading.selector(item, `${what}.dst`, '');
    const machines = ['tag', 'user'].includes(selector.kind) || isAutogroup(selector, 'self', 'member', 'tagged');
    if (!machines) throw reading.invalid(`invalid dst ${quote(selector.text)}`, item);
    checkOwners(reading, sources, selector, item);
    return selector;
  });
  const periodNode = fields.get('checkPeriod');
  const checkPeriod = periodNode === undefined ? undefined : readPeriod(reading, periodNode, action, what);
  return { action, sources, destinations, users, checkPeriod, acceptEnv, line: source.lineOf(node) };
}

function readUsers(reading: Reading, node: Node, given: boolean, what: string): string[] {
  const items = given ? reading.source.items(node, `${what}.users`) : [];
  if (items.length === 0) throw reading.invalid('users must be specified', node);
  return items.map((item) => {
    const user = reading.source.string(item, `${what}.users`).trim();
    if (user === '' || user === '*') throw reading.invalid(`user ${quote(user)} is not valid`, item);
    const domain = LOCALPART.exec(user)?.[1];
    if (domain !== undefined) reading.at(item, '', () => checkDomain(domain, reading.names));
    return user;
  });
}

function readPeriod(reading: Reading, node: Node, action: SshRule['action'], what: string): bigint | 'always' {
  const text = reading.source.string(node, `${what}.checkPeriod`);
  if (action !== 'check') throw reading.invalid('checkPeriod is only valid with action "check"', node);
  if (text === 'always') return text;
  let period: bigint;
  try {
    period = parseDuration(text);
  } catch (error) {
    throw error instanceof DurationError ? reading.invalid(error.message, node) : error;
  }
  if (period < 0n) throw reading.invalid(`checkPeriod ${formatDuration(period)} must be a positive duration`, node);
  if (period > LONGEST_PERIOD) throw reading.invalid(`checkPeriod ${formatDuration(period)} is above the max (168h)`, node);
  return period;
}

/** Machines of people may only be logged in to by their owner. */
function checkOwners(reading: Reading, sources: readonly Selector[], destination: Selector, node: Node): void {
  const tagged = sources.some((source) => source.kind === 'tag' || isAutogroup(source, 'tagged'));
  const own = isAutogroup(destination, 'self', 'member');
  if (tagged && (own || destination.kind === 'user'))
    throw reading.invalid(`invalid dst ${quote(destination.text)}: tagged machines cannot log in to machines of users`, node);
  if (destination.kind !== 'user') return;
  if (sources.length === 0 || sources.some(({ text }) => text !== destination.text))
    throw reading.invalid(`invalid dst ${quote(destination.text)}: a user's machines can only be logged in to by that user`, node);
}

const isAutogroup = (selector: Selector, ...names: readonly string[]): boolean =>
  selector.kind === 'autogroup' && names.includes(selector.autogroup);

/** Who is on the other end: addresses of each user's machines, and those of tagged machines. */
interface Callers {
  readonly byUser: ReadonlyMap<string, readonly string[]>;
  readonly tagged: readonly string[];
  readonly nodes: ReadonlySet<TailnetNode>;
}

export class SshPolicy {
  readonly #rules: readonly { rule: SshRule; callers: Callers; hosts: ReadonlySet<TailnetNode>; localparts: ReadonlyMap<string, string> | undefined }[];
  readonly #holdUrl: string;

  /** @param baseUrl where machines ask whether a check has been passed */
  constructor(rules: readonly SshRule[], tailnet: Tailnet, baseUrl: string) {
    this.#holdUrl = `${baseUrl}/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID?local_user=$LOCAL_USER`;
    const callers = new Map<string, Callers>();
    this.#rules = rules.map((rule) => {
      const key = rule.sources.map(({ text }) => text).join(' ');
      const known = callers.get(key) ?? callersOf(rule.sources, tailnet);
      callers.set(key, known);
      const hosts = new Set(rule.destinations.flatMap((destination) => tailnet.identified(destination) ?? []));
      return { rule, callers: known, hosts, localparts: localparts(rule.users, tailnet.users) };
    });
  }

  /** A machine's rules; the first that fits a caller decides, so checks stand before plain accepts. */
  rulesFor(node: TailnetNode): SshWireRule[] {
    const rules: SshWireRule[] = [];
    for (const { rule, callers, hosts, localparts: names } of this.#rules) {
      const add = (principals: readonly string[], users: Record<string, string>): void => {
        if (principals.length > 0) rules.push(this.#wire(rule, principals, users));
      };
      const addUser = (login: string): void => {
        const principals = callers.byUser.get(login) ?? [];
        add(principals, userMap(rule.users));
        const name = names?.get(login);
        if (name !== undefined) add(principals, { [name]: name });
      };
      const others = rule.destinations.some((destination) => !isAutogroup(destination, 'self'));
      if (node.user !== null && rule.destinations.some((destination) => isAutogroup(destination, 'self'))) addUser(node.user);
      if (!others) continue;
      if (hosts.has(node)) {
        if (names === undefined) add([...[...callers.byUser.values()].flat(), ...callers.tagged], userMap(rule.users));
        else {
          for (const login of callers.byUser.keys()) addUser(login);
          add(callers.tagged, userMap(rule.users));
        }
      } else if (names !== undefined && callers.nodes.has(node)) {
        // The plane lets those who call by the names of their e-mail addresses call themselves, too.
        if (node.user === null) add(node.addresses.map(networkText), userMap(rule.users));
        else addUser(node.user);
      }
    }
    return [...rules.filter(isCheck), ...rules.filter((rule) => !isCheck(rule))];
  }

  #wire(rule: SshRule, principals: readonly string[], sshUsers: Record<string, string>): SshWireRule {
    return {
      principals: principals.map((nodeIP) => ({ nodeIP })),
      sshUsers,
      action:
        rule.action === 'check'
          ? { holdAndDelegate: this.#holdUrl }
          : { accept: true, allowAgentForwarding: true, allowLocalPortForwarding: true, allowRemotePortForwarding: true },
      ...(rule.acceptEnv.length === 0 ? {} : { acceptEnv: [...rule.acceptEnv] }),
    };
  }
}

export const isCheck = ({ action }: SshWireRule): boolean => 'holdAndDelegate' in action;

/** Whether a rule lets this address log in as this user. */
export function permits({ principals, sshUsers }: SshWireRule, address: string, user: string): boolean {
  if (!principals.some(({ nodeIP }) => nodeIP === address)) return false;
  const local = Object.hasOwn(sshUsers, user) ? sshUsers[user] : user === 'root' ? undefined : sshUsers['*'];
  return local !== undefined && local !== '';
}

function callersOf(sources: readonly Selector[], tailnet: Tailnet): Callers {
  const nodes = sources.flatMap((source) => [...(tailnet.identified(source) ?? [])].map((node) => ({ source, node })));
  const owned = new Set(nodes.flatMap(({ node }) => (node.user === null ? [] : [node])));
  const byUser = new Map<string, string[]>();
  for (const { login } of tailnet.users) {
    const own = tailnet.ownedBy(login).filter((node) => owned.has(node));
    if (own.length > 0) byUser.set(login, own.flatMap(({ addresses }) => addresses).sort(byAddress).map(networkText));
  }
  // The plane lists a tagged machine once for each of its tags.
  const tagged = [...new Set(nodes.flatMap(({ node }) => (node.user === null ? [node] : [])))].flatMap((node) =>
    node.tags.flatMap(() => node.addresses.map(networkText)),
  );
  return { byUser, tagged, nodes: new Set(nodes.map(({ node }) => node)) };
}

function byAddress(a: Prefix, b: Prefix): number {
  return a.family - b.family || (a.value < b.value ? -1 : a.value > b.value ? 1 : 0);
}

function userMap(users: readonly string[]): Record<string, string> {
  const map: Record<string, string> = Object.create(null) as Record<string, string>;
  if (users.includes('autogroup:nonroot')) map['*'] = '=';
  map['root'] = users.includes('root') ? 'root' : '';
  for (const user of users) if (user !== 'autogroup:nonroot' && !LOCALPART.test(user)) map[user] = user;
  return map;
}

/** By login, the part before the @ for users of the domains named; undefined when no `localpart:*@domain` is. */
function localparts(users: readonly string[], people: readonly TailnetUser[]): Map<string, string> | undefined {
  const domains = new Set(users.flatMap((user) => LOCALPART.exec(user)?.[1]?.toLowerCase() ?? []));
  if (domains.size === 0) return undefined;
  const names = new Map<string, string>();
  for (const { login } of people) {
    const at = login.lastIndexOf('@');
    if (domains.has(login.slice(at + 1))) names.set(login, login.slice(0, at));
  }
  return names;
}
