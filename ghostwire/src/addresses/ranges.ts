// Ranges of addresses, and sets of them.

import { formatIpv4, formatIpv6, formatPrefix, type Address, type Family, type Prefix } from './ip.js';

/** Both ends within. */
export interface AddressRange {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
}

const BITS = { 4: 32, 6: 128 } as const;

export function rangeOf({ family, value, length }: Prefix): AddressRange {
  return { family, first: value, last: value | ((1n << BigInt(BITS[family] - length)) - 1n) };
}

export const overlap = (a: AddressRange, b: AddressRange): boolean => a.family === b.family && a.first <= b.last && b.first <= a.last;

export const covers = (outer: AddressRange, inner: AddressRange): boolean =>
  outer.family === inner.family && outer.first <= inner.first && inner.last <= outer.last;

export function formatAddress({ family, value }: Address): string {
  return family === 4 ? formatIpv4(Number(value)) : formatIpv6(value);
}

const texts = new WeakMap<Prefix, string>();

/** As formatPrefix, worked out once for each object: filters and peers name the same ones over and over. */
export function prefixText(prefix: Prefix): string {
  let text = texts.get(prefix);
  if (text === undefined) texts.set(prefix, (text = formatPrefix(prefix)));
  return text;
}

/** `first-last` */
export function formatRange({ family, first, last }: AddressRange): string {
  return `${formatAddress({ family, value: first })}-${formatAddress({ family, value: last })}`;
}

/** The fewest prefixes that are the range together. */
export function prefixesOf({ family, first, last }: AddressRange): Prefix[] {
  const prefixes: Prefix[] = [];
  for (let value = first; value <= last; ) {
    let bits = 0;
    while (bits < BITS[family] && (value & ((1n << BigInt(bits + 1)) - 1n)) === 0n && value + (1n << BigInt(bits + 1)) - 1n <= last) bits += 1;
    prefixes.push({ family, value, length: BITS[family] - bits });
    value += 1n << BigInt(bits);
  }
  return prefixes;
}

/** Addresses by family, as ranges that ascend and do not touch. */
export class AddressSet {
  readonly #ranges: Readonly<Record<Family, readonly AddressRange[]>>;

  constructor(ranges: Iterable<AddressRange>) {
    const byFamily: Record<Family, AddressRange[]> = { 4: [], 6: [] };
    for (const range of ranges) byFamily[range.family].push(range);
    this.#ranges = { 4: joined(byFamily[4]), 6: joined(byFamily[6]) };
  }

  get empty(): boolean {
    return this.#ranges[4].length === 0 && this.#ranges[6].length === 0;
  }

  /** Whether any of these addresses is in the set. */
  overlaps(range: AddressRange): boolean {
    const found = this.#lastFrom(range.family, range.last);
    return found !== undefined && overlap(found, range);
  }

  /** Whether all of these addresses are in the set. */
  covers(range: AddressRange): boolean {
    const found = this.#lastFrom(range.family, range.last);
    return found !== undefined && covers(found, range);
  }

  /** The last range that begins at or before an address. */
  #lastFrom(family: Family, value: bigint): AddressRange | undefined {
    const ranges = this.#ranges[family];
    let low = 0;
    let high = ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const range = ranges[middle];
      if (range !== undefined && range.first <= value) low = middle + 1;
      else high = middle;
    }
    return ranges[low - 1];
  }
}

function joined(ranges: AddressRange[]): AddressRange[] {
  ranges.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const result: AddressRange[] = [];
  for (const range of ranges) {
    const previous = result.at(-1);
    if (previous === undefined || range.first > previous.last + 1n) result.push(range);
    else if (range.last > previous.last) result[result.length - 1] = { ...previous, last: range.last };
  }
  return result;
}
