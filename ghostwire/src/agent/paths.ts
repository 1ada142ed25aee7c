// Which address of a peer to try next. Pure: told what the interface says, answers what to change.
//
// WireGuard sends to one address of a peer and moves to wherever its authentic packets come from. So a path needs only be
// found once: the candidates are tried one after another until there is a handshake. Two hosts behind NATs do so at
// the same time, each packet out opening the way for the other's in. WireGuard starts a handshake every 5 s at most, which is
// long when the other side has not yet heard of this one: the first few are begun anew after a second.

import { hostOf } from './netmap.js';
import { parsePrefix } from '../addresses/ip.js';
import { within } from './netmap.js';
import type { LivePeer } from './wireguard.js';

/** WireGuard's REKEY_TIMEOUT, and something for the answer. */
const RETRY = 5_500;
/** WireGuard's REJECT_AFTER_TIME: a session that is older is none. */
const SESSION = 180_000;
/** Between the first handshakes with a peer, and how many of them. */
const HURRY = 900;
const HURRIES = 4;
/** How long after its addresses became known a peer is hurried, and how many peers at a time: among thousands most are not there. */
const HURRY_WITHIN = 6_000;
const HURRY_AT_ONCE = 32;
/** For a peer that has moved to be heard from its old address after all. */
const GRACE = 3_000;

interface Path {
  candidates: readonly string[];
  index: number;
  triedAt: number;
  /** How many handshakes were begun anew since the candidates are these. */
  hurries: number;
  /** Since when the candidates are these. */
  since: number;
  received: number;
  sent: number;
  /** When the candidates changed in a way that makes the present address doubtful. */
  doubtfulSince: number | undefined;
}

export interface PathFacts {
  /** Prefixes that the host is on. */
  readonly onLink: readonly string[];
  /** The host's address as the world sees it. */
  readonly reflexive: string | undefined;
  /** Whether the host has an address of the family. */
  readonly ipv6: boolean;
}

export class Paths {
  readonly #paths = new Map<string, Path>();

  /** Takes over the candidates of a peer; returns the first to try for one that has none yet. */
  offer(publicKey: string, candidates: readonly string[], now: number): string | undefined {
    const path = this.#paths.get(publicKey);
    if (path === undefined) {
      this.#paths.set(publicKey, { candidates, index: 0, triedAt: now, hurries: 0, since: now, received: 0, sent: 0, doubtfulSince: undefined });
      return candidates[0];
    }
    if (path.candidates.join() !== candidates.join()) {
      path.candidates = candidates;
      path.index = 0;
      path.hurries = 0;
      path.since = now;
      path.doubtfulSince = now;
    }
    return candidates[path.index];
  }

  /** Peers who have never answered and are to be tried anew at once, with the address to try; and whether there will be more. */
  hurry(live: readonly LivePeer[], now: number): { readonly peers: { readonly peer: LivePeer; readonly endpoint: string }[]; readonly more: boolean } {
    const peers: { peer: LivePeer; endpoint: string }[] = [];
    let more = false;
    for (const peer of live) {
      const path = this.#paths.get(peer.publicKey);
      if (path === undefined || path.candidates.length === 0 || peer.handshakeAt !== 0 || path.hurries >= HURRIES || now - path.since >= HURRY_WITHIN) continue;
      if (peer.keepalive === 0 && peer.sent === 0) continue;
      more = true;
      if (now - path.triedAt < HURRY || peers.length >= HURRY_AT_ONCE) continue;
      path.hurries += 1;
      path.triedAt = now;
      // Twice the best one, which may only have come too early; then the others.
      if (path.hurries > 1) path.index = (path.index + 1) % path.candidates.length;
      const endpoint = path.candidates[path.index];
      if (endpoint !== undefined) peers.push({ peer, endpoint });
    }
    return { peers, more };
  }

  keep(publicKeys: ReadonlySet<string>): void {
    for (const key of this.#paths.keys()) if (!publicKeys.has(key)) this.#paths.delete(key);
  }

  /** The addresses to change to, by public key. */
  next(live: readonly LivePeer[], now: number): Map<string, string> {
    const changes = new Map<string, string>();
    for (const peer of live) {
      const path = this.#paths.get(peer.publicKey);
      if (path === undefined) continue;
      const heard = peer.received > path.received;
      const sent = peer.sent > path.sent;
      path.received = peer.received;
      path.sent = peer.sent;
      if (path.candidates.length === 0) continue;
      if (path.doubtfulSince !== undefined) {
        const known = peer.endpoint !== undefined && path.candidates.includes(peer.endpoint);
        if (known || (heard && peer.endpoint !== undefined)) path.doubtfulSince = undefined;
        else if (peer.endpoint === undefined || now - path.doubtfulSince >= GRACE) {
          path.doubtfulSince = undefined;
          path.triedAt = now;
          const [first] = path.candidates;
          if (first !== undefined) changes.set(peer.publicKey, first);
          continue;
        } else continue;
      }
      if (now - peer.handshakeAt < SESSION) continue;
      // Nobody wants to reach it: WireGuard is silent by design.
      if (peer.keepalive === 0 && !sent) continue;
      if (now - path.triedAt < RETRY) continue;
      const at = path.candidates.indexOf(peer.endpoint ?? '');
      path.index = (at + 1) % path.candidates.length;
      path.triedAt = now;
      const next = path.candidates[path.index];
      if (next !== undefined && next !== peer.endpoint) changes.set(peer.publicKey, next);
    }
    return changes;
  }
}

/** A peer's addresses, the most promising first: on a common link, then public ones, then what is behind somebody's NAT. */
export function ordered(endpoints: readonly string[], { onLink, reflexive, ipv6 }: PathFacts): string[] {
  const links = onLink.map((prefix) => parsePrefix(prefix)).filter((prefix) => prefix !== undefined);
  const rank = (endpoint: string): number => {
    const host = hostOf(endpoint);
    if (links.some((link) => within(host, link))) return 0;
    // Behind the same NAT: few send their own inside back in.
    if (reflexive !== undefined && hostOf(reflexive) === host) return 3;
    return isPrivate(host) ? 2 : 1;
  };
  return endpoints
    .filter((endpoint) => ipv6 || !endpoint.startsWith('['))
    .map((endpoint) => ({ endpoint, rank: rank(endpoint) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ endpoint }) => endpoint);
}

/** RFC 1918, RFC 6598, RFC 4193. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map((text) => parsePrefix(text));
const isPrivate = (host: string): boolean => PRIVATE.some((prefix) => prefix !== undefined && within(host, prefix));
