// The tests of a policy, run against the peers that there are: on every write, before anything changes.
//
// Tests speak of few machines, and a grant lets one machine reach another whatever third ones do. So the tailnet that they
// are run in has the peers that they may name, and the routers, whose subnets are part of what `*` stands for.

import { parseAddress, parsePrefix, type Prefix } from '../addresses/ip.js';
import type { GhostwireError } from '../errors.js';
import type { Peer } from '../peers/peer.js';
import { ALLOW_ALL_GRANT, testsFailed } from './cases.js';
import type { CompiledPolicy } from './compile.js';
import type { PolicyDocument } from './document.js';
import type { Grant } from './grants.js';
import { reachOf } from './reach.js';
import { runSshTests } from './ssh-tests.js';
import { SshPolicy } from './ssh.js';
import { Tailnet, type TailnetNode, type TailnetUser } from './tailnet.js';
import { runTests } from './tests.js';

/** What the tests of a policy say of it; undefined when they hold. */
export function failedTests(document: PolicyDocument, compiled: CompiledPolicy, peers: Iterable<Peer>): GhostwireError | undefined {
  const { tests, sshTests, groups, hosts, tagOwners } = document;
  if (tests.length === 0 && sshTests.length === 0) return undefined;
  const isNamed = named(document);
  const nodes: TailnetNode[] = [];
  const users = new Map<string, TailnetUser>();
  for (const peer of peers) {
    const { user } = peer.record;
    if (user !== null && !users.has(user)) users.set(user, { login: user, name: user.slice(0, user.lastIndexOf('@')), roles: [] });
    if (peer.record.approvedRoutes.length > 0 || isNamed(peer)) nodes.push(nodeOf(peer, compiled));
  }
  // Members without a machine here can neither pass nor fail a test, and a large policy has many.
  const owners = new Set(nodes.map(({ user }) => user));
  const present = [...groups].map(([group, members]) => [group, members.filter((member) => owners.has(member) || member.endsWith('@'))] as const);
  const tailnet = new Tailnet([...users.values()], nodes, new Map(present));
  const names = { groups, hosts, tagOwners, domains: undefined };
  const failures = [
    ...(tests.length === 0 ? [] : runTests(tests, names, tailnet, reachOf(asked(document), tailnet))),
    ...(sshTests.length === 0 ? [] : runSshTests(sshTests, names, tailnet, new SshPolicy(document.ssh, tailnet, ''))),
  ];
  return failures.length === 0 ? undefined : testsFailed(failures);
}

/** The grants of ports that the tests ask about; no other can decide one. */
function asked({ tests, grants = [ALLOW_ALL_GRANT] }: PolicyDocument): readonly Grant[] {
  const numbers = new Set<number>();
  for (const { accept, deny } of tests) {
    for (const destination of [...accept, ...deny]) {
      const port = /:(\d{1,5})$/.exec(destination.trim())?.[1];
      // What is no single port fails its test, and the test says why.
      if (port !== undefined) numbers.add(Number(port));
    }
  }
  const ports = [...numbers];
  return grants.filter(({ services }) => services.some((service) => service.ports.some(({ first, last }) => ports.some((port) => first <= port && port <= last))));
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

function nodeOf({ record }: Peer, { approve }: CompiledPolicy): TailnetNode {
  const { name, user, tags, ipv4, ipv6, advertisedRoutes, approvedRoutes } = record;
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
    routes: approve({ user: owner, tags, offered, approved: prefixes(approvedRoutes) }),
    offered: offered.length,
  };
}
