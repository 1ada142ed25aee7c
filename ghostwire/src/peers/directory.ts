// All peers in memory, by id, handle and name.

import { parsePrefix } from '../addresses/ip.js';
import type { Applied } from '../replica.js';
import { parseKey, matches } from '../keys/secrets.js';
import type { Peer, PeerRecord } from './peer.js';

export const PEERS = 'peers/';

/** What one event did to a peer: `before` without `after` is a deletion. */
export interface PeerChange {
  readonly before: Peer | undefined;
  readonly after: Peer | undefined;
}

export class Directory {
  readonly #byId = new Map<string, Peer>();
  readonly #byHandle = new Map<number, Peer>();
  readonly #byName = new Map<string, Peer>();
  /** Endpoints of peers whose registration is being committed, so that the first netmap has them. */
  readonly #expected = new Map<string, readonly string[]>();
  #nextHandle = 1;
  readonly #dropped: (id: string, route: string) => void;

  /** @param dropped told of a route in the journal that is none to this version */
  constructor(dropped: (id: string, route: string) => void = () => undefined) {
    this.#dropped = dropped;
  }

  get size(): number {
    return this.#byId.size;
  }

  get(id: string): Peer | undefined {
    return this.#byId.get(id);
  }

  atHandle(handle: number): Peer | undefined {
    return this.#byHandle.get(handle);
  }

  named(name: string): Peer | undefined {
    return this.#byName.get(name);
  }

  all(): IterableIterator<Peer> {
    return this.#byId.values();
  }

  /** The peer whose token this is. */
  withToken(text: string): Peer | undefined {
    const parsed = parseKey('peer', text);
    const peer = parsed === undefined ? undefined : this.#byId.get(`p_${parsed.id}`);
    return peer !== undefined && parsed !== undefined && matches(parsed.secret, peer.record.tokenHash) ? peer : undefined;
  }

  /** Notes the soft endpoints of a peer that is about to be committed. An empty list forgets them, if it was not. */
  expectEndpoints(id: string, endpoints: readonly string[]): void {
    if (endpoints.length > 0) this.#expected.set(id, endpoints);
    else this.#expected.delete(id);
  }

  /** Replaces the soft endpoints of a peer; returns whether they differ. */
  setEndpoints(id: string, endpoints: readonly string[]): boolean {
    const peer = this.#byId.get(id);
    if (peer === undefined || peer.endpoints.join() === endpoints.join()) return false;
    const after: Peer = { ...peer, endpoints };
    this.#byId.set(id, after);
    this.#byHandle.set(peer.handle, after);
    this.#byName.set(peer.record.name, after);
    return true;
  }

  apply({ key, value, revision }: Applied): PeerChange {
    const id = key.slice(PEERS.length);
    const before = this.#byId.get(id);
    if (before !== undefined) this.#byName.delete(before.record.name);
    if (value === undefined) {
      this.#byId.delete(id);
      if (before !== undefined) this.#byHandle.delete(before.handle);
      return { before, after: undefined };
    }
    const record = this.#readable(id, value as PeerRecord);
    const handle = before?.handle ?? this.#nextHandle++;
    const after: Peer = { id, handle, revision, record, endpoints: this.#expected.get(id) ?? before?.endpoints ?? [] };
    this.#expected.delete(id);
    this.#byId.set(id, after);
    this.#byHandle.set(handle, after);
    this.#byName.set(record.name, after);
    return { before, after };
  }

  /** Without routes that an earlier version took and this one would not, which would stand for others: see addresses/ip.ts. */
  #readable(id: string, record: PeerRecord): PeerRecord {
    const wrong = new Set([...record.advertisedRoutes, ...record.approvedRoutes].filter((route) => parsePrefix(route) === undefined));
    if (wrong.size === 0) return record;
    for (const route of wrong) this.#dropped(id, route);
    const right = (routes: readonly string[]): string[] => routes.filter((route) => !wrong.has(route));
    return { ...record, advertisedRoutes: right(record.advertisedRoutes), approvedRoutes: right(record.approvedRoutes) };
  }
}
