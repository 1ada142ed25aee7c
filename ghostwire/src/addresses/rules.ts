// Which prefixes the addresses of a network may be of, and which addresses no peer may have.

import { GhostwireError } from '../errors.js';
import { parsePrefix, type Family, type Prefix } from './ip.js';
import { covers, overlap, rangeOf, type AddressRange } from './ranges.js';

/**
 * Prefixes of Tailscale's range that its clients, or what is beside them, use for something else:
 * https://tailscale.com/kb/1610/reserved-ip-addresses
 */
export const RESERVED: readonly string[] = [
  '100.100.0.0/24', // Tailscale's own services
  '100.100.100.0/24', // holds 100.100.100.100, where stock clients expect MagicDNS
  '100.115.92.0/23', // ChromeOS uses it between the host and its virtual machines
];

/** How short and how long the prefix of a network may be. */
export const LENGTHS = { 4: [8, 29], 6: [8, 96] } as const;

/** @throws GhostwireError ERR_CONFIG */
export function networkPrefix(text: string, family: Family): Prefix {
  const prefix = parsePrefix(text);
  const [least, most] = LENGTHS[family];
  if (prefix?.family !== family || prefix.length < least || prefix.length > most)
    throw new GhostwireError('ERR_CONFIG', `${text} is not an IPv${family} prefix of /${least} to /${most} without host bits`);
  return prefix;
}

export const RESERVED_RANGES: readonly AddressRange[] = RESERVED.map((text) => rangeOf(networkPrefix(text, 4)));

/** @throws GhostwireError ERR_CONFIG for pools that are outside of the network, overlap, or have nothing to give */
export function checkPools(network: string, pools: readonly string[]): void {
  const whole = rangeOf(networkPrefix(network, 4));
  const checked: AddressRange[] = [];
  for (const pool of pools) {
    const range = rangeOf(networkPrefix(pool, 4));
    const refuse = (why: string): GhostwireError => new GhostwireError('ERR_CONFIG', `the pool ${pool} ${why}`);
    if (!covers(whole, range)) throw refuse(`is not within the network, ${network}`);
    const other = checked.findIndex((one) => overlap(one, range));
    if (other >= 0) throw refuse(`overlaps the pool ${pools[other]}`);
    const reserved = RESERVED_RANGES.findIndex((one) => covers(one, range));
    if (reserved >= 0) throw refuse(`has nothing to give, as ${RESERVED[reserved]} is reserved`);
    checked.push(range);
  }
}
