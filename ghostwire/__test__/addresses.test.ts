// Addresses and prefixes as text.

import test from 'ava';
import fc from 'fast-check';
import { formatIpv4, formatIpv6, formatPrefix, isMapped, parseIpv4, parseIpv6, parsePrefix } from '../src/addresses/ip.js';

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

test('what is IPv4 in the clothes of IPv6', (t) => {
  for (const text of ['::ffff:0:0/96', '::ffff:c000:200/120', '::ffff:c000:201/128']) t.true(isMapped(text), text);
  for (const text of ['::/0', '::ffff:0:0/95', '::ffff:0:0:0/96', '::fffe:0:0/96', '192.0.2.0/24', 'fd00::/96', '::ffff:0']) t.false(isMapped(text), text);
});
