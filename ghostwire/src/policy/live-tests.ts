// The tests of a policy, run against the peers that there are: on every write, before anything changes.
//
// Tests speak of few machines, and a grant lets one machine reach another whatever third ones do. So the tailnet that they
// are run in has the peers that they may name, and the routers, whose subnets are part of what `*` stands for.

import { parseAddress, parsePrefix, type Prefix } from '../addresses/ip.js';
import type { GhostwireError } from '../errors.js';
import type { Peer } from '../peers/peer.js';
import { failedTests as failuresOf, testsFailed } from './applied.js';
import type { PolicyDocument } from './document.js';
import { approvedRoutes } from './routes.js';
import { Tailnet, type TailnetNode, type TailnetUser } from './tailnet.js';

/** What the tests of a policy say of it; undefined when they hold. */
export function failedTests(document: PolicyDocument, peers: Iterable<Peer>): GhostwireError | undefined {
  const { tests, sshTests, groups } = document;
  if (tests.length === 0 && sshTests.length === 0) return undefined;
  const isNamed = named(document);
  const nodes: TailnetNode[] = [];
  const users = new Map<string, TailnetUser>();
  for (const peer of peers) {
    const { user } = peer.record;
    if (user !== null && !users.has(user)) users.set(user, { login: user, name: user.slice(0, user.lastIndexOf('@')), roles: [] });
    if (peer.record.approvedRoutes.length > 0 || isNamed(peer)) nodes.push(nodeOf(peer, document));
  }
  // Members without a machine here can neither pass nor fail a test, and a large policy has many.
  const owners = new Set(nodes.map(({ user }) => user));
  const present = [...groups].map(([group, members]) => [group, members.filter((member) => owners.has(member) || member.endsWith('@'))] as const);
  const tailnet = new Tailnet([...users.values()], nodes, new Map(present));
  const failures = failuresOf(document, tailnet);
  return failures.length === 0 ? undefined : testsFailed(failures);
}

/** Whether a test may speak of a peer. What is not looked into here is taken to name everybody. */
function named({ tests, sshTests, groups }: PolicyDocument): (peer: Peer) => boolean {
  const tags = new Set<string>();
  const users = new Set<string>();
  const addresses = new Set<string>();
  let everybody = false;
  const note = (text: string): void => {
    if (text.startsWith('tag:')) tags.add(text);
    else if (text.startsWith('group:')) for (const member of groups.get(text) ?? []) users.add(member);
    else if (/^[^@:*\s]+@[^@\s]+$/.test(text)) users.add(text.toLowerCase());
    else if (parseAddress(text) !== undefined) addresses.add(text);
    else everybody = true;
  };
  const host = (text: string): string => text.slice(0, Math.max(0, text.lastIndexOf(':')));
  for (const { source, accept, deny } of tests) {
    note(source.trim());
    for (const destination of [...accept, ...deny]) note(host(destination.trim()).replace(/^\[(.*)\]$/, '$1'));
  }
  for (const { source, destinations } of sshTests) for (const text of [source, ...destinations]) note(text.trim());
  return ({ record: { tags: own, user, ipv4, ipv6 } }) =>
    everybody ||
    addresses.has(ipv4) ||
    addresses.has(ipv6) ||
    (own.length > 0 ? own.some((tag) => tags.has(tag)) : user !== null && users.has(user));
}

function nodeOf({ record }: Peer, document: PolicyDocument): TailnetNode {
  const { name, user, tags, ipv4, ipv6, advertisedRoutes } = record;
  const prefixes = (routes: readonly string[]): Prefix[] => routes.flatMap((route) => parsePrefix(route) ?? []);
  const offered = prefixes(advertisedRoutes);
  const owner = tags.length > 0 ? null : user;
  return {
    name,
    user: owner,
    tags,
    addresses: [ipv4, ipv6].flatMap((text) => {
      const address = parseAddress(text);
      return address === undefined ? [] : [{ ...address, length: address.family === 4 ? 32 : 128 }];
    }),
    routes: approvedRoutes(document, { user: owner, tags, offered, approved: prefixes(record.approvedRoutes) }),
    offered: offered.length,
  };
}
