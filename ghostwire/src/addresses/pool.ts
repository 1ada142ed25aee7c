// The pool of peer addresses: which IPv4 address a new peer gets.
//
// Only IPv4 is allocated. A peer's IPv6 address is the configured prefix with the IPv4 address in its last 32 bits, so
// that one decision, and one journal key, makes both unique.
//
// The pool proposes, the journal decides: an address is taken when the commit holding `addresses/v4/<ip>` succeeds under
// the condition that this key is absent. The bitmap here only keeps proposals from colliding. A cursor moves on with
// every proposal, so a freed address rests until the pool has been walked once. Memory: one bit an address of the pool
// (512 KiB for a /10) and one summary bit for each 32 of them.

import { GhostwireError } from '../errors.js';
import { formatGroups, formatIpv4, parseIpv4, parsePrefix, type Prefix } from './ip.js';

/** Never given out, even when the pool covers them. */
const RESERVED: readonly string[] = [
  '100.100.0.0/24', // Tailscale's own services
  '100.100.100.0/24', // holds 100.100.100.100, where stock clients expect MagicDNS
  '100.115.92.0/23', // ChromeOS uses it between the host and its virtual machines
];

/** A peer's pair of addresses. */
export interface PeerAddresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

export class AddressPool {
  readonly #base: number;
  readonly #size: number;
  /** The first six groups of every IPv6 address. */
  readonly #ipv6: readonly number[];
  /** A set bit is an address that must not be proposed. */
  readonly #taken: Uint32Array;
  /** A set bit is a word of `#taken` without a free address. */
  readonly #full: Uint32Array;
  #cursor = 0;
  #newest = -1;

  /** @param ipv4 pool, /8 to /29  @param ipv6 prefix of /96 or shorter */
  constructor(ipv4: string, ipv6: string) {
    const pool = wanted(ipv4, 4);
    this.#base = Number(pool.value);
    this.#size = 2 ** (32 - pool.length);
    const { value } = wanted(ipv6, 6);
    this.#ipv6 = Array.from({ length: 6 }, (_, index) => Number((value >> BigInt(112 - 16 * index)) & 0xffffn));
    this.#taken = new Uint32Array(Math.ceil(this.#size / 32));
    this.#full = new Uint32Array(Math.ceil(this.#taken.length / 32));
    this.#reserve();
  }

  /**
   * An address that nobody holds as far as this process knows. Give it back with `release` when the commit fails.
   * @throws GhostwireError ERR_ADDRESSES_EXHAUSTED
   */
  propose(): PeerAddresses {
    const offset = this.#nextFree(this.#cursor) ?? this.#nextFree(0);
    if (offset === undefined)
      throw new GhostwireError(
        'ERR_ADDRESSES_EXHAUSTED',
        `no free address is left in ${formatIpv4(this.#base)}/${32 - Math.log2(this.#size)}`,
      );
    this.#mark(offset);
    this.#cursor = offset + 1;
    return this.#pair(this.#base + offset);
  }

  /** The address is free again. Reserved addresses and those outside the pool stay as they are. */
  release(ipv4: string): void {
    const offset = this.#offset(ipv4);
    if (offset === undefined || this.#isReserved(offset)) return;
    const word = offset >>> 5;
    this.#taken[word] = (this.#taken[word] ?? 0) & ~(1 << (offset & 31));
    this.#full[word >>> 5] = (this.#full[word >>> 5] ?? 0) & ~(1 << (word & 31));
  }

  /** The journal holds this address since `revision`. The cursor continues after the newest one, across restarts too. */
  take(ipv4: string, revision: number): void {
    const offset = this.#offset(ipv4);
    if (offset === undefined) return;
    this.#mark(offset);
    if (revision <= this.#newest) return;
    this.#newest = revision;
    this.#cursor = offset + 1;
  }

  #pair(value: number): PeerAddresses {
    return { ipv4: formatIpv4(value), ipv6: formatGroups([...this.#ipv6, value >>> 16, value & 0xffff]) };
  }

  #offset(ipv4: string): number | undefined {
    const offset = (parseIpv4(ipv4) ?? -1) - this.#base;
    return offset >= 0 && offset < this.#size ? offset : undefined;
  }

  #mark(offset: number): void {
    const word = offset >>> 5;
    this.#taken[word] = (this.#taken[word] ?? 0) | (1 << (offset & 31));
    if (this.#taken[word] === 0xffff_ffff) this.#full[word >>> 5] = (this.#full[word >>> 5] ?? 0) | (1 << (word & 31));
  }

  /** The first free offset from `from` on. Full words are skipped 32 at a time. */
  #nextFree(from: number): number | undefined {
    for (let offset = from; offset < this.#size;) {
      const word = offset >>> 5;
      const free = ~(this.#taken[word] ?? 0) & (-1 << (offset & 31));
      if (free !== 0) return (word << 5) + trailingZeros(free);
      const rest = ~(this.#full[(word + 1) >>> 5] ?? 0) & (-1 << ((word + 1) & 31));
      const next = rest === 0 ? (((word + 1) >>> 5) + 1) << 5 : (((word + 1) >>> 5) << 5) + trailingZeros(rest);
      offset = next * 32;
    }
    return undefined;
  }

  #reserve(): void {
    for (let offset = this.#size; offset < 32; offset += 1) this.#mark(offset); // a pool below /27 does not fill its word
    for (let offset = 0; offset < this.#size; offset += 256) {
      this.#mark(offset);
      this.#mark(Math.min(offset + 255, this.#size - 1));
    }
    for (const text of RESERVED) {
      const { value, length } = wanted(text, 4);
      for (let address = Number(value); address < Number(value) + 2 ** (32 - length); address += 1) {
        const offset = address - this.#base;
        if (offset >= 0 && offset < this.#size) this.#mark(offset);
      }
    }
  }

  /** The last octets 0 and 255 look like network and broadcast addresses to old software and are skipped too. */
  #isReserved(offset: number): boolean {
    const address = this.#base + offset;
    if ((address & 255) === 0 || (address & 255) === 255 || offset === 0 || offset === this.#size - 1) return true;
    return RESERVED.some((text) => {
      const { value, length } = wanted(text, 4);
      return Math.floor(address / 2 ** (32 - length)) === Math.floor(Number(value) / 2 ** (32 - length));
    });
  }
}

const trailingZeros = (bits: number): number => 31 - Math.clz32(bits & -bits);

function wanted(text: string, family: 4 | 6): Prefix {
  const prefix = parsePrefix(text);
  const [least, most] = family === 4 ? [8, 29] : [8, 96];
  if (prefix?.family !== family || prefix.length < least || prefix.length > most) {
    throw new GhostwireError('ERR_CONFIG', `${text} is not an IPv${family} prefix of /${least} to /${most} without host bits`);
  }
  return prefix;
}
