// Ranges of addresses, and sets of them.

import { formatIpv4, formatIpv6, formatPrefix, parseAddress, parsePrefix, type Address, type Family, type Prefix } from './ip.js';

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

/** The addresses of an address, a prefix, or a range `first-last`; undefined for any other text, such as a label. */
export function parseRange(text: string): AddressRange | undefined {
  const address = parseAddress(text);
  if (address !== undefined) return { family: address.family, first: address.value, last: address.value };
  const prefix = parsePrefix(text);
  if (prefix !== undefined) return rangeOf(prefix);
  const [low, high, more] = text.split('-').map((part) => parseAddress(part));
  if (low === undefined || high === undefined || more !== undefined || low.family !== high.family || low.value > high.value) return undefined;
  return { family: low.family, first: low.value, last: high.value };
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

/** The same addresses as ranges that ascend, IPv4 first, and neither overlap nor touch. */
export function joined(ranges: Iterable<AddressRange>): AddressRange[] {
  const result: AddressRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.family - b.family || (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))) {
    const previous = result.at(-1);
    if (previous?.family !== range.family || range.first > previous.last + 1n) result.push(range);
    else if (range.last > previous.last) result[result.length - 1] = { ...previous, last: range.last };
  }
  return result;
}

/** A set of addresses of both families. */
export class AddressSet {
  readonly #ranges: Readonly<Record<Family, readonly AddressRange[]>>;

  constructor(ranges: Iterable<AddressRange>) {
    const all = joined(ranges);
    this.#ranges = { 4: all.filter(({ family }) => family === 4), 6: all.filter(({ family }) => family === 6) };
  }

  /** Whether any of these addresses is in the set. */
  overlaps(range: AddressRange): boolean {
    // The last range that begins at or before the end of this one.
    const ranges = this.#ranges[range.family];
    let low = 0;
    let high = ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = ranges[middle];
      if (other !== undefined && other.first <= range.last) low = middle + 1;
      else high = middle;
    }
    const found = ranges[low - 1];
    return found !== undefined && overlap(found, range);
  }
}
