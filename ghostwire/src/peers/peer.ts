// A peer: what is kept of it, and which names, keys, tags and routes it may have.

import { formatPrefix, mappedProblem, parseAddress, parsePrefix, unmapped } from '../addresses/ip.js';
import { GhostwireError } from '../errors.js';

/** The durable part of a peer, at the journal key `peers/<id>`. */
export type PeerRecord = {
  /** The network's name for it, unique: a DNS label. */
  readonly name: string;
  /** What the machine calls itself. */
  readonly hostname: string;
  /** The owner, name@domain. A tagged peer acts for its tags and not for its owner. */
  readonly user: string | null;
  readonly tags: string[];
  /** Base64 of 32 bytes. */
  readonly wireguardKey: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly os: string;
  readonly version: string;
  /** Prefixes that the machine offers to carry, and those of them that an admin agreed to. Only the latter reach others. */
  readonly advertisedRoutes: string[];
  readonly approvedRoutes: string[];
  readonly metadata: { readonly [key: string]: string };
  /** The pre-auth key that it registered with. */
  readonly preauthKey: string;
  /** SHA-256 of the peer token's secret, base64url. */
  readonly tokenHash: string;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
};

/** A peer as it is held in memory. */
export interface Peer {
  /** `p_` and 16 characters of base32. */
  readonly id: string;
  /** The number that stands for this peer in the ACL engine and in sync; never used for another one by this process. */
  readonly handle: number;
  readonly revision: number;
  readonly record: PeerRecord;
  /** Where the machine was last reached, address:port. Soft: not journalled, lost with the process. */
  readonly endpoints: readonly string[];
}

/** A WireGuard public key in its canonical text. @throws GhostwireError ERR_WIREGUARD_KEY */
export function checkWireguardKey(text: string): string {
  // 43 characters and one '='; the last character carries 2 bits, its lower ones must be zero.
  if (!/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(text)) {
    throw new GhostwireError(
      'ERR_WIREGUARD_KEY',
      `wireguardKey is not the base64 of 32 bytes (44 characters), got ${text.length} characters`,
      { path: 'wireguardKey' },
    );
  }
  if (text === ZERO_KEY) throw new GhostwireError('ERR_WIREGUARD_KEY', 'wireguardKey is all zero', { path: 'wireguardKey' });
  return text;
}

const ZERO_KEY = `${'A'.repeat(43)}=`;

/** The same key without the characters that a journal key path cannot hold. */
export const wireguardKeyPath = (key: string): string => `wireguard-keys/${key.slice(0, 43).replaceAll('+', '-').replaceAll('/', '_')}`;

/** An RFC 1123 label in lower case. @throws GhostwireError ERR_HOSTNAME */
export function checkLabel(text: string, path: string): string {
  const label = text.toLowerCase();
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label)) {
    throw new GhostwireError(
      'ERR_HOSTNAME',
      `${path} ${JSON.stringify(text)} is not a host name label: 1 to 63 letters, digits and inner hyphens`,
      { path },
    );
  }
  return label;
}

/** A user in lower case. @throws GhostwireError ERR_USER */
export function checkUser(text: string, path: string): string {
  const user = text.toLowerCase();
  if (!isUser(user)) throw new GhostwireError('ERR_USER', `${path} ${JSON.stringify(text)} is not of the form name@domain`, { path });
  return user;
}

/** The atoms of RFC 5322 without '*', which would read as a pattern in a policy, and a DNS name. */
export const isUser = (text: string): boolean =>
  text.length <= 254 &&
  /^[a-z0-9.!#$%&'+/=?^_`{|}~-]+@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text);

export const isTag = (text: string): boolean => /^tag:[A-Za-z][A-Za-z0-9-]{0,62}$/.test(text);

/** Tags without repetition, sorted. @throws GhostwireError ERR_TAG */
export function checkTags(tags: readonly string[], path: string): string[] {
  for (const tag of tags) {
    if (!isTag(tag)) throw new GhostwireError('ERR_TAG', `${path}: ${JSON.stringify(tag)} is not a tag such as tag:web`, { path });
  }
  return tags.length < 2 ? [...tags] : [...new Set(tags)].sort();
}

/** Prefixes in their one form, without repetition. @throws GhostwireError ERR_ROUTE */
export function checkRoutes(routes: readonly string[], path: string): string[] {
  const texts = routes.map((text) => {
    const prefix = parsePrefix(text);
    if (prefix === undefined)
      throw new GhostwireError('ERR_ROUTE', `${path}: ${JSON.stringify(text)} is ${mappedProblem(text) ?? 'not a prefix without host bits'}`, { path });
    return formatPrefix(prefix);
  });
  return texts.length < 2 ? texts : [...new Set(texts)].sort();
}

/** @throws GhostwireError ERR_ENDPOINT */
export function checkEndpoints(endpoints: readonly string[], path: string): string[] {
  for (const text of endpoints) {
    const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
    const port = Number(match?.[3] ?? 0);
    const host = match?.[1] ?? match?.[2] ?? '';
    const family = match?.[1] === undefined ? 4 : 6;
    const ipv4 = family === 6 ? unmapped(host) : undefined;
    if (ipv4 !== undefined)
      throw new GhostwireError('ERR_ENDPOINT', `${path}: ${JSON.stringify(text)} is IPv4-mapped IPv6; write ${ipv4}:${port}`, { path });
    if (parseAddress(host)?.family !== family || port < 1 || port > 65_535)
      throw new GhostwireError('ERR_ENDPOINT', `${path}: ${JSON.stringify(text)} is not address:port`, { path });
  }
  return [...endpoints];
}

/** The part of a peer that other peers see in their netmaps. */
export interface NetmapPeer {
  readonly id: string;
  readonly name: string;
  readonly user: string | null;
  readonly tags: readonly string[];
  /** IPv4, then IPv6. */
  readonly addresses: readonly [string, string];
  readonly wireguardKey: string;
  readonly endpoints: readonly string[];
  /** Approved prefixes, of those that several peers route only what this one is the primary of. */
  readonly routes: readonly string[];
  /** By which packet filters select it as a source. */
  readonly labels: readonly string[];
}

export function publicRecord({ id, record, endpoints }: Peer, labels: readonly string[], routes: readonly string[]): NetmapPeer {
  const { name, user, tags, ipv4, ipv6, wireguardKey } = record;
  return { id, name, user, tags, addresses: [ipv4, ipv6], wireguardKey, endpoints, routes, labels };
}
