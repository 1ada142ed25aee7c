// Answers "may this one reach that one?" for peers named by id, name or address, and for any other address.

import type { AclEngine } from 'zqlite';
import { parseAddress, type Family } from '../addresses/ip.js';
import { GhostwireError } from '../errors.js';
import type { Directory } from '../peers/directory.js';
import type { Peer } from '../peers/peer.js';
import type { Policies } from './policies.js';

export interface AccessQuestion {
  readonly source: string;
  readonly destination: string;
  /** IANA number */
  readonly protocol: number;
  readonly port: number;
}

export interface AccessDecision {
  readonly allowed: boolean;
  /** Line of the deciding rule in the policy; null when no line decided. */
  readonly line: number | null;
}

export class Access {
  readonly #engine: Pick<AclEngine, 'decide' | 'decideAddresses'>;
  readonly #directory: Directory;
  readonly #policies: Policies;

  constructor(engine: Pick<AclEngine, 'decide' | 'decideAddresses'>, directory: Directory, policies: Policies) {
    this.#engine = engine;
    this.#directory = directory;
    this.#policies = policies;
  }

  /** @throws GhostwireError ERR_PEER_NOT_FOUND when a name stands for nothing, ERR_VALIDATION for addresses of two families */
  decide({ source, destination, protocol, port }: AccessQuestion): AccessDecision {
    const from = this.#find(source, 'src');
    const to = this.#find(destination, 'dst');
    const { allowed, rule } =
      typeof from === 'object' && typeof to === 'object'
        ? this.#engine.decide({ source: from.handle, destination: to.handle, protocol, port })
        : this.#engine.decideAddresses({ ...sameFamily(from, to), protocol, port });
    return { allowed, line: rule === null ? null : (this.#policies.compiled.lines.get(rule) ?? null) };
  }

  /** A peer, or the text of an address that may or may not be a peer's. */
  #find(text: string, path: string): Peer | string {
    const peer = this.#directory.get(text) ?? this.#directory.named(text.toLowerCase());
    if (peer !== undefined) return peer;
    if (familyOf(text) === undefined)
      throw new GhostwireError('ERR_PEER_NOT_FOUND', `${path}: ${JSON.stringify(text)} is no peer's id or name, and no address`, { path });
    return text;
  }
}

const familyOf = (text: string): Family | undefined => parseAddress(text)?.family;

/** A peer has an address of either family: the one that the other side speaks. */
function sameFamily(from: Peer | string, to: Peer | string): { source: string; destination: string } {
  const family = familyOf(typeof from === 'string' ? from : typeof to === 'string' ? to : '') ?? 4;
  const address = (end: Peer | string): string => (typeof end === 'string' ? end : family === 4 ? end.record.ipv4 : end.record.ipv6);
  const [source, destination] = [address(from), address(to)];
  if (familyOf(source) !== familyOf(destination))
    throw new GhostwireError('ERR_VALIDATION', `src ${source} and dst ${destination} are of two address families`, { path: 'dst' });
  return { source, destination };
}
