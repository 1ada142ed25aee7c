// Addresses and prefixes as text.

import test from 'ava';
import fc from 'fast-check';
import { formatIpv4, formatIpv6, formatPrefix, mappedProblem, parseAddress, parseIpv4, parseIpv6, parsePrefix, unmapped } from '../src/addresses/ip.js';

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

test('IPv4-mapped IPv6 is no address and no prefix, and has a form of IPv4', (t) => {
  const mapped: Record<string, string> = {
    '::ffff:0:0/96': '0.0.0.0/0',
    '::ffff:c000:200/120': '192.0.2.0/24',
    '::FFFF:192.0.2.0/120': '192.0.2.0/24',
    '0:0:0:0:0:ffff:c000:201/128': '192.0.2.1/32',
    '::ffff:192.0.2.1': '192.0.2.1',
    '::ffff:192.0.2.1-::ffff:192.0.2.9': '192.0.2.1-192.0.2.9',
    // Without the host bits, which would be refused next.
    '::ffff:192.0.2.1/120': '192.0.2.0/24',
  };
  for (const [text, ipv4] of Object.entries(mapped)) {
    t.is(unmapped(text), ipv4);
    t.is(mappedProblem(text), `IPv4-mapped IPv6; write ${ipv4}`);
    t.is(parsePrefix(text), undefined, text);
    t.is(parseAddress(text), undefined, text);
  }
  for (const text of ['::/0', '::fffe:0:0/95', '::ffff:0:0:0/96', '::fffe:0:0/96', 'fd00::/96']) {
    t.not(parsePrefix(text), undefined, text);
    t.is(unmapped(text), undefined, text);
  }
  for (const text of ['', '-', '/96', '192.0.2.0/24', '::ffff:0', '::ffff:0:0/95', '::ffff:0:0/129', '::ffff:0:0/x', '::ffff:0:0%eth0', 'web-server']) t.is(unmapped(text), undefined, text);
});

test('property: an IPv4-mapped prefix is the prefix that it maps', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.nat({ max: 32 }), (address, length) => {
      const value = (BigInt(address) >> BigInt(32 - length)) << BigInt(32 - length);
      return unmapped(`${formatIpv6((0xffffn << 32n) | value)}/${length + 96}`) === formatPrefix({ family: 4, value, length });
    }),
  );
  t.pass();
});
