// IP addresses and prefixes as text and as numbers; strict forms only.
//
// What lies in ::ffff:0:0/96 is IPv4 in IPv6's clothes (IPv4-mapped, RFC 4291, 2.5.5.2). CidrTable and AclEngine take it for the IPv4 that
// it maps, routers and packet filters for IPv6: a prefix that is two things at once. So it is neither an address nor a prefix here, and
// `unmapped` says what to write instead.

import { isIPv6 } from 'node:net';

export type Family = 4 | 6;

export interface Address {
  readonly family: Family;
  readonly value: bigint;
}

/** A prefix without host bits. */
export interface Prefix extends Address {
  readonly length: number;
}

const BITS = { 4: 32, 6: 128 } as const;

/** Four decimal octets as an unsigned number; undefined for anything else (leading zeros included). */
export function parseIpv4(text: string): number | undefined {
  if (text.length < 7 || text.length > 15) return undefined;
  let value = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let index = 0; index <= text.length; index += 1) {
    const code = index < text.length ? text.charCodeAt(index) : DOT;
    if (code === DOT) {
      if (digits === 0) return undefined;
      value = value * 256 + octet;
      octet = 0;
      digits = 0;
      dots += 1;
      continue;
    }
    if (code < ZERO || code > NINE || (digits > 0 && octet === 0)) return undefined;
    octet = octet * 10 + code - ZERO;
    digits += 1;
    if (octet > 255) return undefined;
  }
  return dots === 4 ? value : undefined;
}

const DOT = 46;
const ZERO = 48;
const NINE = 57;

export function formatIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** RFC 4291 text without a zone; undefined for anything else. */
export function parseIpv6(text: string): bigint | undefined {
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const [head = '', tail] = text.split('::');
  const front = groups(head);
  const back = groups(tail ?? '');
  const gap = tail === undefined ? 0 : 8 - front.length - back.length;
  let value = 0n;
  for (const group of [...front, ...Array<number>(gap).fill(0), ...back]) value = (value << 16n) | BigInt(group);
  return value;
}

function groups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    const ipv4 = group.includes('.') ? parseIpv4(group) : undefined;
    return ipv4 === undefined ? [Number.parseInt(group, 16)] : [ipv4 >>> 16, ipv4 & 0xffff];
  });
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups shortened, the first of equals. */
export function formatIpv6(value: bigint): string {
  return formatGroups(Array.from({ length: 8 }, (_, index) => Number((value >> BigInt(112 - 16 * index)) & 0xffffn)));
}

/** As `formatIpv6`, from eight groups of 16 bits. */
export function formatGroups(parts: readonly number[]): string {
  let bestStart = 8;
  let bestLength = 1;
  for (let start = 0; start < 8; start += 1) {
    let end = start;
    while (end < 8 && parts[end] === 0) end += 1;
    if (end - start > bestLength) [bestStart, bestLength] = [start, end - start];
    if (end > start) start = end;
  }
  let text = '';
  for (let index = 0; index < 8; index += 1) {
    if (index === bestStart) {
      text += '::';
      index += bestLength - 1;
    } else text += (text === '' || text.endsWith(':') ? '' : ':') + (parts[index] ?? 0).toString(16);
  }
  return text;
}

/** Undefined for what is no address, or IPv4-mapped. */
export function parseAddress(text: string): Address | undefined {
  const ipv4 = parseIpv4(text);
  if (ipv4 !== undefined) return { family: 4, value: BigInt(ipv4) };
  const ipv6 = parseIpv6(text);
  return ipv6 === undefined || isMapped(ipv6) ? undefined : { family: 6, value: ipv6 };
}

const isMapped = (value: bigint): boolean => value >> 32n === 0xffffn;

/** `address/length` with no bit set after the length; undefined for anything else, and for what is IPv4-mapped. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/');
  const address = slash < 0 ? undefined : parseAddress(text.slice(0, slash));
  const digits = text.slice(slash + 1);
  if (address === undefined || !/^(0|[1-9]\d{0,2})$/.test(digits)) return undefined;
  const length = Number(digits);
  const bits = BITS[address.family];
  if (length > bits || (address.value & ((1n << BigInt(bits - length)) - 1n)) !== 0n) return undefined;
  return { ...address, length };
}

/** An IPv4-mapped address, prefix or range `first-last` in IPv4's own form; undefined for text that has none. */
export function unmapped(text: string): string | undefined {
  const written = text.split('-').map(unmappedPart).join('-');
  return written === text ? undefined : written;
}

function unmappedPart(text: string): string {
  const [address = '', digits] = text.split('/');
  const value = parseIpv6(address);
  if (value === undefined || !isMapped(value)) return text;
  const ipv4 = value & 0xffff_ffffn;
  if (digits === undefined) return formatIpv4(Number(ipv4));
  const length = /^\d{2,3}$/.test(digits) ? Number(digits) - 96 : -1;
  if (length < 0 || length > BITS[4]) return text;
  const host = BigInt(BITS[4] - length);
  return formatPrefix({ family: 4, value: (ipv4 >> host) << host, length });
}

/** What is wrong with text that is IPv4-mapped, and what to write instead; undefined for any other text. */
export function mappedProblem(text: string): string | undefined {
  const written = unmapped(text);
  return written === undefined ? undefined : `IPv4-mapped IPv6; write ${written}`;
}

/** The one way we write a prefix. */
export function formatPrefix({ family, value, length }: Prefix): string {
  return `${family === 4 ? formatIpv4(Number(value)) : formatIpv6(value)}/${length}`;
}
