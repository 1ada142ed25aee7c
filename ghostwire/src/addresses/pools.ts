// The addresses of a network: which one a new peer gets, who has one, and when one that was given back is free again.
//
// Only IPv4 is allocated. A peer's IPv6 address is the configured prefix with the IPv4 address in its last 32 bits, so
// that one decision, and one journal key, makes both unique.
//
// Here is proposed, the journal decides: an address is a peer's by the commit that puts its id at `addresses/v4/<ip>`, under
// the condition that the key still is what it was when the address was proposed. The table follows the journal and keeps
// proposals from colliding. A quarantine is such a key too, so it outlasts a restart, and nobody who has not heard of it can
// take the address. What is held, kept, resting or on its way is a prefix of the table with who has it as its value; so the
// next free address of a pool is one way down the trie, however full it is.

import { CidrTable } from 'zqlite';
import { GhostwireError } from '../errors.js';
import type { Condition, JsonValue } from '../journal/journal.js';
import { formatGroups, formatIpv4, mappedProblem, parseAddress, parseIpv4, parsePrefix } from './ip.js';
import { rangeOf } from './ranges.js';
import { addressPath, readAddress } from './record.js';
import { checkPools, networkPrefix, RESERVED, RESERVED_RANGES } from './rules.js';

/** A peer's pair of addresses. */
export interface PeerAddresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** Addresses for a peer, if the commit that gives them to it has this among its conditions. */
export interface Proposal extends PeerAddresses {
  readonly condition: Condition;
}

export interface AddressOptions {
  /** The IPv4 prefix of all addresses, /8 to /29. */
  readonly ipv4: string;
  /** /96 or shorter. */
  readonly ipv6: string;
  /** Prefixes within `ipv4` that peers are given addresses of, in this order; none: the whole of it. */
  readonly pools: readonly string[];
  /** Milliseconds for which an address is not given to anybody after a peer that had it. */
  readonly quarantine: number;
  /** Default: Date.now. */
  readonly now?: () => number;
  /** The peer of a handle, to be named to who wants its address. */
  readonly peerOf?: (handle: number) => { readonly id: string; readonly name: string } | undefined;
}

/** How things stand with an address. */
export type Standing =
  /** `handle` is unknown for a peer that has not come around yet. */
  | { readonly state: 'held'; readonly handle: number | undefined }
  /** A request under way is about to give it to a peer. */
  | { readonly state: 'pending' }
  /** For the machine that registers with a pre-auth key. */
  | { readonly state: 'kept'; readonly preauthKey: string }
  /** Until then, milliseconds since 1970, unless an operator gives it to somebody. */
  | { readonly state: 'resting'; readonly until: number }
  | { readonly state: 'reserved' | 'free' | 'outside' };

interface Resting {
  readonly until: number;
  readonly revision: number;
}

// Values of the table beside handles of peers, which count up from 1.
const NOBODY = 0;
const PENDING = 2 ** 32 - 1;
const RESTING = 2 ** 32 - 2;
const KEPT = 2 ** 32 - 3;
/** Of a peer that is not known here, or of something else: not free. */
const STRANGER = 2 ** 32 - 4;

/** IPv4 addresses as numbers, both ends within. */
type Span = readonly [first: number, last: number];

const RESERVED_SPANS = RESERVED_RANGES.map(({ first, last }): Span => [Number(first), Number(last)]);

/** Undefined for anything but an IPv4 prefix. */
function spanOf(text: string): Span | undefined {
  const prefix = parsePrefix(text);
  if (prefix?.family !== 4) return undefined;
  const { first, last } = rangeOf(prefix);
  return [Number(first), Number(last)];
}

export class AddressPools {
  readonly #network: Span;
  readonly #pools: readonly string[];
  readonly #quarantine: number;
  readonly #now: () => number;
  readonly #peerOf: NonNullable<AddressOptions['peerOf']>;
  /** The first six groups of every IPv6 address, and the number that they are. */
  readonly #groups: readonly number[];
  readonly #ipv6: bigint;
  #before = { high: -1, text: '' };
  /** The first and last address of the network and of every pool. */
  readonly #edges = new Set<number>();
  readonly #table = new CidrTable();
  readonly #resting = new Map<string, Resting>();
  /** What rests, by the time of its end once it is `#ordered`; what no longer does may still be in it. */
  #queue: (Resting & { readonly ipv4: string })[] = [];
  #ordered = true;
  #head = 0;
  /** Rested, and free, but their keys are still there: the revisions. */
  readonly #rested = new Map<string, number>();
  readonly #kept = new Map<string, { readonly preauthKey: string; readonly revision: number }>();

  /** @throws GhostwireError ERR_CONFIG */
  constructor({ ipv4, ipv6, pools, quarantine, now = Date.now, peerOf = () => undefined }: AddressOptions) {
    this.#quarantine = quarantine;
    this.#now = now;
    this.#peerOf = peerOf;
    this.#ipv6 = networkPrefix(ipv6, 6).value;
    this.#groups = Array.from({ length: 6 }, (_, index) => Number((this.#ipv6 >> BigInt(112 - 16 * index)) & 0xffffn));
    this.#pools = pools.length === 0 ? [ipv4] : pools;
    checkPools(ipv4, this.#pools);
    this.#network = spanOf(ipv4) ?? [0, -1];
    for (const [first, last] of [ipv4, ...this.#pools].flatMap((text) => [spanOf(text) ?? [0, 0]])) this.#edges.add(first).add(last);
    this.#table.insertAll(RESERVED, new Uint32Array(RESERVED.length).fill(NOBODY));
  }

  /**
   * The lowest address of the first pool that has one which nobody holds as far as this process knows. Give it back with
   * `withdraw` when the commit fails.
   * @param pools prefixes in place of those of the configuration
   * @throws GhostwireError ERR_ADDRESSES_EXHAUSTED
   */
  propose(pools: readonly string[] = this.#pools): Proposal {
    this.#endQuarantines();
    for (const pool of pools) {
      if (pools !== this.#pools && !this.#isWithin(pool)) continue;
      const ipv4 = this.#allocate(pool);
      if (ipv4 !== undefined) return this.#proposal(ipv4, this.#rested.get(ipv4));
    }
    throw this.#exhausted(pools);
  }

  /**
   * The address that an operator wants for a peer: any of the network, in a pool or not. One that rests may be had. Give it
   * back with `withdraw` when the commit fails.
   * @param preauthKey id of the key that it may be kept for
   * @throws GhostwireError ERR_ADDRESS, ERR_ADDRESS_TAKEN
   */
  claim(text: string, preauthKey?: string): Proposal {
    const ipv4 = this.#check(text);
    this.#endQuarantines();
    const value = this.#table.lookupValue(ipv4);
    const kept = this.#kept.get(ipv4);
    const own = value === KEPT && kept !== undefined && kept.preauthKey === preauthKey;
    if (value !== undefined && value !== RESTING && !own) throw this.#taken(ipv4, value);
    const standing = own ? kept.revision : (this.#resting.get(ipv4)?.revision ?? this.#rested.get(ipv4));
    this.#table.insert(ipv4, PENDING);
    return this.#proposal(ipv4, standing);
  }

  /** The commit that was to give this address to a peer was not made. */
  withdraw({ ipv4 }: PeerAddresses): void {
    // What the journal has said of it meanwhile stands.
    if (this.#table.lookupValue(ipv4) !== PENDING) return;
    if (this.#kept.has(ipv4)) this.#table.insert(ipv4, KEPT);
    else if (this.#resting.has(ipv4)) this.#table.insert(ipv4, RESTING);
    else this.#free(ipv4);
  }

  /** The journal's word on an address: `value` is that of `addresses/v4/<ipv4>`, undefined when the key is gone. */
  apply(ipv4: string, value: JsonValue | undefined, revision: number, handleOf: (id: string) => number | undefined): void {
    if (parseIpv4(ipv4) === undefined) return;
    this.#resting.delete(ipv4);
    this.#rested.delete(ipv4);
    this.#kept.delete(ipv4);
    if (value === undefined) {
      this.#free(ipv4);
      return;
    }
    const record = readAddress(value);
    if (record === undefined) this.#table.insert(ipv4, STRANGER);
    else if (typeof record === 'string') this.#table.insert(ipv4, handleOf(record) ?? STRANGER);
    else if ('preauthKey' in record) {
      this.#kept.set(ipv4, { preauthKey: record.preauthKey, revision });
      this.#table.insert(ipv4, KEPT);
    } else this.#rest(ipv4, record.releasedAt, revision);
  }

  /** The condition on the key of an address that is kept for a pre-auth key, also while a registration with that is under way. */
  keptFor(ipv4: string, preauthKey: string): Condition | undefined {
    const kept = this.#kept.get(ipv4);
    return kept?.preauthKey === preauthKey ? { key: addressPath(ipv4), revision: kept.revision } : undefined;
  }

  /** Conditions on the keys of addresses that have rested, or are kept for keys that can no longer be used: to be deleted. */
  forgettable(isUsable: (preauthKey: string) => boolean, limit: number): (Condition & { readonly revision: number })[] {
    this.#endQuarantines();
    const found: (Condition & { readonly revision: number })[] = [];
    const note = (ipv4: string, revision: number): void => {
      if (this.#table.lookupValue(ipv4) !== PENDING) found.push({ key: addressPath(ipv4), revision });
    };
    for (const [ipv4, revision] of this.#rested) {
      if (found.length >= limit) return found;
      note(ipv4, revision);
    }
    for (const [ipv4, { preauthKey, revision }] of this.#kept) {
      if (found.length >= limit) return found;
      if (!isUsable(preauthKey)) note(ipv4, revision);
    }
    return found;
  }

  /** How many addresses rest. */
  get resting(): number {
    this.#endQuarantines();
    return this.#resting.size;
  }

  /** What to put in place of an address that a peer gives back; undefined when it is free at once. */
  get quarantined(): { readonly releasedAt: number } | undefined {
    return this.#quarantine === 0 ? undefined : { releasedAt: this.#now() };
  }

  /** How things stand with an address of either family, and the IPv4 address that it belongs to. */
  look(text: string): Standing & { readonly ipv4: string | undefined } {
    this.#endQuarantines();
    const ipv4 = this.#ipv4Of(text);
    return { ...this.#standing(ipv4), ipv4 };
  }

  /** The configured pool that an address is of. */
  poolOf(ipv4: string): string | undefined {
    return this.#pools.find((pool) => holds(spanOf(pool), parseIpv4(ipv4)));
  }

  #standing(ipv4: string | undefined): Standing {
    if (ipv4 === undefined) return { state: 'outside' };
    const value = this.#table.lookupValue(ipv4);
    if (value === undefined || value === NOBODY) {
      if (!this.#isOfNetwork(ipv4)) return { state: 'outside' };
      return { state: this.#isReserved(numberOf(ipv4)) ? 'reserved' : 'free' };
    }
    if (value === PENDING) return { state: 'pending' };
    if (value === KEPT) return { state: 'kept', preauthKey: this.#kept.get(ipv4)?.preauthKey ?? '' };
    if (value === RESTING) return { state: 'resting', until: this.#resting.get(ipv4)?.until ?? 0 };
    return { state: 'held', handle: value === STRANGER ? undefined : value };
  }

  /** An address of the network's IPv6 prefix stands for the IPv4 address in its last bits. */
  #ipv4Of(text: string): string | undefined {
    const address = parseAddress(text);
    if (address === undefined) return undefined;
    if (address.family === 4) return formatIpv4(Number(address.value));
    return address.value >> 32n === this.#ipv6 >> 32n ? formatIpv4(Number(address.value & 0xffff_ffffn)) : undefined;
  }

  /** The next free address of a pool, marked. Reserved ones are marked for good when they first come up. */
  #allocate(pool: string): string | undefined {
    for (;;) {
      // A table does not take a pool for full because of a prefix that covers it, as an address is covered by itself.
      const single = pool.endsWith('/32');
      if (single && this.#table.lookupValue(pool.slice(0, -3)) !== undefined) return undefined;
      const ipv4 = this.#table.allocate(pool, PENDING)?.slice(0, -3);
      if (ipv4 === undefined || !this.#isReserved(numberOf(ipv4))) return ipv4;
      this.#table.insert(ipv4, NOBODY);
    }
  }

  #proposal(ipv4: string, revision: number | undefined): Proposal {
    const key = addressPath(ipv4);
    return { ipv4, ipv6: this.#ipv6Of(numberOf(ipv4)), condition: revision === undefined ? { key, absent: true } : { key, revision } };
  }

  #ipv6Of(value: number): string {
    const [high, low] = [value >>> 16, value & 0xffff];
    // What is before the last group is the same for all of a /16, as no peer's last group is zero.
    if (this.#before.high !== high) this.#before = { high, text: formatGroups([...this.#groups, high, 1]).slice(0, -1) };
    return low === 0 ? formatGroups([...this.#groups, high, low]) : this.#before.text + low.toString(16);
  }

  #rest(ipv4: string, releasedAt: number, revision: number): void {
    const now = this.#now();
    // A clock that was ahead when it was given back must not keep it for longer than agreed.
    const until = Math.min(releasedAt, now) + this.#quarantine;
    if (until <= now) {
      this.#rested.set(ipv4, revision);
      this.#free(ipv4);
      return;
    }
    this.#resting.set(ipv4, { until, revision });
    this.#table.insert(ipv4, RESTING);
    const last = this.#queue.at(-1);
    if (last !== undefined && last.until > until) this.#ordered = false;
    this.#queue.push({ ipv4, until, revision });
    // Mostly what no longer rests: it is as long as what does, however often addresses come and go.
    if (this.#queue.length - this.#head > 2 * this.#resting.size + 64) {
      this.#queue = Array.from(this.#resting, ([address, one]) => ({ ipv4: address, ...one }));
      this.#head = 0;
      this.#ordered = false;
    }
  }

  /** Frees what has rested for long enough. */
  #endQuarantines(): void {
    if (this.#queue.length === 0) return;
    if (!this.#ordered) {
      this.#queue = this.#queue.slice(this.#head).sort((a, b) => a.until - b.until);
      this.#head = 0;
      this.#ordered = true;
    }
    const now = this.#now();
    for (let first = this.#queue[this.#head]; first !== undefined && first.until <= now; first = this.#queue[(this.#head += 1)]) {
      const { ipv4, revision } = first;
      if (this.#resting.get(ipv4)?.revision !== revision) continue;
      this.#resting.delete(ipv4);
      this.#rested.set(ipv4, revision);
      if (this.#table.lookupValue(ipv4) === RESTING) this.#free(ipv4);
    }
    if (this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }

  #free(ipv4: string): void {
    if (this.#isReserved(numberOf(ipv4))) this.#table.insert(ipv4, NOBODY);
    else this.#table.remove(ipv4);
  }

  /** @throws GhostwireError ERR_ADDRESS for what no peer may have */
  #check(text: string): string {
    const refuse = (why: string): GhostwireError => new GhostwireError('ERR_ADDRESS', `ipv4: ${JSON.stringify(text)} ${why}`, { path: 'ipv4' });
    if (parseIpv4(text) === undefined) throw refuse(`is ${mappedProblem(text) ?? 'not an IPv4 address'}`);
    if (!this.#isOfNetwork(text)) throw refuse("is not within the network's IPv4 prefix");
    if (this.#isReserved(numberOf(text))) throw refuse('is reserved');
    return text;
  }

  /** `value` is that of the table. */
  #taken(ipv4: string, value: number): GhostwireError {
    const peer = this.#peerOf(value);
    const owner = peer === undefined ? 'another peer' : `peer ${peer.name} (${peer.id})`;
    const holder =
      value === KEPT ? `is kept for pre-auth key ${this.#kept.get(ipv4)?.preauthKey}` : value === PENDING ? 'is being given to a peer' : `belongs to ${owner}`;
    return new GhostwireError('ERR_ADDRESS_TAKEN', `ipv4: ${ipv4} ${holder}`, { path: 'ipv4', address: ipv4, ...(peer && { id: peer.id }) });
  }

  #isOfNetwork(ipv4: string): boolean {
    return holds(this.#network, parseIpv4(ipv4));
  }

  /** The last octets 0 and 255 look like network and broadcast addresses to old software and are skipped too. */
  #isReserved(value: number): boolean {
    const octet = value & 255;
    return octet === 0 || octet === 255 || this.#edges.has(value) || RESERVED_SPANS.some((span) => holds(span, value));
  }

  #isWithin(pool: string): boolean {
    const span = spanOf(pool);
    return span !== undefined && this.#network[0] <= span[0] && span[1] <= this.#network[1];
  }

  #exhausted(pools: readonly string[]): GhostwireError {
    const within = pools.filter((pool) => this.#isWithin(pool));
    if (within.length === 0)
      return new GhostwireError('ERR_ADDRESSES_EXHAUSTED', `no part of ${pools.join(', ')} is within the network's IPv4 prefix`, { pools: [...pools], resting: 0, nextFree: null });
    const spans = within.map(spanOf);
    let resting = 0;
    let next = Infinity;
    for (const [ipv4, { until }] of this.#resting) {
      // What an operator has just claimed will not be free at the end of its rest.
      if (this.#table.lookupValue(ipv4) !== RESTING || !spans.some((span) => holds(span, parseIpv4(ipv4)))) continue;
      resting += 1;
      next = Math.min(next, until);
    }
    const nextFree = resting === 0 ? null : new Date(next).toISOString();
    const rest = resting === 0 ? '' : `; ${resting} ${resting === 1 ? 'rests' : 'rest'} after the last peer that had ${resting === 1 ? 'it' : 'them'}, and the next is free at ${nextFree}`;
    return new GhostwireError('ERR_ADDRESSES_EXHAUSTED', `no free address is left in ${pools.join(', ')}${rest}`, { pools: [...pools], resting, nextFree });
  }
}

/** Of what is known to be an IPv4 address. */
const numberOf = (ipv4: string): number => parseIpv4(ipv4) ?? 0;

const holds = (span: Span | undefined, value: number | undefined): boolean =>
  span !== undefined && value !== undefined && span[0] <= value && value <= span[1];
