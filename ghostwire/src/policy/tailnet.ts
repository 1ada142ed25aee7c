// The people and machines that a policy is applied to, and which of them a selector stands for.

import type { Prefix } from '../addresses/ip.js';
import { overlap, rangeOf, type AddressRange } from '../addresses/ranges.js';
import type { PolicyDocument } from './document.js';
import type { Role, Selector } from './selectors.js';

export interface TailnetUser {
  /** name@domain, lower case */
  readonly login: string;
  /** The part that stands before a bare @. */
  readonly name: string;
  readonly roles: readonly Role[];
}

/** A machine: owned by a user, or tagged, never both. */
export interface TailnetNode {
  readonly name: string;
  /** Login of the owner; null for a tagged machine. */
  readonly user: string | null;
  readonly tags: readonly string[];
  /** One of each family, or of one. */
  readonly addresses: readonly Prefix[];
  /** Prefixes that it carries and that were approved, the default routes of an exit node included. */
  readonly routes: readonly Prefix[];
  /** How many prefixes it offers. */
  readonly offered: number;
}

export const isExitRoute = ({ length }: Prefix): boolean => length === 0;
export const isExitNode = ({ routes }: TailnetNode): boolean => routes.some(isExitRoute);
export const subnetRoutes = ({ routes }: TailnetNode): Prefix[] => routes.filter((route) => !isExitRoute(route));

interface Located {
  readonly range: AddressRange;
  readonly node: TailnetNode;
}

export class Tailnet {
  /** In the order in which they joined. */
  readonly users: readonly TailnetUser[];
  readonly nodes: readonly TailnetNode[];
  readonly #groups: PolicyDocument['groups'];
  readonly #byTag = new Map<string, TailnetNode[]>();
  readonly #byUser = new Map<string, TailnetNode[]>();
  readonly #logins = new Map<string, string>();
  /** Ascending; made when first asked for. */
  #addresses: Located[] | undefined;
  readonly #carried: Located[] = [];

  constructor(users: readonly TailnetUser[], nodes: readonly TailnetNode[], groups: PolicyDocument['groups']) {
    this.users = users;
    this.nodes = nodes;
    this.#groups = groups;
    for (const { login, name } of users) {
      this.#logins.set(login, login);
      this.#logins.set(`${name.toLowerCase()}@`, login);
    }
    for (const node of nodes) {
      for (const tag of node.tags) append(this.#byTag, tag, node);
      if (node.user !== null) append(this.#byUser, node.user, node);
      for (const route of subnetRoutes(node)) this.#carried.push({ range: rangeOf(route), node });
    }
  }

  /** The user that a login or name@ in the policy means. */
  login(text: string): string | undefined {
    return this.#logins.get(text);
  }

  /** Machines of one person. */
  ownedBy(login: string): readonly TailnetNode[] {
    return this.#byUser.get(login) ?? [];
  }

  tagged(tag: string): readonly TailnetNode[] {
    return this.#byTag.get(tag) ?? [];
  }

  /** Logins of those whom a selector of people stands for; undefined when it does not speak of people. */
  people(selector: Selector): string[] | undefined {
    if (selector.kind === 'user') return [this.login(selector.text) ?? selector.text];
    if (selector.kind === 'group') return (this.#groups.get(selector.text) ?? []).map((member) => this.login(member) ?? member);
    if (selector.kind === 'domain')
      return this.users.filter(({ login }) => login.endsWith(`@${selector.domain}`)).map(({ login }) => login);
    if (selector.kind !== 'autogroup') return undefined;
    const { autogroup } = selector;
    if (autogroup === 'member') return [...this.#byUser.keys()];
    if (['tagged', 'self', 'internet', 'danger-all', 'nonroot'].includes(autogroup)) return undefined;
    return this.users.filter(({ roles }) => roles.some((role) => role === autogroup)).map(({ login }) => login);
  }

  /** Machines that a selector means by who they are; undefined when it means addresses. */
  identified(selector: Selector): readonly TailnetNode[] | undefined {
    if (selector.kind === 'tag') return this.tagged(selector.text);
    if (selector.kind === 'autogroup' && selector.autogroup === 'tagged') return this.nodes.filter(({ tags }) => tags.length > 0);
    return this.people(selector)?.flatMap((login) => this.ownedBy(login));
  }

  /** Machines that have an address in the range. */
  within(range: AddressRange): TailnetNode[] {
    const addresses = (this.#addresses ??= this.nodes
      .flatMap((node) => node.addresses.map((address) => ({ range: rangeOf(address), node })))
      .sort((a, b) => compare(a.range, b.range)));
    let low = 0;
    let high = addresses.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const located = addresses[middle];
      if (located !== undefined && compare(located.range, range) < 0) low = middle + 1;
      else high = middle;
    }
    const found = new Set<TailnetNode>();
    for (let located = addresses[low]; located !== undefined && overlap(located.range, range); located = addresses[++low])
      found.add(located.node);
    return [...found];
  }

  /** Machines that carry a subnet which has addresses in common with the range. */
  carrying(range: AddressRange): TailnetNode[] {
    return [...new Set(this.#carried.filter((located) => overlap(located.range, range)).map(({ node }) => node))];
  }
}

const compare = (a: AddressRange, b: AddressRange): number =>
  a.family !== b.family ? a.family - b.family : a.first < b.first ? -1 : a.first > b.first ? 1 : 0;

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
