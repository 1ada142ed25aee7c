// Which peers the ACL engine must be told of again when a policy takes another's place.

import type { Peer } from '../peers/peer.js';
import type { CompiledPolicy } from './compile.js';

/** Peers that one policy shows to the engine in another way than the other. */
export function relabelled(peers: Iterable<Peer>, from: CompiledPolicy, to: CompiledPolicy): Peer[] {
  if (from.subject === to.subject) return [];
  // Peers with one owner, the same tags and routes are shown alike, so most need no look.
  const known = new Map<string, boolean>();
  const others: Peer[] = [];
  for (const peer of peers) {
    const key = keyOf(peer.record);
    let differs = known.get(key);
    if (differs === undefined) {
      const [before, after] = [from.subject(peer.record), to.subject(peer.record)];
      differs = before.owner !== after.owner || !sameList(before.labels, after.labels) || !sameList(before.routes ?? [], after.routes ?? []);
      known.set(key, differs);
    }
    if (differs) others.push(peer);
  }
  return others;
}

/** Most have but an owner or one tag, and no new text is made for them. */
function keyOf({ user, tags, approvedRoutes }: Peer['record']): string {
  const [tag] = tags;
  if (approvedRoutes.length === 0 && tag === undefined) return user ?? '';
  if (approvedRoutes.length === 0 && tags.length === 1 && user === null) return tag ?? '';
  return `${user ?? ''} ${tags.join()} ${approvedRoutes.join()}`;
}

const sameList = (a: readonly string[], b: readonly string[]): boolean => a.length === b.length && a.every((item, index) => item === b[index]);
