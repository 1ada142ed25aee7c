// From a policy to what the ACL engine understands: rules over labels, and labels for each peer.

import type { AclRule } from 'zqlite';
import type { AclEntry, Destination, PolicyDocument, PortRange, Target } from './document.js';

export interface CompiledPolicy {
  readonly rules: readonly AclRule[];
  /** Line in the policy's text for a rule's id; rules that no line stands for are not in it. */
  readonly lines: ReadonlyMap<number, number>;
  /** The labels by which rules know a peer. */
  labels(peer: { readonly user: string | null; readonly tags: readonly string[] }): string[];
  /** Whether tagOwners lets this user give a peer this tag. */
  mayTag(user: string, tag: string): boolean;
}

const TCP_AND_UDP = [6, 17];
const ICMP = [1, 58];

export function compilePolicy(document: PolicyDocument): CompiledPolicy {
  const groupsOf = new Map<string, string[]>();
  for (const [group, members] of document.groups) {
    for (const member of members) {
      const groups = groupsOf.get(member);
      if (groups === undefined) groupsOf.set(member, [group]);
      else if (!groups.includes(group)) groups.push(group);
    }
  }
  const rules: AclRule[] = [];
  const lines = new Map<number, number>();
  const add = (rule: Omit<AclRule, 'id' | 'priority' | 'action'>, line?: number): void => {
    const id = rules.length + 1;
    rules.push({ id, priority: 0, action: 'allow', ...rule });
    if (line !== undefined) lines.set(id, line);
  };
  if (document.acls === undefined) add({ sources: ['*'], destinations: ['*'] });
  for (const entry of document.acls ?? []) compileEntry(entry, add);

  return {
    rules,
    lines,
    labels: ({ user, tags }) => {
      // A tagged peer acts for its tags alone, whoever owns it.
      if (tags.length > 0) return [...tags];
      return user === null ? [] : [`user:${user}`, ...(groupsOf.get(user) ?? [])];
    },
    mayTag: (user, tag) => mayTag(document, groupsOf, user, tag, new Set()),
  };
}

/** No policy yet: everybody may reach everybody, as in a new tailnet. */
export const ALLOW_ALL: CompiledPolicy = compilePolicy({ groups: new Map(), tagOwners: new Map(), acls: undefined });

/** For a stored policy that cannot be read: nobody may reach anybody until an admin writes another one. */
export const DENY_ALL: CompiledPolicy = compilePolicy({ groups: new Map(), tagOwners: new Map(), acls: [] });

function compileEntry(entry: AclEntry, add: (rule: Omit<AclRule, 'id' | 'priority' | 'action'>, line: number) => void): void {
  const sources = entry.sources.map(selector);
  if (sources.length === 0) return;
  // Destinations with the same ports share a rule.
  const byPorts = new Map<string, Destination[]>();
  for (const destination of entry.destinations) {
    const key = destination.ports?.map(({ first, last }) => `${first}-${last}`).join() ?? '*';
    byPorts.set(key, [...(byPorts.get(key) ?? []), destination]);
  }
  for (const group of byPorts.values()) {
    const destinations = group.map(({ target }) => selector(target));
    const ports = group[0]?.ports;
    if (ports === undefined) {
      add({ sources, destinations, protocols: entry.protocol === undefined ? [...TCP_AND_UDP, ...ICMP] : [entry.protocol] }, entry.line);
      continue;
    }
    add(
      { sources, destinations, protocols: entry.protocol === undefined ? TCP_AND_UDP : [entry.protocol], ports: ports.map(pair) },
      entry.line,
    );
    // Without `proto`, who may use some port may also ping.
    if (entry.protocol === undefined) add({ sources, destinations, protocols: ICMP }, entry.line);
  }
}

const pair = ({ first, last }: PortRange): [number, number] => [first, last];
const selector = (target: Target): string => (target.kind === 'any' ? '*' : target.text);

/** Owners are users, groups, or tags whose owners count as well; `seen` ends cycles. */
function mayTag(
  document: PolicyDocument,
  groupsOf: ReadonlyMap<string, readonly string[]>,
  user: string,
  tag: string,
  seen: Set<string>,
): boolean {
  if (seen.has(tag)) return false;
  seen.add(tag);
  return (document.tagOwners.get(tag) ?? []).some(
    (owner) =>
      owner === user ||
      (groupsOf.get(user)?.includes(owner) ?? false) ||
      (owner.startsWith('tag:') && mayTag(document, groupsOf, user, owner, seen)),
  );
}
