// Who gains and who loses what, for people.

import type { Static } from 'typebox';
import type { AccessDifference } from '../api/schemas.js';

type Difference = Static<typeof AccessDifference>;
type Change = Difference['changes'][number];

/** More names than this on a side are only counted. */
const NAMES = 6;

export function differenceText({ pairs, behind, concerned, changes, complete }: Difference): string {
  if (pairs.gaining + pairs.losing + behind.gaining + behind.losing === 0) return 'nobody gains or loses anything';
  const lines = [
    `${counted(concerned, 'peer')} concerned`,
    `  gain: ${counted(pairs.gaining, 'pair')} of peers, ${pairs.opened} of which may do nothing now${also(behind.gaining)}`,
    `  lose: ${counted(pairs.losing, 'pair')} of peers, ${pairs.closed} of which are cut off${also(behind.losing)}`,
    '',
  ];
  for (const { sources, destinations, gained, lost } of changes) {
    const ends = `${side(sources)} -> ${side(destinations)}`;
    if (lost.length > 0) lines.push(`- ${ends}: ${lost.map(passage).join('; ')}`);
    if (gained.length > 0) lines.push(`+ ${ends}: ${gained.map(passage).join('; ')}`);
  }
  if (!complete) lines.push('and more; the counts above are of all');
  return lines.join('\n');
}

const also = (ranges: number): string => (ranges === 0 ? '' : `; ${counted(ranges, 'pair')} with subnets behind routers`);
const counted = (count: number, what: string): string => `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;

function side({ peers, names, ranges, subnets }: Change['sources']): string {
  const shown = [...names.slice(0, NAMES), ...subnets.slice(0, NAMES)];
  const more = peers + ranges - shown.length;
  return more > 0 ? `${shown.join(', ')} and ${more.toLocaleString('en')} more` : shown.join(', ');
}

const NAMED: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'ipv6-icmp', 132: 'sctp' };

/** `tcp,udp:80-90,443`; `*` is everything. */
export function passage({ protocols, ports }: { readonly protocols: readonly number[]; readonly ports: readonly (readonly number[])[] }): string {
  const range = ([first = 0, last = 0]: readonly number[]): string => (first === last ? String(first) : `${first}-${last}`);
  const names = protocols.length > 8 ? runs(protocols).map(range) : protocols.map((protocol) => NAMED[protocol] ?? String(protocol));
  const which = protocols.length === 0 ? '*' : names.join();
  return ports.length === 0 ? which : `${which}:${ports.map(range).join()}`;
}

/** Ascending numbers as ranges. */
function runs(numbers: readonly number[]): [number, number][] {
  const found: [number, number][] = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last !== undefined && last[1] + 1 === number) last[1] = number;
    else found.push([number, number]);
  }
  return found;
}
