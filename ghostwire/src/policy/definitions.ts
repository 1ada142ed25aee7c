// The sections that give names: groups, hosts, tagOwners; and autoApprovers, which use them.

import type { Prefix } from '../addresses/ip.js';
import { parsePrefix } from '../addresses/ip.js';
import type { HuJson, Node } from './hujson.js';
import { didYouMean, quote } from './quote.js';
import type { Reading } from './reading.js';
import { networkProblem, parseNetwork, tagProblem } from './selectors.js';

export interface AutoApprovers {
  /** Logins, groups, tags and autogroups by the prefix within which they may approve routes. */
  readonly routes: readonly { readonly prefix: Prefix; readonly approvers: readonly string[] }[];
  /** Those who may become exit nodes. */
  readonly exitNode: readonly string[];
}

/** name@domain, or name@ for users without one */
const USER = /^[^@\s]+@[^@\s]*$/;

export function readGroups(source: HuJson, node: Node | undefined): Map<string, readonly string[]> {
  const groups = new Map<string, readonly string[]>();
  const entries = node === undefined ? [] : source.members(node, 'groups');
  for (const { key, keyNode, value } of entries) {
    const what = `groups[${quote(key)}]`;
    if (!/^group:[A-Za-z0-9][A-Za-z0-9._@+-]*$/.test(key)) throw source.invalid(`${what}: a group is named group:name`, keyNode);
    const members = source.items(value, what).map((item) => {
      const member = source.string(item, `a member of ${what}`).trim();
      if (member.startsWith('group:')) throw source.invalid(`${what}: ${quote(member)}: group members cannot be recursive`, item);
      if (!USER.test(member)) throw source.invalid(`${what}: ${quote(member)}: a member of a group is a user, name@domain`, item);
      return member.toLowerCase();
    });
    groups.set(key, [...new Set(members)]);
  }
  return groups;
}

export function readHosts(source: HuJson, node: Node | undefined): Map<string, Prefix> {
  const hosts = new Map<string, Prefix>();
  const entries = node === undefined ? [] : source.members(node, 'hosts');
  for (const { key, keyNode, value } of entries) {
    const what = `hosts[${quote(key)}]`;
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(key) || parseNetwork(key) !== undefined)
      throw source.invalid(`${what}: the name of a host has letters, digits, '.', '_' and '-', and is no address`, keyNode);
    const text = source.string(value, what).trim();
    const prefix = parseNetwork(text);
    if (prefix === undefined) throw source.invalid(`${what}: ${quote(text)}: ${networkProblem(text) ?? 'invalid address'}`, value);
    hosts.set(key, prefix);
  }
  return hosts;
}

export function readTagOwners(
  source: HuJson,
  node: Node | undefined,
  groups: ReadonlyMap<string, unknown>,
): Map<string, readonly string[]> {
  const entries = node === undefined ? [] : source.members(node, 'tagOwners');
  for (const { key, keyNode } of entries) {
    const problem = tagProblem(key);
    if (problem !== undefined) throw source.invalid(`tagOwners[${quote(key)}]: ${problem}`, keyNode);
  }
  const tags = new Set(entries.map(({ key }) => key));
  const tagOwners = new Map<string, readonly string[]>();
  for (const { key, value } of entries) {
    const what = `tagOwners[${quote(key)}]`;
    tagOwners.set(key, readOwners(source, value, what, groups, tags));
  }
  return tagOwners;
}

/** People who may do something: logins, groups, tags, autogroups. */
function readOwners(
  source: HuJson,
  node: Node,
  what: string,
  groups: ReadonlyMap<string, unknown>,
  tags: { has(tag: string): boolean; keys(): Iterable<string> },
): string[] {
  return source.items(node, what).map((item) => {
    const owner = source.string(item, what).trim();
    if (owner.startsWith('group:')) {
      if (groups.has(owner)) return owner;
      throw source.invalid(`${what}: group not found: ${quote(owner)}`, item, didYouMean(owner, [...groups.keys()]));
    }
    if (owner.startsWith('tag:')) {
      if (tags.has(owner)) return owner;
      throw source.invalid(`${what}: tag not found: ${quote(owner)}`, item, didYouMean(owner, [...tags.keys()]));
    }
    if (/^autogroup:(members?|admin|owner|it-admin|network-admin|billing-admin|auditor|tagged)$/.test(owner)) return owner;
    if (USER.test(owner)) return owner.toLowerCase();
    throw source.invalid(`${what}: ${quote(owner)} is not a user (name@domain), group, tag or autogroup of people`, item);
  });
}

export function readAutoApprovers({ source, names }: Reading, node: Node | undefined): AutoApprovers {
  const fields = node === undefined ? new Map<never, Node>() : source.fields(node, 'autoApprovers', ['routes', 'exitNode', 'services']);
  const routesNode = fields.get('routes');
  const routes = routesNode === undefined ? [] : source.members(routesNode, 'autoApprovers.routes');
  const exitNode = fields.get('exitNode');
  return {
    routes: routes.map(({ key, keyNode, value }) => {
      const what = `autoApprovers.routes[${quote(key)}]`;
      const prefix = parsePrefix(key.trim());
      if (prefix === undefined) throw source.invalid(`${what}: ${networkProblem(key.trim()) ?? 'invalid prefix'}`, keyNode);
      return { prefix, approvers: readOwners(source, value, what, names.groups, names.tagOwners) };
    }),
    exitNode: exitNode === undefined ? [] : readOwners(source, exitNode, 'autoApprovers.exitNode', names.groups, names.tagOwners),
  };
}
