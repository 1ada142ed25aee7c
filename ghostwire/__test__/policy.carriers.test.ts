// Routers as a policy knows them: which of the subnets that it names as sources a machine carries, and which routes it approves.

import test from 'ava';
import fc from 'fast-check';
import { formatPrefix, type Prefix } from '../src/addresses/ip.js';
import { overlap, covers, rangeOf } from '../src/addresses/ranges.js';
import { compilePolicy } from '../src/policy/compile.js';
import { readPolicy } from '../src/policy/document.js';

/** Close together, so that they overlap. */
const prefix = fc
  .record({ family: fc.constantFrom(4 as const, 6 as const), low: fc.nat({ max: 255 }), length: fc.nat({ max: 10 }) })
  .map(({ family, low, length }): Prefix => {
    const [base, bits, shortest] = family === 4 ? [0x0a01_0000n, 32, 22] : [0x2001_0db8n << 96n, 128, 118];
    const host = (1n << BigInt(bits - shortest - length)) - 1n;
    return { family, value: (base | BigInt(low)) & ~host, length: shortest + length };
  });
const tags = fc.subarray(['tag:a', 'tag:b']);

test('property: a router carries the sources that its routes overlap, of those that name a tag only with it', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ subnet: prefix, via: tags }), { minLength: 1, maxLength: 12 }),
      fc.array(prefix, { maxLength: 5 }),
      tags,
      (lines, routes, own) => {
        const grants = lines.map(({ subnet, via }) =>
          // With `via` it is the destination that the router carries.
          via.length === 0 ? { src: [formatPrefix(subnet)], dst: ['*'], ip: ['*'] } : { src: ['*'], dst: [formatPrefix(subnet)], ip: ['*'], via },
        );
        const compiled = compilePolicy(readPolicy(JSON.stringify({ tagOwners: { 'tag:a': [], 'tag:b': [] }, grants })));
        // A subnet and a tag are one carrier, however often they are named, numbered as they come.
        const carriers = new Map<string, { subnet: Prefix; tag: string | undefined }>();
        for (const { subnet, via } of lines) for (const tag of via.length === 0 ? [undefined] : via) carriers.set(`${formatPrefix(subnet)} ${tag}`, { subnet, tag });
        const plain = [...carriers.values()].flatMap(({ subnet, tag }, place) =>
          (tag === undefined || (own as string[]).includes(tag)) && routes.some((route) => overlap(rangeOf(route), rangeOf(subnet))) ? [`group:carries:${place}`] : [],
        );
        const labels = compiled.labels({ user: null, tags: own, approvedRoutes: routes.map(formatPrefix) });
        t.deepEqual(labels.filter((label) => label.startsWith('group:carries:')), plain);
      },
    ),
    { numRuns: 300 },
  );
});

test('a default route carries no subnet', (t) => {
  const compiled = compilePolicy(readPolicy('{"grants": [{"src": ["10.0.0.0/8", "2001:db8::/32"], "dst": ["*"], "ip": ["*"]}]}'));
  t.deepEqual(compiled.labels({ user: null, tags: [], approvedRoutes: ['0.0.0.0/0', '::/0'] }), []);
});

test('property: autoApprovers approve what lies within one of their prefixes', (t) => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.record({ within: prefix, approver: fc.constantFrom('tag:a', 'tag:b', 'ann@example.com') }), { maxLength: 10, selector: ({ within }) => formatPrefix(within) }), fc.array(prefix, { maxLength: 6 }), tags, (lines, offered, own) => {
      const routes = Object.fromEntries(lines.map(({ within, approver }) => [formatPrefix(within), [approver]]));
      const compiled = compilePolicy(readPolicy(JSON.stringify({ tagOwners: { 'tag:a': [], 'tag:b': [] }, autoApprovers: { routes } })));
      const approves = (approver: string): boolean => (own.length > 0 ? (own as string[]).includes(approver) : approver === 'ann@example.com');
      const plain = offered.filter((route) => lines.some(({ within, approver }) => covers(rangeOf(within), rangeOf(route)) && approves(approver))).map(formatPrefix);
      t.deepEqual(compiled.approve({ user: 'ann@example.com', tags: own, advertisedRoutes: offered.map(formatPrefix) }), plain);
    }),
    { numRuns: 300 },
  );
});

test('autoApprovers of one address family approve nothing of the other', (t) => {
  const approved = (approver: string, ...advertisedRoutes: string[]): string[] =>
    compilePolicy(readPolicy(JSON.stringify({ tagOwners: { 'tag:a': [] }, autoApprovers: { routes: { [approver]: ['tag:a'] } } }))).approve({ user: null, tags: ['tag:a'], advertisedRoutes });
  t.deepEqual(approved('10.0.0.0/8', '2001:db8::/32', '10.1.0.0/16'), ['10.1.0.0/16']);
  // This covers the IPv4-mapped addresses, and no IPv4 one.
  t.deepEqual(approved('::/64', '10.0.0.0/8', '::/80', '::/63'), ['::/80']);
});

test('one prefix that is written in two ways has the approvers of both', (t) => {
  const routes = { '2001:db8::/32': ['tag:a'], '2001:DB8::/32': ['tag:b'] };
  const compiled = compilePolicy(readPolicy(JSON.stringify({ tagOwners: { 'tag:a': [], 'tag:b': [], 'tag:c': [] }, autoApprovers: { routes } })));
  const approved = (tag: string): string[] => compiled.approve({ user: null, tags: [tag], advertisedRoutes: ['2001:db8:1::/48'] });
  t.deepEqual([approved('tag:a'), approved('tag:b'), approved('tag:c')], [['2001:db8:1::/48'], ['2001:db8:1::/48'], []]);
});
