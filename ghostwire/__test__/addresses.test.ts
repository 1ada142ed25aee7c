// Addresses as text, and the pool that proposes them.

import test from 'ava';
import fc from 'fast-check';
import { formatIpv4, formatIpv6, formatPrefix, parseAddress, parseIpv4, parseIpv6, parsePrefix } from '../src/addresses/ip.js';
import { AddressPool } from '../src/addresses/pool.js';

const IPV6 = 'fd7a:115c:a1e0::/48';

test('IPv4 text is strict', (t) => {
  t.is(parseIpv4('100.64.0.1'), 0x6440_0001);
  t.is(parseIpv4('255.255.255.255'), 0xffff_ffff);
  for (const wrong of ['', '1.2.3', '1.2.3.4.5', '01.2.3.4', '1.2.3.256', '1.2.3.4 ', ' 1.2.3.4', '0x1.2.3.4', '1.2.3.-4', '１.2.3.4'])
    t.is(parseIpv4(wrong), undefined, wrong);
});

test('IPv6 text follows RFC 5952 when written', (t) => {
  const canonical: Record<string, string> = {
    '2001:DB8:0:0:8:800:200C:417A': '2001:db8::8:800:200c:417a',
    '::': '::',
    '::1': '::1',
    '1::': '1::',
    '2001:db8:0:1:1:1:1:1': '2001:db8:0:1:1:1:1:1',
    '2001:0:0:1:0:0:0:1': '2001:0:0:1::1',
    '2001:db8:0:0:1:0:0:1': '2001:db8::1:0:0:1',
    '::ffff:192.0.2.1': '::ffff:c000:201',
  };
  for (const [text, written] of Object.entries(canonical)) t.is(formatIpv6(parseIpv6(text) ?? -1n), written);
  for (const wrong of ['', ':', ':::', '1:2:3', 'fe80::1%eth0', '1::2::3', 'g::', '12345::']) t.is(parseIpv6(wrong), undefined, wrong);
});

test('what is written is read back', (t) => {
  fc.assert(fc.property(fc.bigInt(0n, 2n ** 128n - 1n), (value) => parseIpv6(formatIpv6(value)) === value));
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (value) => parseIpv4(formatIpv4(value)) === value));
  t.pass();
});

test('prefixes have no host bits and one form', (t) => {
  for (const text of ['10.0.0.0/8', '0.0.0.0/0', '10.1.2.3/32', 'fd7a:115c:a1e0::/48', '::/0'])
    t.is(formatPrefix(parsePrefix(text) ?? { family: 4, value: 0n, length: 99 }), text);
  for (const wrong of ['10.0.0.1/8', '10.0.0.0', '10.0.0.0/', '10.0.0.0/33', '10.0.0.0/08', '10.0.0.0/+8', '::1/64', '::/129', '/8', 'x/8'])
    t.is(parsePrefix(wrong), undefined, wrong);
});

test('a pool gives each address once, never a reserved one, and then says that it is exhausted', (t) => {
  const pool = new AddressPool('100.100.100.0/22', IPV6); // holds 100.100.100.0/24
  const seen = new Set<string>();
  const error = t.throws(
    () => {
      for (;;) {
        const { ipv4, ipv6 } = pool.propose();
        t.false(seen.has(ipv4), ipv4);
        t.notRegex(ipv4, /^100\.100\.100\.|\.0$|\.255$/);
        t.is(parseAddress(ipv6)!.value, parseAddress('fd7a:115c:a1e0::')!.value | parseAddress(ipv4)!.value);
        seen.add(ipv4);
      }
    },
    { code: 'ERR_ADDRESSES_EXHAUSTED' },
  );
  t.regex(error.message, /100\.100\.100\.0\/22/);
  t.is(seen.size, 3 * 254);
});

test('the reserved ranges of the default pool stay free', (t) => {
  const pool = new AddressPool('100.64.0.0/10', IPV6);
  pool.take('100.115.91.254', 1);
  t.is(pool.propose().ipv4, '100.115.94.1', 'ChromeOS has 100.115.92.0/23');
  pool.take('100.99.255.254', 2);
  t.is(pool.propose().ipv4, '100.100.1.1');
  pool.take('100.100.99.254', 3);
  t.is(pool.propose().ipv4, '100.100.101.1', '100.100.100.100 is MagicDNS');
});

test('small pools', (t) => {
  for (const [prefix, count] of [
    ['10.0.0.8/29', 6],
    ['10.0.0.128/25', 126],
    ['10.0.0.0/28', 14],
    ['10.0.0.0/26', 62],
  ] as const) {
    const pool = new AddressPool(prefix, IPV6);
    const seen = new Set(Array.from({ length: count }, () => pool.propose().ipv4));
    t.is(seen.size, count, prefix);
    t.throws(() => pool.propose(), { code: 'ERR_ADDRESSES_EXHAUSTED' }, prefix);
  }
});

test('released addresses come again, but only after the rest of the pool', (t) => {
  const pool = new AddressPool('10.0.0.0/24', IPV6);
  const first = pool.propose().ipv4;
  pool.release(first);
  const seen = Array.from({ length: 253 }, () => pool.propose().ipv4);
  t.false(seen.includes(first));
  t.is(pool.propose().ipv4, first);
  t.throws(() => pool.propose());
  pool.release('10.0.0.0');
  pool.release('192.0.2.1');
  t.throws(() => pool.propose(), { code: 'ERR_ADDRESSES_EXHAUSTED' }, 'reserved addresses cannot be released');
});

test('after a restart the pool goes on behind the newest address', (t) => {
  const pool = new AddressPool('10.0.0.0/16', IPV6);
  pool.take('10.0.0.7', 30);
  pool.take('10.0.9.9', 20);
  pool.take('10.0.0.8', 10);
  t.is(pool.propose().ipv4, '10.0.0.9');
  pool.take('203.0.113.5', 40); // of a pool that was configured earlier
  t.is(pool.propose().ipv4, '10.0.0.10');
});

test('finding a free address in a nearly full pool does not walk it', (t) => {
  const pool = new AddressPool('10.0.0.0/12', IPV6);
  for (let network = 0; network < 4_096; network += 1) {
    for (let host = 1; host < 255; host += 1) pool.take(`10.${network >> 8}.${network & 255}.${host}`, 1);
  }
  const proposals = Array.from({ length: 200 }, (_, index) => `10.${index % 16}.${index}.77`);
  const start = performance.now();
  for (const address of proposals) {
    pool.release(address);
    t.is(pool.propose().ipv4, address);
  }
  // Walking would cost a million steps each.
  t.true(performance.now() - start < 500);
});

test('pools that cannot serve are refused', (t) => {
  for (const wrong of ['10.0.0.0/30', '0.0.0.0/7', '10.0.0.1/24', 'fd00::/48', 'x'])
    t.throws(() => new AddressPool(wrong, IPV6), { code: 'ERR_CONFIG' }, wrong);
  for (const wrong of ['fd00::/97', '10.0.0.0/8']) t.throws(() => new AddressPool('10.0.0.0/8', wrong), { code: 'ERR_CONFIG' }, wrong);
});
