// Which address a peer gets: pools, what is reserved, what rests, what an operator wants.

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { parseAddress } from '../src/addresses/ip.js';
import { AddressPools, type AddressOptions, type Proposal } from '../src/addresses/pools.js';
import type { GhostwireError } from '../src/errors.js';

const IPV6 = 'fd7a:115c:a1e0::/48';
const pools = (ipv4: string, more: Partial<AddressOptions> = {}): AddressPools => new AddressPools({ ipv4, ipv6: IPV6, pools: [], quarantine: 0, ...more });

/** As the journal's word that a peer holds an address; its handle is 1. */
const hold = (addresses: AddressPools, ipv4: string, revision = 1): void => addresses.apply(ipv4, 'p_1', revision, () => 1);

function exhausted(t: ExecutionContext, work: () => unknown): GhostwireError {
  return t.throws(work, { code: 'ERR_ADDRESSES_EXHAUSTED' }) as GhostwireError;
}

test('a network gives each address once, never a reserved one, and then says that it is exhausted', (t) => {
  const addresses = pools('100.100.100.0/22'); // holds 100.100.100.0/24
  const seen = new Set<string>();
  const error = exhausted(t, () => {
    for (;;) {
      const { ipv4, ipv6, condition } = addresses.propose();
      t.false(seen.has(ipv4), ipv4);
      t.notRegex(ipv4, /^100\.100\.100\.|\.0$|\.255$/);
      t.is(parseAddress(ipv6)!.value, parseAddress('fd7a:115c:a1e0::')!.value | parseAddress(ipv4)!.value);
      t.deepEqual(condition, { key: `addresses/v4/${ipv4}`, absent: true });
      seen.add(ipv4);
    }
  });
  t.regex(error.message, /100\.100\.100\.0\/22/);
  t.deepEqual(error.details, { pools: ['100.100.100.0/22'], resting: 0, nextFree: null });
  t.is(seen.size, 3 * 254);
});

test('the reserved ranges of the default network stay free', (t) => {
  for (const [pool, reserved, count] of [
    ['100.100.0.0/22', ['100.100.0.1', '100.100.0.254'], 3 * 254],
    ['100.100.100.0/22', ['100.100.100.100'], 3 * 254],
    ['100.115.92.0/22', ['100.115.92.1', '100.115.93.254'], 2 * 254],
  ] as const) {
    const addresses = pools('100.64.0.0/10', { pools: [pool] });
    for (let given = 0; given < count; given += 1) t.false((reserved as readonly string[]).includes(addresses.propose().ipv4));
    exhausted(t, () => addresses.propose());
    for (const inside of reserved) {
      t.is(addresses.look(inside).state, 'reserved', inside);
      t.throws(() => addresses.claim(inside), { code: 'ERR_ADDRESS', message: /reserved/ }, inside);
    }
  }
});

test('small networks', (t) => {
  for (const [prefix, count] of [
    ['10.0.0.8/29', 6],
    ['10.0.0.128/25', 126],
    ['10.0.0.0/28', 14],
    ['10.0.0.0/26', 62],
  ] as const) {
    const addresses = pools(prefix);
    const seen = new Set(Array.from({ length: count }, () => addresses.propose().ipv4));
    t.is(seen.size, count, prefix);
    exhausted(t, () => addresses.propose());
  }
});

test('pools are used in their order, the next when one is full', (t) => {
  const addresses = pools('10.0.0.0/16', { pools: ['10.0.9.0/29', '10.0.1.0/29'] });
  const given = Array.from({ length: 12 }, () => addresses.propose().ipv4);
  t.deepEqual(given.map((ipv4) => ipv4.slice(0, 7)), [...Array<string>(6).fill('10.0.9.'), ...Array<string>(6).fill('10.0.1.')]);
  const error = exhausted(t, () => addresses.propose());
  t.regex(error.message, /10\.0\.9\.0\/29, 10\.0\.1\.0\/29/);
  t.deepEqual([addresses.poolOf('10.0.9.3'), addresses.poolOf('10.0.1.3'), addresses.poolOf('10.0.2.3')], ['10.0.9.0/29', '10.0.1.0/29', undefined]);
});

test('pools that a caller names are used in place of those of the configuration', (t) => {
  const addresses = pools('10.0.0.0/16', { pools: ['10.0.1.0/29'] });
  t.is(addresses.propose(['10.0.7.0/30', '10.0.8.9/32']).ipv4, '10.0.7.1');
  t.deepEqual([addresses.propose(['10.0.7.0/30', '10.0.8.9/32']).ipv4, addresses.propose(['10.0.7.0/30', '10.0.8.9/32']).ipv4], ['10.0.7.2', '10.0.7.3']);
  t.is(addresses.propose(['10.0.7.0/30', '10.0.8.9/32']).ipv4, '10.0.8.9');
  exhausted(t, () => addresses.propose(['10.0.7.0/30', '10.0.8.9/32']));
  t.is(addresses.look('10.0.8.9').state, 'pending', 'a full pool of one address is left as it is');
  const error = exhausted(t, () => addresses.propose(['192.0.2.0/24', '10.0.0.0/8']));
  t.regex(error.message, /192\.0\.2\.0\/24, 10\.0\.0\.0\/8 is within/);
});

test('what cannot be pools is refused', (t) => {
  for (const wrong of ['10.0.0.0/30', '0.0.0.0/7', '10.0.0.1/24', 'fd00::/48', 'x', '100.100.100.0/24', '100.115.93.0/24'])
    t.throws(() => pools(wrong), { code: 'ERR_CONFIG' }, wrong);
  for (const wrong of ['fd00::/97', '10.0.0.0/8']) t.throws(() => pools('10.0.0.0/8', { ipv6: wrong }), { code: 'ERR_CONFIG' }, wrong);
  for (const [wrong, message] of [
    [['10.1.0.0/16'], /10\.1\.0\.0\/16 is not within the network, 10\.0\.0\.0\/16/],
    [['10.0.0.0/15'], /is not within/],
    [['10.0.1.0/24', '10.0.0.0/23'], /10\.0\.0\.0\/23 overlaps the pool 10\.0\.1\.0\/24/],
    [['10.0.1.0/24', '10.0.1.0/24'], /overlaps/],
    [['10.0.1.0/30'], /IPv4 prefix of \/8 to \/29/],
    [['fd00::/48'], /IPv4 prefix/],
  ] as const)
    t.throws(() => pools('10.0.0.0/16', { pools: wrong }), { code: 'ERR_CONFIG', message }, wrong.join());
  t.throws(() => pools('100.64.0.0/10', { pools: ['100.115.92.0/24'] }), { code: 'ERR_CONFIG', message: /100\.115\.92\.0\/23 is reserved/ });
});

test('an address rests after the peer that had it, and is free at its time', (t) => {
  let now = 1_000;
  const addresses = pools('10.0.0.0/29', { quarantine: 100, now: () => now });
  for (let count = 1; count <= 6; count += 1) hold(addresses, addresses.propose().ipv4);
  addresses.apply('10.0.0.3', { releasedAt: 1_000 }, 7, () => undefined);
  now = 1_050;
  addresses.apply('10.0.0.2', { releasedAt: 1_050 }, 8, () => undefined);
  const error = exhausted(t, () => addresses.propose());
  t.deepEqual(error.details, { pools: ['10.0.0.0/29'], resting: 2, nextFree: new Date(1_100).toISOString() });
  t.regex(error.message, /2 rest after the last peer that had them, and the next is free at 1970-01-01T00:00:01\.100Z/);
  now = 1_099;
  exhausted(t, () => addresses.propose());
  t.deepEqual(addresses.look('10.0.0.3'), { state: 'resting', until: 1_100, ipv4: '10.0.0.3' });
  now = 1_100;
  const { ipv4, condition } = addresses.propose();
  t.deepEqual([ipv4, condition], ['10.0.0.3', { key: 'addresses/v4/10.0.0.3', revision: 7 }], 'only whoever knows of the rest may take it');
  t.regex(exhausted(t, () => addresses.propose()).message, /1 rests after the last peer that had it/);
});

test('addresses that are read in another order than they were given back end their rest in time', (t) => {
  let now = 0;
  const addresses = pools('10.0.0.0/24', { quarantine: 100, now: () => now });
  now = 90;
  // As at a start: in the order of the keys.
  for (const [last, releasedAt] of [[1, 80], [2, 10], [3, 50], [4, 0]] as const) addresses.apply(`10.0.0.${last}`, { releasedAt }, last, () => undefined);
  const resting = (): number[] => [1, 2, 3, 4].filter((last) => addresses.look(`10.0.0.${last}`).state === 'resting');
  for (const [time, left] of [[99, [1, 2, 3, 4]], [100, [1, 2, 3]], [110, [1, 3]], [150, [1]], [180, []]] as const) {
    now = time;
    t.deepEqual([resting(), addresses.resting], [[...left], left.length], `at ${time}`);
  }
});

test('a clock that was ahead keeps no address for longer than agreed', (t) => {
  let now = 1_000;
  const addresses = pools('10.0.0.0/29', { quarantine: 100, now: () => now });
  addresses.apply('10.0.0.1', { releasedAt: 9e12 }, 1, () => undefined);
  now = 1_100;
  t.is(addresses.look('10.0.0.1').state, 'free');
});

test('an operator may have what nobody has, in a pool or not, and what rests', (t) => {
  const addresses = pools('10.0.0.0/16', { pools: ['10.0.1.0/24'], quarantine: 1e9 });
  t.is(addresses.claim('10.0.1.7').ipv6, 'fd7a:115c:a1e0::a00:107');
  t.deepEqual(addresses.claim('10.0.200.9').condition, { key: 'addresses/v4/10.0.200.9', absent: true });
  hold(addresses, '10.0.200.9');
  addresses.apply('10.0.1.8', { releasedAt: Date.now() }, 5, () => undefined);
  t.deepEqual(addresses.claim('10.0.1.8').condition, { key: 'addresses/v4/10.0.1.8', revision: 5 });
  for (const taken of ['10.0.1.7', '10.0.200.9', '10.0.1.8']) t.throws(() => addresses.claim(taken), { code: 'ERR_ADDRESS_TAKEN', message: new RegExp(taken) }, taken);
  for (const [wrong, message] of [
    ['10.1.0.1', /10\.1\.0\.1" is not within the network's IPv4 prefix/],
    ['10.0.3.0', /reserved/],
    ['10.0.3.255', /reserved/],
    ['10.0.3', /not an IPv4 address/],
    ['10.0.03.1', /not an IPv4 address/],
    ['fd7a:115c:a1e0::a00:107', /not an IPv4 address/],
    ['', /not an IPv4 address/],
  ] as const)
    t.throws(() => addresses.claim(wrong), { code: 'ERR_ADDRESS', message }, wrong);
});

test('an address that rests and is claimed is not told of as free soon', (t) => {
  const addresses = pools('10.0.0.0/29', { quarantine: 1_000, now: () => 0 });
  for (let last = 1; last <= 6; last += 1) addresses.apply(`10.0.0.${last}`, last < 3 ? { releasedAt: last === 1 ? 0 : -500 } : 'p_1', last, () => 1);
  const claimed = addresses.claim('10.0.0.2');
  t.like(exhausted(t, () => addresses.propose()).details, { resting: 1, nextFree: new Date(1_000).toISOString() });
  addresses.withdraw(claimed);
  t.like(exhausted(t, () => addresses.propose()).details, { resting: 2, nextFree: new Date(500).toISOString() });
});

test('what is kept for a pre-auth key is had with it and in no other way', (t) => {
  const addresses = pools('10.0.0.0/29');
  addresses.apply('10.0.0.1', { preauthKey: 'k1' }, 4, () => undefined);
  t.deepEqual(addresses.look('10.0.0.1'), { state: 'kept', preauthKey: 'k1', ipv4: '10.0.0.1' });
  t.is(addresses.propose().ipv4, '10.0.0.2');
  for (const key of [undefined, 'k2']) t.throws(() => addresses.claim('10.0.0.1', key), { code: 'ERR_ADDRESS_TAKEN', message: /kept for pre-auth key k1/ });
  const proposal = addresses.claim('10.0.0.1', 'k1');
  t.deepEqual(proposal.condition, { key: 'addresses/v4/10.0.0.1', revision: 4 });
  t.throws(() => addresses.claim('10.0.0.1', 'k1'), { code: 'ERR_ADDRESS_TAKEN', message: /is being given/ });
  addresses.withdraw(proposal);
  t.is(addresses.look('10.0.0.1').state, 'kept');
  t.deepEqual(addresses.forgettable(() => true, 9), []);
  t.deepEqual(addresses.forgettable(() => false, 9), [{ key: 'addresses/v4/10.0.0.1', revision: 4 }]);
});

test('what this version cannot read is nobody\'s to take', (t) => {
  const addresses = pools('10.0.0.0/29');
  addresses.apply('10.0.0.1', { something: 'new' }, 1, () => undefined);
  addresses.apply('10.0.0.2', 'p_unknown', 2, () => undefined);
  addresses.apply('not an address', 'p_1', 3, () => 1);
  t.deepEqual(addresses.look('10.0.0.2'), { state: 'held', handle: undefined, ipv4: '10.0.0.2' });
  t.is(addresses.propose().ipv4, '10.0.0.3');
  t.throws(() => addresses.claim('10.0.0.1'), { code: 'ERR_ADDRESS_TAKEN' });
});

test('how things stand with an address of either family', (t) => {
  const addresses = pools('10.0.0.0/24');
  hold(addresses, '10.0.0.9');
  t.deepEqual(addresses.look('fd7a:115c:a1e0::a00:9'), { state: 'held', handle: 1, ipv4: '10.0.0.9' });
  t.is(addresses.look('fd7a:115c:a1e0::a00:8').state, 'free');
  for (const outside of ['192.0.2.1', '2001:db8::a00:9', 'fd7a:115c:a1e0:1::a00:9']) t.is(addresses.look(outside).state, 'outside', outside);
  hold(addresses, '192.0.2.1'); // of a network that was configured earlier
  t.is(addresses.look('192.0.2.1').state, 'held');
  addresses.apply('192.0.2.1', undefined, 2, () => undefined);
  t.is(addresses.look('192.0.2.1').state, 'outside');
});

test('what is reserved is so within the network only', (t) => {
  const addresses = pools('10.0.0.0/8');
  for (const outside of ['100.100.100.100', 'fd7a:115c:a1e0::6464:6464', '192.0.2.0']) t.is(addresses.look(outside).state, 'outside', outside);
  hold(addresses, '100.100.100.100'); // of a network that was configured earlier
  t.is(addresses.look('100.100.100.100').state, 'held');
  addresses.apply('100.100.100.100', undefined, 2, () => undefined);
  t.is(addresses.look('100.100.100.100').state, 'outside');
  t.deepEqual(['10.0.0.0', '10.255.255.255', '10.7.0.255', '10.7.0.1'].map((ipv4) => addresses.look(ipv4).state), ['reserved', 'reserved', 'reserved', 'free']);
});

test('no more is to be forgotten at once than was asked for', (t) => {
  const addresses = pools('10.0.0.0/24');
  for (const [revision, ipv4] of ['10.0.0.1', '10.0.0.2', '10.0.0.3'].entries()) addresses.apply(ipv4, { releasedAt: 0 }, revision + 1, () => undefined);
  for (const [revision, ipv4] of ['10.0.0.4', '10.0.0.5'].entries()) addresses.apply(ipv4, { preauthKey: 'k1' }, revision + 4, () => undefined);
  const last = (limit: number): unknown => addresses.forgettable(() => false, limit).map(({ revision }) => revision);
  t.deepEqual([0, 2, 3, 4, 5, 6].map(last), [[], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]);
});

// ---- The same, against a plain account of each address.

const NETWORK = '10.0.0.0/26';
const POOLS = ['10.0.0.40/29', '10.0.0.16/28'];
const QUARANTINE = 100;
/** Written out: the edges of the network and of both pools, and .0. */
const NEVER = new Set([0, 63, 40, 47, 16, 31].map((last) => `10.0.0.${last}`));
const ALL = Array.from({ length: 64 }, (_, last) => `10.0.0.${last}`);
const IN_ORDER = [...ALL.slice(40, 48), ...ALL.slice(16, 32)];

type Account =
  | { state: 'free' | 'reserved' }
  | { state: 'held' }
  | { state: 'kept'; key: string }
  | { state: 'resting'; until: number };

const steps = fc.array(
  fc.record({
    what: fc.constantFrom('propose', 'claim', 'commit', 'withdraw', 'release', 'free', 'keep', 'register', 'wait', 'foreign'),
    // Few, so that they come and go again: of both pools, of none, and reserved.
    at: fc.constantFrom(41, 42, 43, 44, 45, 46, 17, 18, 5, 6, 31, 47),
    time: fc.nat({ max: 60 }),
  }),
  { maxLength: 120, size: 'max' },
);

test('property: whatever is proposed, claimed, given, given back, kept and waited for, the table agrees with a plain account', (t) => {
  fc.assert(
    fc.property(steps, (taken) => {
      let now = 0;
      let revision = 0;
      const addresses = pools(NETWORK, { pools: POOLS, quarantine: QUARANTINE, now: () => now });
      const journal = new Map<string, Account & { revision?: number }>(ALL.map((ipv4) => [ipv4, { state: NEVER.has(ipv4) ? 'reserved' : 'free' }]));
      const pending: Proposal[] = [];
      /** Proposals of addresses of which the journal has said something since. */
      const overtaken: Proposal[] = [];
      const isPending = (ipv4: string): boolean => pending.some((one) => one.ipv4 === ipv4);
      const accountOf = (ipv4: string): Account & { revision?: number } => {
        const account = journal.get(ipv4)!;
        return account.state === 'resting' && account.until <= now ? { state: 'free', ...(account.revision !== undefined && { revision: account.revision }) } : account;
      };
      const stateOf = (ipv4: string): string => (isPending(ipv4) ? 'pending' : accountOf(ipv4).state);
      /** What a proposal must find unchanged. */
      const conditionOf = (ipv4: string): object => {
        const { revision: since } = journal.get(ipv4)!;
        return since === undefined ? { key: `addresses/v4/${ipv4}`, absent: true } : { key: `addresses/v4/${ipv4}`, revision: since };
      };
      const said = (ipv4: string, account: Account, value: string | object | undefined): void => {
        revision += 1;
        journal.set(ipv4, value === undefined ? account : { ...account, revision });
        addresses.apply(ipv4, value as never, revision, () => 1);
        // Its word ends what was only proposed.
        const index = pending.findIndex((one) => one.ipv4 === ipv4);
        if (index >= 0) overtaken.push(...pending.splice(index, 1));
      };
      for (const { what, at, time } of taken) {
        const ipv4 = ALL[at]!;
        const state = stateOf(ipv4);
        if (what === 'wait') now += time;
        else if (what === 'propose') {
          const expected = IN_ORDER.find((one) => stateOf(one) === 'free');
          try {
            const proposal = addresses.propose();
            if (proposal.ipv4 !== expected) throw new Error(`proposed ${proposal.ipv4}, not ${expected}`);
            if (JSON.stringify(proposal.condition) !== JSON.stringify(conditionOf(proposal.ipv4))) throw new Error(`condition of ${expected}: ${JSON.stringify(proposal.condition)}`);
            pending.push(proposal);
          } catch (error) {
            if ((error as GhostwireError).code !== 'ERR_ADDRESSES_EXHAUSTED' || expected !== undefined) throw error;
            const resting = IN_ORDER.flatMap((one) => (stateOf(one) === 'resting' ? [(journal.get(one) as { until: number }).until] : []));
            const { details } = error as GhostwireError;
            const nextFree = resting.length === 0 ? null : new Date(Math.min(...resting)).toISOString();
            if (details['resting'] !== resting.length || details['nextFree'] !== nextFree) throw new Error(`told ${JSON.stringify(details)}`, { cause: error });
          }
        } else if (what === 'claim' || what === 'register') {
          const account = accountOf(ipv4);
          const key = what === 'register' ? `k${time % 2}` : undefined;
          const allowed = state === 'free' || state === 'resting' || (state === 'kept' && account.state === 'kept' && account.key === key);
          try {
            const proposal = addresses.claim(ipv4, key);
            if (!allowed) throw new Error(`${ipv4} is ${state} and was given`);
            if (JSON.stringify(proposal.condition) !== JSON.stringify(conditionOf(ipv4))) throw new Error(`condition of ${ipv4}: ${JSON.stringify(proposal.condition)}`);
            pending.push(proposal);
          } catch (error) {
            if (allowed || (error as GhostwireError).code !== (state === 'reserved' ? 'ERR_ADDRESS' : 'ERR_ADDRESS_TAKEN')) throw error;
          }
        } else if (what === 'commit' && pending.length > 0) said(pending[at % pending.length]!.ipv4, { state: 'held' }, 'p_1');
        else if (what === 'withdraw' && time % 2 === 0 && pending.length > 0) addresses.withdraw(pending.splice(at % pending.length, 1)[0]!);
        else if (what === 'withdraw') overtaken.splice(0).filter((proposal) => !isPending(proposal.ipv4)).forEach((proposal) => addresses.withdraw(proposal));
        else if (what === 'release' && state === 'held') said(ipv4, { state: 'resting', until: now + QUARANTINE }, { releasedAt: now });
        else if (what === 'free' && state === 'held') said(ipv4, { state: 'free' }, undefined);
        else if (what === 'keep' && state === 'free') said(ipv4, { state: 'kept', key: `k${time % 2}` }, { preauthKey: `k${time % 2}` });
        // Another coordinator's, which may even be what is proposed here.
        else if (what === 'foreign' && (state === 'free' || state === 'pending' || state === 'resting')) said(ipv4, { state: 'held' }, 'p_2');
        for (const one of ALL) {
          const { state: found } = addresses.look(one);
          if (found !== stateOf(one)) throw new Error(`after ${what} of ${ipv4} at ${now}: ${one} is ${found}, not ${stateOf(one)}`);
        }
        const forgettable = addresses.forgettable(() => true, 100).map(({ key }) => key.slice('addresses/v4/'.length)).sort();
        const rested = ALL.filter((one) => journal.get(one)?.state === 'resting' && stateOf(one) === 'free').sort();
        if (forgettable.join() !== rested.join()) throw new Error(`forgettable: ${forgettable.join()}, not ${rested.join()}`);
      }
    }),
    { numRuns: 500 },
  );
  t.pass();
});

test('finding a free address in a nearly full network does not walk it', (t) => {
  const addresses = pools('10.0.0.0/12');
  const all = 4_096 * 254;
  for (let count = 0; count < all; count += 1) addresses.propose();
  exhausted(t, () => addresses.propose());
  const freed = Array.from({ length: 200 }, (_, index) => `10.${index % 16}.${index}.77`);
  const start = performance.now();
  for (const ipv4 of freed) {
    addresses.apply(ipv4, undefined, 1, () => undefined);
    t.is(addresses.propose().ipv4, ipv4);
  }
  // Walking would cost a million steps each.
  t.true(performance.now() - start < 500);
});

test('an address that comes and goes rests from the last time on', (t) => {
  let now = 0;
  const addresses = pools('10.0.0.0/24', { quarantine: 1_000, now: () => now });
  for (let round = 1; round <= 200; round += 1) {
    now += 1;
    for (const last of [1, 2, 3]) addresses.apply(`10.0.0.${last}`, { releasedAt: now }, 3 * round + last, () => undefined);
    hold(addresses, '10.0.0.2', 3 * round + 9);
  }
  now = 1_199;
  t.deepEqual([1, 2, 3].map((last) => addresses.look(`10.0.0.${last}`).state), ['resting', 'held', 'resting']);
  now = 1_200;
  t.deepEqual([1, 2, 3].map((last) => addresses.look(`10.0.0.${last}`).state), ['free', 'held', 'free']);
});
