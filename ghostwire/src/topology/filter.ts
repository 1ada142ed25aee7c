// The packet filter of a peer, as it is told and as an agent believes it: rules in the order in which they decide.
//
// A filter names its sources as the rules do, by label or prefix, and every record of the netmap says which labels its
// peer bears. Destinations behind a router are named as the rules name them too; what of that it really routes, the router
// knows. So a peer that comes or goes changes one record and no filter, and all peers of a class, whom the rules cannot tell
// apart, have the same one.

import type { AclRule } from 'zqlite';
import type { Family } from '../addresses/ip.js';
import { GhostwireError } from '../errors.js';

/** One rule of a filter: the first that matches decides; when none does, the packet is dropped. */
export interface FilterRule {
  readonly action: 'allow' | 'deny';
  /** `*`, labels, addresses, prefixes, ranges `first-last`. A network that holds any address of a peer means all of them. */
  readonly sources: readonly string[];
  /** `self`, the peer's own addresses; `routes`, all that it routes; a network, of which what it routes is meant. */
  readonly destinations: readonly string[];
  /** IANA numbers; absent: all. */
  readonly protocols?: readonly number[];
  /** Both ends within; absent: all. */
  readonly ports?: readonly (readonly [number, number])[];
  /** Only between peers of one user. */
  readonly sameOwner?: true;
  /** Only packets of this version of IP. */
  readonly family?: Family;
  /** Milliseconds since 1970. */
  readonly expiresAt?: number;
}

/** What a filter may have; an agent believes no more. */
export const FILTER_LIMITS = {
  rules: 10_000,
  /** Of one rule. */
  sources: 10_000,
  /** Of one rule. */
  destinations: 10_000,
  /** Of all rules together, as text. A filter is no longer than they are. */
  bytes: 4 * 2 ** 20,
} as const;

/**
 * Refuses rules that together could make a filter longer than peers can be told.
 * @throws GhostwireError ERR_POLICY_TOO_LARGE
 */
export function checkLength(rules: readonly AclRule[]): void {
  const refuse = (what: string, found: number, limit: number): never => {
    const message = `a packet filter may have ${limit} ${what}, and there would be ${found}; name groups, tags and networks in place of single addresses`;
    throw new GhostwireError('ERR_POLICY_TOO_LARGE', message, { found, limit });
  };
  if (rules.length > FILTER_LIMITS.rules) refuse('rules', rules.length, FILTER_LIMITS.rules);
  for (const { sources, destinations } of rules) {
    if (sources.length > FILTER_LIMITS.sources) refuse('sources in a rule', sources.length, FILTER_LIMITS.sources);
    if (destinations.length > FILTER_LIMITS.destinations) refuse('destinations in a rule', destinations.length, FILTER_LIMITS.destinations);
  }
  const bytes = Buffer.byteLength(JSON.stringify(rules));
  if (bytes > FILTER_LIMITS.bytes) refuse('bytes', bytes, FILTER_LIMITS.bytes);
}
