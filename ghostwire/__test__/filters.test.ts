// Packet filters by index agree with going through all rules.

import test from 'ava';
import fc from 'fast-check';
import type { AclPeer, AclRule } from 'zqlite';
import { parseRange, type AddressRange } from '../src/addresses/ranges.js';
import type { FilterRule } from '../src/topology/filter.js';
import { Filters } from '../src/topology/filters.js';

const meet = (a: AddressRange | undefined, b: AddressRange | undefined): boolean => a !== undefined && b !== undefined && a.family === b.family && a.first <= b.last && b.first <= a.last;

/** Every rule, every destination. */
function plain(rules: readonly AclRule[], { addresses, labels, routes = [] }: Omit<AclPeer, 'id'>): FilterRule[] {
  const inOrder = rules
    .filter(({ enabled }) => enabled !== false)
    .toSorted((a, b) => b.priority - a.priority || Number(a.action === 'allow') - Number(b.action === 'allow') || a.id - b.id);
  return inOrder.flatMap(({ action, sources, destinations, protocols = [], sameOwner, through = [], family }) => {
    if (through.length > 0 && !through.some((label) => labels.includes(label))) return [];
    const isOwn = (selector: string): boolean => selector === '*' || labels.includes(selector) || addresses.some((address) => meet(parseRange(selector), parseRange(address)));
    const isRouted = (selector: string): boolean => routes.some((route) => selector === '*' || meet(parseRange(selector), parseRange(route)));
    const routed = sameOwner === true ? [] : destinations.filter(isRouted).map((selector) => (selector === '*' ? 'routes' : selector));
    const to = [...new Set([...(destinations.some(isOwn) ? ['self'] : []), ...routed])];
    return to.length === 0 ? [] : [{ action, sources, destinations: to, ...(protocols.length > 0 && { protocols }), ...(sameOwner && { sameOwner }), ...(family && { family }) }];
  });
}

/** Close together, so that they meet. */
const v4 = fc.nat({ max: 63 }).map((last) => `10.0.0.${last}`);
const v6 = fc.nat({ max: 63 }).map((last) => `2001:db8::${last.toString(16)}`);
const prefix4 = fc.tuple(fc.nat({ max: 63 }), fc.integer({ min: 24, max: 32 })).map(([last, length]) => `10.0.0.${last & (256 - 2 ** (32 - length))}/${length}`);
const prefix6 = fc.tuple(fc.nat({ max: 63 }), fc.integer({ min: 120, max: 128 })).map(([last, length]) => `2001:db8::${(last & (256 - 2 ** (128 - length))).toString(16)}/${length}`.replace('::0/', '::/'));
const range4 = fc.tuple(fc.nat({ max: 63 }), fc.nat({ max: 63 })).map(([a, b]) => `10.0.0.${Math.min(a, b)}-10.0.0.${Math.max(a, b)}`);
const label = fc.constantFrom('tag:a', 'tag:b', 'group:x-y', 'user:ann@example.com');
const selector = fc.oneof({ weight: 1, arbitrary: fc.constant('*') }, { weight: 3, arbitrary: label }, v4, v6, prefix4, prefix6, range4);

const rule = fc.record(
  {
    priority: fc.integer({ min: 0, max: 2 }),
    action: fc.constantFrom('allow' as const, 'deny' as const),
    sources: fc.array(selector, { minLength: 1, maxLength: 2 }),
    destinations: fc.array(selector, { minLength: 1, maxLength: 4 }),
    protocols: fc.subarray([6, 17]),
    enabled: fc.boolean(),
    sameOwner: fc.constant(true as const),
    family: fc.constantFrom(4 as const, 6 as const),
    through: fc.subarray(['tag:a', 'tag:b']),
  },
  { requiredKeys: ['priority', 'action', 'sources', 'destinations'] },
);
const peer = fc.record({
  addresses: fc.tuple(v4, v6).map((pair) => [...pair]),
  labels: fc.uniqueArray(label),
  routes: fc.array(fc.oneof(prefix4, prefix6), { maxLength: 3 }),
});

test('property: the filter of a peer is what each rule says of it', (t) => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 12 }), fc.array(peer, { minLength: 1, maxLength: 4 }), (drafts, peers) => {
      const rules = drafts.map((draft, index): AclRule => ({ id: index + 1, ...draft }));
      const filters = new Filters(rules);
      for (const one of peers) t.deepEqual(filters.of(one), plain(rules, one));
      const named = new Set(rules.filter(({ enabled }) => enabled !== false).flatMap(({ sources }) => sources));
      t.deepEqual([...filters.sourceLabels()].sort(), [...named].filter((one) => /^[a-z]+:[a-z]/.test(one) && parseRange(one) === undefined).sort());
    }),
    { numRuns: 500 },
  );
});

test('a filter costs what it has, and not what the policy has', (t) => {
  const rules = Array.from({ length: 20_000 }, (_, index): AclRule => ({
    id: index + 1,
    priority: 0,
    action: 'allow',
    sources: ['*'],
    destinations: index % 2 === 0 ? [`10.${index >> 8}.${index & 255}.0/24`] : [`tag:t${index}`],
  }));
  const filters = new Filters(rules);
  const start = performance.now();
  for (let index = 0; index < 2_000; index += 1) {
    const found = filters.of({ addresses: ['100.64.0.1', 'fd7a::1'], labels: [`tag:t${2 * index + 1}`], routes: ['10.9.8.0/23'] });
    t.is(found.length, 2);
  }
  // Going through the rules would take 40 million looks.
  t.true(performance.now() - start < 500);
});
